"""Everything outside our code that a laptop lacks: NSM, vsock, KMS. Never in the image."""
