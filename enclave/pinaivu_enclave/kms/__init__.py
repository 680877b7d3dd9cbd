"""KMS as the enclave uses it: the vault secret, through a host that carries and signs and must learn nothing."""
