"""What runs on the parent instance: HTTP, node connections, storage. Trusted for availability only."""
