"""The time in a document of our own module: genuine, simulated and QEMU's are read, anything else is no answer."""

import base64
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.attestation.forge import NOW_MS
from tests.enclave.nsm_recorded import simulated

from pinaivu_enclave.nsm import InvalidResponseError
from pinaivu_enclave.nsm.timestamp import read_own_payload, read_timestamp_ms
from pinaivu_simulator.cose import PayloadForm

GENUINE = base64.b64decode((Path(__file__).parents[1] / "vectors/nitro/evervault-beta-2022-10-13.b64").read_bytes())
GENUINE_MS = 1_665_651_482_000  # 2022-10-13 08:58:02 UTC, the README's time; the document adds milliseconds

QEMU_PAYLOAD: dict[str, Any] = {
    "module_id": "i-234-enc5678",
    "digest": "SHA384",
    "timestamp": 1_795_000_000_000,
    "pcrs": {index: bytes(48) for index in range(32)},
    "certificate": bytes(64),
    "cabundle": [bytes(64)],
    "public_key": None,
    "user_data": b"",
    "nonce": b"nonce",
}


def qemu(**changes: Any) -> bytes:
    """A document as QEMU's virtio-nsm.c writes it: algorithm -1, 64 zero bytes for a signature."""
    payload = {name: value for name, value in {**QEMU_PAYLOAD, **changes}.items() if value != "absent"}
    return cbor2.dumps([b"\xa1\x01\x20", {}, cbor2.dumps(payload), bytes(64)])


@pytest.mark.parametrize("form", ["definite", "indefinite"])
def test_a_simulated_document_has_the_modules_time(form: PayloadForm) -> None:
    document = simulated(form).attest(public_key=None, user_data=b"x", nonce=b"y" * 1024)
    assert read_timestamp_ms(document) == NOW_MS


def test_a_genuine_document_has_its_time() -> None:
    assert read_timestamp_ms(GENUINE) // 1000 == GENUINE_MS // 1000


def test_an_unsigned_document_of_qemu_has_its_time() -> None:
    assert read_timestamp_ms(qemu()) == 1_795_000_000_000
    assert read_own_payload(qemu())["pcrs"] == QEMU_PAYLOAD["pcrs"]


@pytest.mark.parametrize("timestamp", [0, -1, 1 << 47, True, 1.5, "1795000000000", None, b"\1", [1], "absent"])
def test_what_is_no_time_is_refused(timestamp: object) -> None:
    with pytest.raises(InvalidResponseError):
        read_timestamp_ms(qemu(timestamp=timestamp))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\x84",
        cbor2.dumps({}),
        cbor2.dumps([b"\xa1\x01\x20", {}, cbor2.dumps(QEMU_PAYLOAD)]),
        cbor2.dumps([b"\xa1\x01\x20", {}, cbor2.dumps(QEMU_PAYLOAD), bytes(64), None]),
        cbor2.dumps([b"\xa1\x01\x20", {}, None, bytes(64)]),
        cbor2.dumps([b"\xa1\x01\x20", {}, QEMU_PAYLOAD, bytes(64)]),
        cbor2.dumps([b"\xa1\x01\x20", {}, cbor2.dumps([1]), bytes(64)]),
        cbor2.dumps([b"\xa1\x01\x20", {}, b"", bytes(64)]),
        cbor2.dumps(cbor2.CBORTag(18, [b"\xa1\x01\x20", {}, cbor2.dumps(QEMU_PAYLOAD), bytes(64)])),
        qemu() + b"\0",
        qemu(user_data=bytes(16384)),
    ],
)
def test_what_is_no_document_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        read_timestamp_ms(document)


def test_a_truncated_document_is_refused() -> None:
    for size in range(len(GENUINE)):
        with pytest.raises(InvalidResponseError):
            read_timestamp_ms(GENUINE[:size])


def read_or_refuse(document: bytes) -> None:
    try:
        assert 0 < read_timestamp_ms(document) < 1 << 47
    except InvalidResponseError:
        return


@given(st.binary(max_size=300))
def test_any_bytes_have_a_time_or_are_refused(document: bytes) -> None:
    read_or_refuse(document)


@given(st.data())
def test_a_changed_document_has_a_time_or_is_refused(data: st.DataObject) -> None:
    document = bytearray(data.draw(st.sampled_from([GENUINE, qemu()])))
    for place in data.draw(st.lists(st.integers(0, len(document) - 1), min_size=1, max_size=4)):
        document[place] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(document))
