"""A KMS on one machine: real TLS, real signatures, a real check of attestation; AWS's key store is moto's."""
