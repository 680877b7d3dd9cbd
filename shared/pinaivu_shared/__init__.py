"""What every part agrees on: wire structs, canonical bytes, receipts, verification. No I/O."""
