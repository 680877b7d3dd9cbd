"""Identifiers: how they look, and how they are made from values the caller supplies (DESIGN section 5)."""

import hashlib
from typing import Annotated, Final

import msgspec

RequestId = Annotated[str, msgspec.Meta(pattern=r"\Areq_[0-7][0-9a-hjkmnp-tv-z]{25}\Z")]
NodeId = Annotated[str, msgspec.Meta(pattern=r"\Anode_[0-9a-f]{32}\Z")]
AccountId = Annotated[str, msgspec.Meta(pattern=r"\Aacct_[0-9a-f]{32}\Z")]
SessionId = Annotated[str, msgspec.Meta(pattern=r"\Ases_[0-9a-f]{32}\Z")]

API_KEY_PREFIX: Final = "sk-pnv-"
_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES: Final = {character: value for value, character in enumerate(_CROCKFORD)}


def make_request_id(time_ms: int, entropy: bytes) -> str:
    """`req_` + ULID in lowercase Crockford base32: 48 bits of time in milliseconds, then 10 bytes of entropy."""
    if len(entropy) != 10:
        raise ValueError("a request id takes 10 bytes of entropy")
    number = (time_ms << 80) | int.from_bytes(entropy)
    return "req_" + "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def request_time_ms(request_id: str) -> int:
    """The time inside a well-formed request id, in milliseconds since 1970."""
    number = 0
    for character in request_id[4:14]:
        number = number << 5 | _VALUES[character]
    return number


def node_id_of(public_key: bytes) -> str:
    """`node_` + the first 32 hex digits of SHA-256 of the node's raw 32-byte Ed25519 public key.

    128 bits name a node; what protects money compares the whole key.
    """
    return "node_" + hashlib.sha256(public_key).hexdigest()[:32]


def operator_of(name: str, public_key: bytes) -> str:
    """`NAME@` + the first 32 hex digits of SHA-256 of the operator's raw Ed25519 key: a name nobody else can take."""
    return f"{name}@{hashlib.sha256(public_key).hexdigest()[:32]}"


def digest_of(content: bytes) -> str:
    """`sha256:` + lowercase hex."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
