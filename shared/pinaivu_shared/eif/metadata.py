"""The metadata section: JSON that says where an image comes from.

It is not measured, so whoever holds the file can write into it what they like: it is for people, never for a
decision. All keys are required: without one, `nitro-cli describe-eif` fails with E35.
Source: aws-nitro-enclaves-image-format, src/defs/mod.rs (EifIdentityInfo).
"""

from typing import Any, Final

import msgspec

from pinaivu_shared.eif.errors import EifError

MAX_METADATA_BYTES: Final = 1 << 20


class BuildMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What built the image. `build_time` is RFC 3339; ours is a fixed one, so that builds can be compared."""

    build_time: str
    build_tool: str
    build_tool_version: str
    operating_system: str
    kernel_version: str


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The section's content. `custom_metadata` is an object or null, because describe-eif merges it with others."""

    image_name: str
    image_version: str
    build_metadata: BuildMetadata
    docker_info: Any
    custom_metadata: dict[str, Any] | None


_DECODER: Final = msgspec.json.Decoder(Metadata)


def encode_metadata(metadata: Metadata) -> bytes:
    """The section's bytes: compact JSON, keys in AWS's order."""
    return msgspec.json.encode(metadata)


def parse_metadata(section: bytes) -> Metadata:
    """Read a metadata section, other keys ignored. Raises EifError("metadata section")."""
    if len(section) > MAX_METADATA_BYTES:
        raise EifError("metadata section", f"has {len(section)} bytes, at most {MAX_METADATA_BYTES} are read")
    try:
        return _DECODER.decode(section)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EifError("metadata section", str(error)) from error
