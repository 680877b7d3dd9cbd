"""What all messages of the enclave link have in common (wire.link)."""

import msgspec


class LinkMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all commands and results."""
