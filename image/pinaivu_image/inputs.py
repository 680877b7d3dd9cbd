"""What an image was built from: a file in `usr/share/pinaivu/` of each of our ramdisks, `…-inputs.json`.

Its name is another one in each, since both are unpacked into one tree.

It lies in a measured section, so it is as trustworthy as the image itself: it says what the builder was given, and
a rebuild from those inputs shows that it did not lie.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from pinaivu_image.lock import Sha256
from pinaivu_shared.eif.cpio import CpioEntry

BOOT_INPUTS: Final = "usr/share/pinaivu/boot-inputs.json"
APPLICATION_INPUTS: Final = "usr/share/pinaivu/application-inputs.json"
MAX_INPUTS_BYTES: Final = 1 << 24

InputKind = Literal["deb", "wheel", "kernel-config", "kernel-source", "toolchain", "source"]
WITHOUT_FILES: Final[frozenset[InputKind]] = frozenset({"kernel-config", "kernel-source", "toolchain"})
"""Nothing of these is a file of a ramdisk; a package's name can be that of a tool and of an input that has files."""


class BuildInput(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One locked input; kind and name identify it, version and hash say which one it was."""

    kind: InputKind
    name: str
    version: str
    sha256: Sha256


class BuildInputs(msgspec.Struct, frozen=True, kw_only=True):
    """All inputs of a ramdisk, and for each of its files the name of the input it came from."""

    inputs: tuple[BuildInput, ...]
    files: dict[str, str]


_DECODER: Final = msgspec.json.Decoder(BuildInputs)


def encode_inputs(inputs: BuildInputs) -> bytes:
    """The file's bytes: sorted, one spelling for one content, a newline at the end."""
    ordered = BuildInputs(inputs=tuple(sorted(inputs.inputs)), files=dict(sorted(inputs.files.items())))
    return msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n"


def find_inputs(entries: Iterable[CpioEntry]) -> tuple[BuildInputs | None, str | None]:
    """The inputs that a ramdisk states, and a note where its file is there but makes no sense.

    Images of other tools have none, and what stands at that path in them is not ours to refuse.
    """
    stated = [entry for entry in entries if entry.path in {BOOT_INPUTS, APPLICATION_INPUTS}]
    match stated:
        case []:
            return None, None
        case [CpioEntry(path=path, data=content)]:
            return _decode(path, content)
        case _:
            return None, f"{BOOT_INPUTS} and {APPLICATION_INPUTS} are both there, and were not read"


def _decode(path: str, content: bytes) -> tuple[BuildInputs | None, str | None]:
    if len(content) > MAX_INPUTS_BYTES:
        return None, f"{path} has {len(content)} bytes and was not read"
    try:
        return _DECODER.decode(content), None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return None, f"{path} was not understood: {error}"
