"""Small images, keys and certificates for the tests of this folder; none of them boots."""

import datetime as dt
import gzip
import struct
import zlib
from stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pinaivu_image.inputs import APPLICATION_INPUTS, BuildInput, BuildInputs, encode_inputs
from pinaivu_shared.eif.cpio import CpioEntry, with_parents, write_cpio
from pinaivu_shared.eif.format import write_eif
from pinaivu_shared.eif.metadata import BuildMetadata, Metadata, encode_metadata

KERNEL, CMDLINE = b"\x7fkernel" * 9, b"console=ttyS0 reboot=k"
NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
METADATA = Metadata(
    image_name="pinaivu",
    image_version="1.2",
    build_metadata=BuildMetadata(
        build_time="1970-01-01T00:00:00Z",
        build_tool="pinaivu image build",
        build_tool_version="0.1.0",
        operating_system="Debian 12",
        kernel_version="6.12.107",
    ),
    docker_info=None,
    custom_metadata={"Commit": "0" * 40},
)


def file(path: str, data: bytes = b"", mode: int = 0o644) -> CpioEntry:
    return CpioEntry(path=path, mode=S_IFREG | mode, data=data)


def directory(path: str) -> CpioEntry:
    return CpioEntry(path=path, mode=S_IFDIR | 0o755)


def link(path: str, target: str) -> CpioEntry:
    return CpioEntry(path=path, mode=S_IFLNK | 0o777, data=target.encode())


def device(path: str, major: int, minor: int) -> CpioEntry:
    return CpioEntry(path=path, mode=S_IFCHR | 0o600, rdev=(major, minor))


def inputs_file(version: str, files: dict[str, str] | None = None) -> CpioEntry:
    """What a build with this version of one wheel would state."""
    wheel = BuildInput(kind="wheel", name="msgspec", version=version, sha256=f"{zlib.crc32(version.encode()):064x}")
    kernel = BuildInput(kind="kernel-source", name="linux", version="6.12", sha256="2" * 64)
    return file(APPLICATION_INPUTS, encode_inputs(BuildInputs(inputs=(wheel, kernel), files=files or {})))


BOOT = write_cpio(with_parents([file("init", b"#!/sbin/python\n", 0o755), device("dev/console", 5, 1)]))
APPLICATION = write_cpio(with_parents([file("app/main.py", b"print()\n"), link("app/latest", "main.py")]))


def image(
    *, kernel: bytes = KERNEL, ramdisks: tuple[bytes, ...] = (BOOT, APPLICATION), signature: bytes | None = None
) -> bytes:
    metadata = encode_metadata(METADATA)
    return write_eif(kernel=kernel, cmdline=CMDLINE, metadata=metadata, ramdisks=ramdisks, signature=signature)


def with_crc(raw: bytes) -> bytes:
    """The same bytes with a CRC that fits, as whoever changes an image would make it."""
    return raw[:544] + struct.pack(">I", zlib.crc32(raw[548:], zlib.crc32(raw[:544]))) + raw[548:]


def zipped(raw: bytes) -> bytes:
    return gzip.compress(raw, mtime=0)


def certificate_of(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, days: int = 365, now: dt.datetime = NOW
) -> bytes:
    """A self-signed certificate in PEM, valid from the day before `now`."""
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Pinaivu"), x509.NameAttribute(NameOID.COUNTRY_NAME, "IN")]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .sign(key, hashes.SHA384())
    )
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


NUMBERS = (
    *("ino", "mode", "uid", "gid", "nlink", "mtime", "filesize"),
    *("devmajor", "devminor", "rdevmajor", "rdevminor", "namesize", "check"),
)


def raw_entry(name: bytes = b"a\0", data: bytes = b"", *, magic: bytes = b"070701", **numbers: int) -> bytes:
    """One entry written by hand; every number of the header can be another one."""
    values = {"mode": S_IFREG | 0o644, "nlink": 1, "filesize": len(data), "namesize": len(name), **numbers}
    head = magic + b"".join(b"%08x" % values.get(number, 0) for number in NUMBERS) + name
    return padded(padded(head) + data)


def padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)


TRAILER = raw_entry(b"TRAILER!!!\0", mode=0)
