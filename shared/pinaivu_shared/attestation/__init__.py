"""Attestation documents of AWS Nitro Enclaves: read, verified, compared with what they vouch for."""
