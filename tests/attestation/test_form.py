"""Form: every other spelling of a document is refused, correctly signed or not. Numbers are those of nitro.md B.6."""

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attestation.forge import DOCUMENT, GOOD, NOW_MS, encoded_map, encoded_pairs, judge

from pinaivu_shared.attestation.document import AttestationDocument, parse_unverified
from pinaivu_shared.errors import VerificationError
from pinaivu_simulator.cose import encode_payload
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS

PAYLOAD = encode_payload(GOOD.fields())
PAIRS = encoded_pairs(GOOD.fields())
PROTECTED = "a1013822"
PCRS: dict[Any, Any] = dict(SIMULATED_MEASUREMENTS)
FIELDS = list(GOOD.fields())
MANDATORY = FIELDS[:6]
OPTIONAL = FIELDS[6:]


def with_protected(encoded: str) -> bytes:
    return cbor2.dumps(GOOD.cose(PAYLOAD, protected=bytes.fromhex(encoded)))


def with_element(position: int, value: object) -> bytes:
    return cbor2.dumps([*GOOD.cose(PAYLOAD)[:position], value, *GOOD.cose(PAYLOAD)[position + 1 :]])


def with_unprotected(protected: str, unprotected: dict[int, object]) -> bytes:
    cose = GOOD.cose(PAYLOAD, protected=bytes.fromhex(protected))
    return cbor2.dumps([cose[0], unprotected, *cose[2:]])


def with_raw_field(name: str, encoded: bytes) -> bytes:
    return GOOD.signed(encoded_map([(key, encoded if key == cbor2.dumps(name) else value) for key, value in PAIRS]))


def with_pairs(*more: tuple[bytes, bytes], head: bytes = b"\xbf", end: bytes = b"\xff") -> bytes:
    return GOOD.signed(encoded_map([*PAIRS, *more], head=head, end=end))


NONCE_PAIR, DIGEST_PAIR = PAIRS[-1], PAIRS[1]
OTHER_NONCE = (NONCE_PAIR[0], cbor2.dumps(b"other"))
INDEFINITE_PCRS = b"\xbf" + cbor2.dumps(PCRS)[1:] + b"\xff"
DOUBLED_PCRS = b"\xa4" + cbor2.dumps(PCRS)[1:] + b"\x00" + cbor2.dumps(PCRS[0])
INDEFINITE_CABUNDLE = b"\x9f" + cbor2.dumps(GOOD.fields()["cabundle"])[1:] + b"\xff"
QEMU = GOOD.fields(certificate=bytes(64), cabundle=[bytes(64)])

BROKEN = {
    "1 trailing byte after the array": DOCUMENT + b"\0",
    "2 truncated by one": DOCUMENT[:-1],
    "2 truncated in the payload": DOCUMENT[:2000],
    "3 empty": b"",
    "3 of 17 KB": GOOD.document(public_key=bytes(17_000)),
    "3 of 16385 bytes": DOCUMENT + bytes(16_385 - len(DOCUMENT)),
    "3 of 16000 nested arrays": b"\x81" * 16_000,
    "4 tag 18 around it": b"\xd2" + DOCUMENT,
    "4 tag 61 around it": b"\xd8\x3d" + DOCUMENT,
    "5 three elements": cbor2.dumps(GOOD.cose(PAYLOAD)[:3]),
    "5 five elements": cbor2.dumps([*GOOD.cose(PAYLOAD), b""]),
    "5 a map": cbor2.dumps(dict(enumerate(GOOD.cose(PAYLOAD)))),
    "6 alg ES256": with_protected("a10126"),
    "6 alg PS384": with_protected("a1013825"),
    "6 alg as text": with_protected("a101654553333834"),
    "6 alg missing, empty map": with_protected("a0"),
    "6 alg missing, empty bytes": with_protected(""),
    "6 alg in the unprotected map": with_unprotected("a0", {1: -35}),
    "7 second protected header": with_protected("a2013822044178"),
    "8 protected not minimal": with_protected("a101390022"),
    "8 protected an unwrapped map": with_element(0, {1: -35}),
    "9 unprotected map not empty": with_unprotected(PROTECTED, {4: b"kid"}),
    "9 unprotected an array": with_element(1, []),
    "10 detached payload": with_element(2, None),
    "10 payload an unwrapped map": with_element(2, {}),
    "11 signature of 95 bytes": with_element(3, bytes(95)),
    "11 signature of 97 bytes": with_element(3, bytes(97)),
    "11 signature of 0 bytes": with_element(3, b""),
    "12 signature in DER": with_element(3, GOOD.leaf.key.sign(PAYLOAD, ec.ECDSA(hashes.SHA384()))),
    "16 key twice, same value, bf": with_pairs(NONCE_PAIR),
    "16 key twice, other value, bf": with_pairs(OTHER_NONCE),
    "16 key twice, same value, aa": with_pairs(NONCE_PAIR, head=b"\xaa", end=b""),
    "16 key twice, other value, aa": with_pairs(OTHER_NONCE, head=b"\xaa", end=b""),
    "16 key twice instead of another": GOOD.signed(encoded_map([*PAIRS[:-1], DIGEST_PAIR], head=b"\xa9", end=b"")),
    "17 PCR index twice": with_raw_field("pcrs", DOUBLED_PCRS),
    "18 pcrs of indefinite length": with_raw_field("pcrs", INDEFINITE_PCRS),
    "18 cabundle of indefinite length": with_raw_field("cabundle", INDEFINITE_CABUNDLE),
    "18 nonce in chunks": with_raw_field("nonce", b"\x5f\x42ab\x42cd\xff"),
    "18 digest in chunks": with_raw_field("digest", b"\x7f\x63SHA\x63384\xff"),
    "18 outer array of indefinite length": b"\x9f" + DOCUMENT[1:] + b"\xff",
    "19 bf without ff": with_pairs(end=b""),
    "19 bytes after ff": with_pairs(end=b"\xff\x00"),
    "19 two ff": with_pairs(end=b"\xff\xff"),
    "19 ff at the end of an a9 map": with_pairs(head=b"\xa9", end=b"\xff"),
    "19 ff in the middle of a pair": GOOD.signed(encoded_map([*PAIRS, (cbor2.dumps("more"), b"")])),
    "20 map length not minimal": with_pairs(head=b"\xb8\x09", end=b""),
    "20 timestamp in 32 bits padded to 64": with_raw_field("timestamp", b"\x1b" + (1 << 31).to_bytes(8, "big")),
    "20 PCR index not minimal": with_raw_field("pcrs", b"\xa3\x18\x00" + cbor2.dumps(PCRS)[2:]),
    "20 nonce length not minimal": with_raw_field("nonce", b"\x59\x00\x20" + bytes(32)),
    "20 payload length not minimal": DOCUMENT.replace(b"\xa0\x59", b"\xa0\x5a\x00\x00", 1),
    "22 unknown key": GOOD.document(more=b""),
    "22 unknown key for a known": GOOD.document(nonce=..., more=b""),
    "22 integer key": with_pairs((b"\x01", b"\xf6")),
    "22 byte string key": with_pairs((b"\x41n", b"\xf6")),
    "22 array as key": with_pairs((b"\x80", b"\xf6")),
    "25 nitrotpm_pcrs instead of pcrs": GOOD.document(pcrs=..., nitrotpm_pcrs=PCRS),
    "25 nitrotpm_pcrs beside pcrs": GOOD.document(nitrotpm_pcrs=PCRS),
    "26 digest SHA256": GOOD.document(digest="SHA256"),
    "26 digest in lower case": GOOD.document(digest="sha384"),
    "26 digest as bytes": GOOD.document(digest=b"SHA384"),
    "27 module_id empty": GOOD.document(module_id=""),
    "27 module_id as bytes": GOOD.document(module_id=b"i-0-enc0"),
    "27 module_id not UTF-8": with_raw_field("module_id", b"\x62\xc3\x28"),
    "28 timestamp 0": GOOD.document(timestamp=0),
    "28 timestamp negative": GOOD.document(timestamp=-NOW_MS),
    "28 timestamp a float": GOOD.document(timestamp=float(NOW_MS)),
    "28 timestamp a bool": GOOD.document(timestamp=True),
    "28 timestamp tagged": GOOD.document(timestamp=cbor2.CBORTag(1, NOW_MS)),
    "28 timestamp as text": GOOD.document(timestamp=str(NOW_MS)),
    "28 timestamp a bignum": with_raw_field("timestamp", b"\xc2\x46" + NOW_MS.to_bytes(6, "big")),
    "28 timestamp 2^47": GOOD.document(timestamp=1 << 47),
    "28 timestamp 2^64 - 1": GOOD.document(timestamp=(1 << 64) - 1),
    "31 PCR index -1": GOOD.document(pcrs=PCRS | {-1: bytes(48)}),
    "31 PCR index 32": GOOD.document(pcrs=PCRS | {32: bytes(48)}),
    "31 PCR index as text": GOOD.document(pcrs=PCRS | {"0": bytes(48)}),
    "31 PCR index true": with_raw_field("pcrs", cbor2.dumps(PCRS).replace(b"\x01\x58\x30", b"\xf5\x58\x30", 1)),
    "32 pcrs empty": GOOD.document(pcrs={}),
    "32 pcrs an array": GOOD.document(pcrs=list(PCRS.values())),
    "32 pcrs of 33 entries": GOOD.document(pcrs={index: bytes(48) for index in range(33)}),
    "40 cabundle empty": GOOD.document(cabundle=[]),
    "40 cabundle of the root only": GOOD.document(cabundle=[GOOD.root.der]),
    "40 cabundle nine long": GOOD.document(cabundle=[GOOD.root.der] * 9),
    "40 cabundle a byte string": GOOD.document(cabundle=GOOD.root.der),
    "41 certificate empty": GOOD.document(certificate=b""),
    "41 certificate as text": GOOD.document(certificate="leaf"),
    "50 document of QEMU": cbor2.dumps([bytes.fromhex("a10120"), {}, encode_payload(QEMU, "definite"), bytes(64)]),
}
BROKEN |= {f"21 {name} missing": GOOD.document(**{name: ...}) for name in FIELDS}
BROKEN |= {f"23 {name} null": GOOD.document(**{name: None}) for name in MANDATORY}
BROKEN |= {f"24 {name} undefined": with_raw_field(name, b"\xf7") for name in OPTIONAL}
BROKEN |= {f"30 PCR4 of {size} bytes": GOOD.document(pcrs=PCRS | {4: bytes(size)}) for size in (0, 32, 47, 49, 64)}
BROKEN |= {
    f"33 PCR{index} missing": GOOD.document(pcrs={n: value for n, value in PCRS.items() if n != index})
    for index in (0, 1, 2)
}
BROKEN |= {f"36 {name} of 1025 bytes": GOOD.document(**{name: bytes(1025)}) for name in OPTIONAL}
BROKEN |= {f"36 {name} as text": GOOD.document(**{name: "text"}) for name in OPTIONAL}
BROKEN |= {f"36 {name} as array": GOOD.document(**{name: [b"x"]}) for name in OPTIONAL}
BROKEN["36 public_key empty"] = GOOD.document(public_key=b"")


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_another_form_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError) as refused:
        judge(raw)
    assert refused.value.check == "attestation document"


@pytest.mark.parametrize("size", [0, 16_385, 10_000_000])
def test_a_document_of_another_size_is_not_even_decoded(size: int) -> None:
    with pytest.raises(VerificationError, match=f"{size} bytes, 1 to 16384"):
        judge(bytes(size))


def test_a_timestamp_in_seconds_is_refused() -> None:
    """Attack 28: it has the right form, but lies in January 1970."""
    with pytest.raises(VerificationError) as refused:
        judge(GOOD.document(timestamp=NOW_MS // 1000))
    assert refused.value.check == "attestation chain"


ACCEPTED = {
    "payload map bf": DOCUMENT,
    "payload map a9": GOOD.signed(encode_payload(GOOD.fields(), "definite")),
    "keys in another order": GOOD.signed(encoded_map(reversed(PAIRS))),
    "empty user_data": GOOD.document(user_data=b""),
    "no optional field": GOOD.document(**dict.fromkeys(OPTIONAL)),
    "optional fields of 1024 bytes": GOOD.document(**dict.fromkeys(OPTIONAL, bytes(1024))),
    "17 PCRs": GOOD.document(pcrs=PCRS | {index: bytes(48) for index in range(3, 17)}),
    "32 PCRs": GOOD.document(pcrs=PCRS | {index: bytes(48) for index in range(3, 32)}),
}


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED)
def test_genuine_forms_are_accepted(raw: bytes) -> None:
    document = judge(raw)
    assert document.raw == raw
    assert document.timestamp_ms == NOW_MS


def test_empty_user_data_differs_from_none() -> None:
    assert judge(GOOD.document(user_data=b"")).user_data == b""
    assert judge(GOOD.document(user_data=None)).user_data is None


def test_the_verified_type_cannot_be_made_by_hand() -> None:
    read = parse_unverified(DOCUMENT)
    with pytest.raises(AssertionError):
        AttestationDocument(
            module_id=read.module_id,
            timestamp_ms=read.timestamp_ms,
            pcrs=read.pcrs,
            public_key=None,
            user_data=None,
            nonce=None,
            raw=b"",
            maker=None,
        )


def test_a_verified_document_cannot_be_changed() -> None:
    document = judge(DOCUMENT)
    with pytest.raises(TypeError):
        document.pcrs[0] = bytes(48)  # type: ignore[index]  # the point of the test
