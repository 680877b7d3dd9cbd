"""Signed images: PCR8 names the certificate, the signature covers PCR0, and openssl agrees with both."""

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from tests.image.images import NOW, certificate_of, image, key_pem, with_crc
from tests.image.qemu_reader import read_as_qemu

from pinaivu_image.signing import sign_image
from pinaivu_shared.eif.errors import EifError
from pinaivu_shared.eif.format import Eif, Section, SectionType, encode_eif, parse_eif
from pinaivu_shared.eif.measurements import measure
from pinaivu_shared.eif.signature import make_signature, parse_signature, verify_signature
from pinaivu_shared.errors import CallerError, VerificationError

CURVES: list[tuple[ec.EllipticCurve, str, int]] = [
    (ec.SECP256R1(), "sha256", 64),
    (ec.SECP384R1(), "sha384", 96),
    (ec.SECP521R1(), "sha512", 132),
]
KEY = ec.derive_private_key(12345, ec.SECP384R1())
CERTIFICATE = certificate_of(KEY)
UNSIGNED = parse_eif(image())
PCR0 = measure(UNSIGNED).pcr0
SECTION = make_signature(PCR0, key=KEY, certificate_pem=CERTIFICATE)


def signed(eif: Eif = UNSIGNED, key: ec.EllipticCurvePrivateKey = KEY, certificate: bytes = CERTIFICATE) -> Eif:
    return sign_image(eif, key_pem=key_pem(key), certificate_pem=certificate, now=NOW)


def signature_of(eif: Eif) -> bytes:
    section = eif.only(SectionType.SIGNATURE)
    assert section is not None
    return section


def section(entry: object) -> bytes:
    return cbor2.dumps([entry])


def entry(**changes: object) -> dict[str, Any]:
    (good,) = cbor2.loads(SECTION)
    return {**good, **changes}


def cose(*elements: object) -> list[int]:
    """The good COSE_Sign1 with its first elements replaced."""
    good = cbor2.loads(bytes(entry()["signature"]))
    return list(cbor2.dumps([*elements, *good[len(elements) :]]))


@pytest.mark.parametrize(("curve", "digest", "size"), CURVES, ids=[case[1] for case in CURVES])
def test_an_image_is_signed_with_each_curve_and_openssl_verifies_it(
    curve: ec.EllipticCurve, digest: str, size: int, tmp_path: Path
) -> None:
    key = ec.generate_private_key(curve)
    certificate = certificate_of(key)
    eif = signed(key=key, certificate=certificate)
    signature = parse_signature(signature_of(eif))
    verify_signature(signature, PCR0)
    assert len(signature.signature) == size
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to check against")
    r, s = (
        int.from_bytes(half, "big") for half in (signature.signature[: size // 2], signature.signature[size // 2 :])
    )
    (tmp_path / "der").write_bytes(encode_dss_signature(r, s))
    (tmp_path / "signed").write_bytes(cbor2.dumps(["Signature1", signature.protected, b"", signature.payload]))
    (tmp_path / "certificate").write_bytes(certificate)
    public = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "certificate", "-pubkey", "-noout"], check=True, capture_output=True
    )
    (tmp_path / "public").write_bytes(public.stdout)
    command = f"openssl dgst -{digest} -verify public -signature der signed"
    assert b"Verified OK" in subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path).stdout


def test_pcr8_is_the_certificates_der_and_no_other_register_changes() -> None:
    eif = signed()
    der = signature_der()
    assert measure(eif).pcr8 == hashlib.sha384(bytes(48) + hashlib.sha384(der).digest()).digest()
    assert {**measure(eif).as_hex(), "PCR8": ""} == {**measure(UNSIGNED).as_hex(), "PCR8": ""}
    assert set(measure(eif).as_hex()) == {"PCR0", "PCR1", "PCR2", "PCR8"}


def signature_der() -> bytes:
    return base64.b64decode(CERTIFICATE.decode().split("-----")[2])


def test_the_section_is_what_qemu_insists_on() -> None:
    """Arrays of small integers; the certificate is the first key of the map."""
    (found,) = cbor2.loads(SECTION)
    assert list(found) == ["signing_certificate", "signature"]
    assert bytes(found["signing_certificate"]) == CERTIFICATE
    protected, unprotected, payload, _ = cbor2.loads(bytes(found["signature"]))
    assert (cbor2.loads(protected), unprotected) == ({1: -35}, {})
    assert cbor2.loads(payload) == {"register_index": 0, "register_value": list(PCR0)}
    assert read_as_qemu(encode_eif(signed())).pcrs[0] == PCR0.hex()


def test_signing_twice_gives_the_same_bytes_and_one_signature() -> None:
    once = signed()
    assert signed(once) == once == signed()
    assert encode_eif(once) == encode_eif(signed())
    assert once.sections[-1].type is SectionType.SIGNATURE
    other = ec.generate_private_key(ec.SECP521R1())
    again = parse_eif(encode_eif(signed(once, other, certificate_of(other))))
    verify_signature(parse_signature(signature_of(again)), PCR0)


def test_the_signature_of_another_image_does_not_hold() -> None:
    other = parse_eif(image(kernel=b"another kernel"))
    with pytest.raises(VerificationError, match="another image was signed") as refused:
        verify_signature(parse_signature(SECTION), measure(other).pcr0)
    assert refused.value.check == "image signature"


WRONG: list[tuple[str, bytes, str]] = [
    (
        "another key's",
        section(entry(signing_certificate=list(certificate_of(ec.derive_private_key(9, ec.SECP384R1()))))),
        "not made by",
    ),
    ("another algorithm", section(entry(signature=cose(bytes.fromhex("a10126")))), "header a10126"),
    (
        "another register",
        section(
            entry(
                signature=cose(
                    b"\xa1\x01\x38\x22", {}, cbor2.dumps({"register_index": 1, "register_value": list(PCR0)})
                )
            )
        ),
        "another image",
    ),
    (
        "a short signature",
        section(entry(signature=cose(b"\xa1\x01\x38\x22", {}, cbor2.loads(bytes(entry()["signature"]))[2], bytes(95)))),
        "95 bytes",
    ),
    (
        "a zero signature",
        section(entry(signature=cose(b"\xa1\x01\x38\x22", {}, cbor2.loads(bytes(entry()["signature"]))[2], bytes(96)))),
        "not made by",
    ),
]


@pytest.mark.parametrize(("raw", "detail"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_signature_does_not_hold(raw: bytes, detail: str) -> None:
    with pytest.raises(VerificationError, match=detail):
        verify_signature(parse_signature(raw), PCR0)


def test_a_certificate_of_another_kind_of_key_signs_nothing_but_has_its_pcr8() -> None:
    raw = section(entry(signing_certificate=list(certificate_of(rsa.generate_private_key(65537, 2048)))))
    with pytest.raises(VerificationError, match="not on P-256, P-384 or P-521"):
        verify_signature(parse_signature(raw), PCR0)
    assert measure(parse_eif(image(signature=raw))).pcr8 not in {None, measure(signed()).pcr8}


MALFORMED: list[tuple[str, bytes, str]] = [
    ("empty", b"", "ends too early"),
    ("no CBOR", b"\xff\xff", "reserved length"),
    ("no array", cbor2.dumps({}), "not an array"),
    ("no entry", cbor2.dumps([]), "not an array"),
    ("two entries", cbor2.dumps([entry(), entry()]), "not an array"),
    ("bytes after the end", SECTION + b"\0", "after the end"),
    ("the signature first", section(dict(reversed(entry().items()))), "in this order"),
    ("a third key", section(entry(more=1)), "in this order"),
    ("byte strings", section(entry(signing_certificate=CERTIFICATE)), "array of small integers"),
    ("an integer of 256", section(entry(signing_certificate=[256])), "array of small integers"),
    ("a boolean", section(entry(signing_certificate=[True])), "major type 7"),
    ("no certificate", section(entry(signing_certificate=[])), "not one block of PEM"),
    ("two certificates", section(entry(signing_certificate=list(CERTIFICATE * 2))), "not one block of PEM"),
    ("a broken certificate", section(entry(signing_certificate=list(CERTIFICATE[:40] + CERTIFICATE[44:]))), "be read"),
    ("a tagged COSE_Sign1", section(entry(signature=list(cbor2.dumps(cbor2.CBORTag(18, []))))), "major type 6"),
    ("three elements", section(entry(signature=list(cbor2.dumps([b"", {}, b""])))), "four elements"),
    ("an unprotected header", section(entry(signature=cose(b"\xa1\x01\x38\x22", {1: 2}))), "empty map"),
    ("no payload", section(entry(signature=cose(b"\xa1\x01\x38\x22", {}, None))), "not a byte string"),
    ("64 KiB and more", section(entry(signing_certificate=[0] * 65536)), "at most 65536"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "detail"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_a_malformed_section_is_unreadable(raw: bytes, detail: str) -> None:
    with pytest.raises(EifError, match=detail) as refused:
        measure(parse_eif(image(signature=raw)))
    assert refused.value.part == "signature section"


@given(st.integers(0, len(SECTION) - 1), st.integers(1, 255))
def test_any_changed_byte_is_unreadable_or_does_not_hold_or_is_seen_in_pcr8(place: int, change: int) -> None:
    raw = bytearray(SECTION)
    raw[place] ^= change
    try:
        signature = parse_signature(bytes(raw))
        verify_signature(signature, PCR0)
    except (EifError, VerificationError):
        return
    eif = Eif(**{**fields(UNSIGNED), "sections": (*UNSIGNED.sections, Section(SectionType.SIGNATURE, bytes(raw)))})
    same_certificate = signature.certificate_der == signature_der()
    assert (measure(eif).pcr8 == measure(signed()).pcr8) == same_certificate


def fields(eif: Eif) -> dict[str, Any]:
    return {name: getattr(eif, name) for name in eif.__dataclass_fields__}


UNUSABLE: list[tuple[str, dict[str, Any], str]] = [
    ("a key of another curve", {"key_pem": key_pem(ec.derive_private_key(5, ec.SECP256K1()))}, "secp256k1"),
    ("a key of another certificate", {"key_pem": key_pem(ec.derive_private_key(5, ec.SECP384R1()))}, "another key"),
    ("no key", {"key_pem": CERTIFICATE}, "not a PEM file with a private key"),
    ("a certificate with its key", {"certificate_pem": CERTIFICATE + key_pem(KEY)}, "one block of PEM"),
    ("no certificate", {"certificate_pem": b"hello"}, "one block of PEM"),
    ("an expired certificate", {"certificate_pem": certificate_of(KEY, days=0), "now": NOW.replace(year=2027)}, "E36"),
    ("a certificate of the future", {"now": NOW.replace(year=2025)}, "E36"),
]


@pytest.mark.parametrize(("changes", "detail"), [case[1:] for case in UNUSABLE], ids=[case[0] for case in UNUSABLE])
def test_what_cannot_sign_is_the_callers_mistake(changes: dict[str, Any], detail: str) -> None:
    arguments = {"key_pem": key_pem(KEY), "certificate_pem": CERTIFICATE, "now": NOW, **changes}
    with pytest.raises(CallerError, match=detail):
        sign_image(UNSIGNED, **arguments)


def test_an_encrypted_or_rsa_key_is_refused_and_its_text_is_not_repeated() -> None:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - for this test only
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    encrypted = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem, detail in ((encrypted, "is encrypted"), (other, "not an elliptic-curve key")):
        with pytest.raises(CallerError, match=detail) as refused:
            sign_image(UNSIGNED, key_pem=pem, certificate_pem=CERTIFICATE, now=NOW)
        assert pem.decode().splitlines()[1] not in str(refused.value)


def test_an_image_of_an_older_version_or_without_room_is_not_signed() -> None:
    full = parse_eif(image(ramdisks=(b"r",) * 29))
    older = parse_eif(with_crc(image().replace(b".eif\0\4", b".eif\0\3", 1)))
    for eif, detail in ((full, "no signature fits"), (older, "version 3")):
        with pytest.raises(CallerError, match=detail):
            signed(eif)
