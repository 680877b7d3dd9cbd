"""Several processes at the edge of one host: workers speak HTTP, the host itself runs the jobs (docs/adr/0016)."""
