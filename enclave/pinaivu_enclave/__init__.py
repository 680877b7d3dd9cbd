"""The coordinator that runs inside the enclave."""
