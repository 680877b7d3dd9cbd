"""The transparency log as everybody sees it: hashes, proofs, signed checkpoints. Pure computation.

merkle      leaf and node hashes, checking of proofs       RFC 9162 2.1
tree        growing a tree, building proofs from it        RFC 9162 2.1
grammar     characters, decimals, base64: one spelling each
keys        names, ids and verifier keys of signers        C2SP signed-note
note        text signed by several keys                    C2SP signed-note, tlog-cosignature
checkpoint  a tree head, its log signature, its quorum     C2SP tlog-checkpoint, tlog-cosignature
proof       one leaf's offline companion                   C2SP tlog-proof

Whatever text or bytes come in, the readers give a value or one `VerificationError`, never another exception.
Its `check` is a stable name; the `CHECK` constants and docstrings of the modules say which.
"""
