"""Enclave images (EIF): their bytes, what is measured of them, and who signed them. No I/O."""
