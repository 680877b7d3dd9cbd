"""The pure coordinator: no I/O, no clock, no randomness."""
