"""A host that lies: a man in the middle of the enclave link, who rewrites what the real host says."""
