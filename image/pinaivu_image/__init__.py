"""Builds and reads enclave images (EIF)."""
