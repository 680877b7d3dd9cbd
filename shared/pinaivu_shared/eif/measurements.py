"""What the platform measures of an image: PCR0, 1, 2 and, of a signed one, PCR8.

Each is a register that starts at zero and is extended once with a SHA-384 over section contents, joined without
headers, lengths or separators. So the file's header, its metadata, its signature and the boundaries between
sections are not measured: bytes moved from the head of the command line to the tail of the kernel change nothing,
and bytes moved between the ramdisks change PCR1 and PCR2 only. A policy therefore pins PCR0, 1 and 2 together.

Sources: aws-nitro-enclaves-image-format, src/utils/mod.rs and src/defs/eif_hasher.rs; QEMU hw/i386/nitro_enclave.c.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from pinaivu_shared.attestation.policy import ZERO_PCR, extended
from pinaivu_shared.eif.format import Eif, SectionType
from pinaivu_shared.eif.signature import ImageSignature, parse_signature


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurements:
    """Registers as the platform will report them, 48 bytes each; `pcr8` is None for an unsigned image."""

    pcr0: bytes
    """The image: kernel, command line, all ramdisks."""
    pcr1: bytes
    """Its boot part: kernel, command line, first ramdisk."""
    pcr2: bytes
    """The application: all ramdisks but the first."""
    pcr8: bytes | None
    """The signing certificate; the platform reports zeros where there is none."""

    def as_hex(self) -> dict[str, str]:
        """Lowercase hex by name, `PCR0` first; no `PCR8` for an unsigned image."""
        named = {"PCR0": self.pcr0, "PCR1": self.pcr1, "PCR2": self.pcr2, "PCR8": self.pcr8}
        return {name: value.hex() for name, value in named.items() if value is not None}


def measure(eif: Eif) -> Measurements:
    """The registers of an image. Raises EifError where its signature section cannot be read."""
    boot = (eif.kernel, eif.cmdline, eif.ramdisks[0])
    application = eif.ramdisks[1:]
    section = eif.only(SectionType.SIGNATURE)
    return Measurements(
        pcr0=_register((*boot, *application)),
        pcr1=_register(boot),
        pcr2=_register(application),
        pcr8=None if section is None else certificate_pcr(parse_signature(section)),
    )


def certificate_pcr(signature: ImageSignature) -> bytes:
    """PCR8 of an image with this signature: the certificate's DER."""
    return _register((signature.certificate_der,))


def _register(contents: Iterable[bytes]) -> bytes:
    digest = hashlib.sha384()
    for content in contents:
        digest.update(content)
    return extended(ZERO_PCR, digest.digest())
