"""The simulated NSM behaves as the device does (nitro.md part C) and writes documents as Nitro does (B.1 to B.3)."""

import hashlib
import random
from collections.abc import Callable

import cbor2
import pytest
from tests.attestation.forge import ALLOWED, NOW_MS, PKI, POLICY, ROOT

from pinaivu_enclave import nsm as device
from pinaivu_enclave.nsm import NsmDevice
from pinaivu_shared.attestation.policy import configuration_pcr
from pinaivu_shared.attestation.verify import verify_archived, verify_live
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS, SimulatedNsm

ZERO = bytes(48)
QUARTER_MS, HOUR_MS, DAY_MS = 900_000, 3_600_000, 86_400_000


class Clock:
    """Time that tests set."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        """Unix time in milliseconds."""
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nsm(clock: Clock) -> NsmDevice:
    return boot(clock)


def boot(clock: Callable[[], int], seed: str = "boot") -> SimulatedNsm:
    return SimulatedNsm(PKI, now_ms=clock, entropy=random.Random(seed).randbytes)


def fields(raw: bytes) -> dict[str, object]:
    decoded: dict[str, object] = cbor2.loads(cbor2.loads(raw)[2])
    return decoded


def attest(nsm: NsmDevice) -> bytes:
    return nsm.attest(public_key=b"key", user_data=b"", nonce=None)


def test_registers_0_to_15_are_locked_at_start(nsm: NsmDevice) -> None:
    description = nsm.describe()
    assert description.locked_pcrs == frozenset(range(16))
    assert (description.max_pcrs, description.digest) == (32, "SHA384")
    assert [nsm.describe_pcr(index)[0] for index in range(32)] == [True] * 16 + [False] * 16


def test_registers_start_as_nitro_sets_them(nsm: NsmDevice) -> None:
    instance = nsm.describe().module_id.partition("-enc")[0]
    values = [nsm.describe_pcr(index)[1] for index in range(32)]
    assert values[:3] == [SIMULATED_MEASUREMENTS[index] for index in range(3)]
    assert values[3] != ZERO
    assert values[4] == hashlib.sha384(ZERO + instance.encode()).digest()
    assert values[5:] == [ZERO] * 27


def test_extending_hashes_the_old_value_and_the_data(nsm: NsmDevice) -> None:
    first = hashlib.sha384(ZERO + b"one").digest()
    assert nsm.extend_pcr(16, b"one") == first
    assert nsm.extend_pcr(16, b"two") == hashlib.sha384(first + b"two").digest() == nsm.describe_pcr(16)[1]


@pytest.mark.parametrize("index", [0, 3, 15])
def test_a_locked_register_is_read_only(nsm: NsmDevice, index: int) -> None:
    with pytest.raises(device.ReadOnlyIndexError):
        nsm.extend_pcr(index, b"x")
    with pytest.raises(device.ReadOnlyIndexError):
        nsm.lock_pcr(index)


def test_a_lock_holds_and_keeps_the_value(nsm: NsmDevice) -> None:
    value = nsm.extend_pcr(20, b"x")
    nsm.lock_pcr(20)
    assert nsm.describe_pcr(20) == (True, value)
    with pytest.raises(device.ReadOnlyIndexError):
        nsm.extend_pcr(20, b"x")
    with pytest.raises(device.ReadOnlyIndexError):
        nsm.lock_pcr(20)


def test_a_range_locks_from_zero_and_over_locked_ones(nsm: NsmDevice) -> None:
    nsm.lock_pcrs(0)
    nsm.lock_pcrs(18)
    assert nsm.describe().locked_pcrs == frozenset(range(18))
    nsm.lock_pcrs(32)
    nsm.lock_pcrs(32)
    assert nsm.describe().locked_pcrs == frozenset(range(32))
    with pytest.raises(device.InvalidIndexError):
        nsm.lock_pcrs(33)


@pytest.mark.parametrize("index", [32, 255, -1])
def test_there_are_32_registers(nsm: NsmDevice, index: int) -> None:
    for call in (
        lambda: nsm.describe_pcr(index),
        lambda: nsm.extend_pcr(index, b""),
        lambda: nsm.lock_pcr(index),
    ):
        with pytest.raises(device.InvalidIndexError):
            call()


def test_only_locked_registers_are_in_a_document(nsm: NsmDevice) -> None:
    nsm.extend_pcr(16, b"x")
    assert sorted(verify_archived(attest(nsm), root=ROOT, policy=POLICY).pcrs) == list(range(16))
    nsm.lock_pcr(16)
    assert sorted(verify_archived(attest(nsm), root=ROOT, policy=POLICY).pcrs) == list(range(17))


def test_an_enclave_that_extends_then_locks_attests_its_configuration(nsm: NsmDevice) -> None:
    nsm.extend_pcr(16, hashlib.sha384(b"configuration").digest())
    nsm.lock_pcrs(32)
    document = verify_archived(attest(nsm), root=ROOT, policy=POLICY)
    assert document.pcrs[16] == configuration_pcr(b"configuration")
    assert len(document.pcrs) == 32


def test_a_document_is_live_and_answers_the_nonce(nsm: NsmDevice, clock: Clock) -> None:
    raw = nsm.attest(public_key=b"key", user_data=b"data", nonce=b"nonce")
    document = verify_live(raw, root=ROOT, policy=POLICY, nonce=b"nonce", now_ms=clock.now_ms)
    assert (document.public_key, document.user_data, document.nonce) == (b"key", b"data", b"nonce")
    assert document.module_id == nsm.describe().module_id
    assert document.timestamp_ms == NOW_MS


def test_a_document_has_the_bytes_that_nitro_writes(clock: Clock) -> None:
    raw = attest(boot(clock))
    assert raw.startswith(bytes.fromhex("8444a1013822a059"))
    assert raw[10:11] == b"\xbf"
    assert raw[-98:-96] == b"\x58\x60"
    assert raw[-99:-98] == b"\xff"
    definite = SimulatedNsm(PKI, now_ms=clock, entropy=random.Random(1).randbytes, form="definite")
    assert attest(definite)[10:11] == b"\xa9"
    verify_archived(attest(definite), root=ROOT, policy=POLICY)
    names = "module_id digest timestamp pcrs certificate cabundle public_key user_data nonce"
    assert list(fields(raw)) == names.split()
    assert 4000 < len(raw) < 8000


def test_fields_of_1024_bytes_fit_and_longer_ones_do_not(nsm: NsmDevice) -> None:
    longest = bytes(1024)
    verify_archived(nsm.attest(public_key=longest, user_data=longest, nonce=longest), root=ROOT, policy=POLICY)
    with pytest.raises(device.InputTooLargeError):
        nsm.attest(public_key=None, user_data=None, nonce=bytes(1025))
    with pytest.raises(device.InputTooLargeError):
        nsm.extend_pcr(16, bytes(4096))
    with pytest.raises(device.InvalidArgumentError):
        nsm.attest(public_key=b"", user_data=None, nonce=None)


def test_random_bytes_come_256_at_a_time_at_most(nsm: NsmDevice) -> None:
    assert len(nsm.random(256)) == 256
    assert nsm.random(32) != nsm.random(32)
    for size in (0, -1, 257):
        with pytest.raises(device.InvalidArgumentError):
            nsm.random(size)


def test_a_leaf_serves_until_15_minutes_before_its_end(nsm: NsmDevice, clock: Clock) -> None:
    first = fields(attest(nsm))
    clock.now_ms = NOW_MS + 3 * HOUR_MS - QUARTER_MS
    assert fields(attest(nsm))["certificate"] == first["certificate"]
    clock.now_ms += 4000
    renewed = fields(attest(nsm))
    assert renewed["certificate"] != first["certificate"]
    assert renewed["cabundle"] == first["cabundle"]


def test_documents_verify_at_every_quarter_of_an_hour_for_a_month(nsm: NsmDevice, clock: Clock) -> None:
    """No authority runs out while a leaf under it is in use; steps of 7 h keep the test short."""
    bundles = set()
    for clock.now_ms in [
        *range(NOW_MS, NOW_MS + 2 * DAY_MS, 7 * QUARTER_MS),
        *range(NOW_MS + 2 * DAY_MS, NOW_MS + 30 * DAY_MS, 7 * HOUR_MS),
    ]:
        raw = attest(nsm)
        verify_live(
            nsm.attest(public_key=None, user_data=None, nonce=b"n"),
            root=ROOT,
            policy=POLICY,
            nonce=b"n",
            now_ms=clock.now_ms,
        )
        bundles.add(str(fields(raw)["cabundle"]))
    assert len(bundles) > 28


def test_a_clock_that_went_back_gets_a_new_leaf(nsm: NsmDevice, clock: Clock) -> None:
    attest(nsm)
    clock.now_ms -= DAY_MS
    verify_archived(attest(nsm), root=ROOT, policy=POLICY)


def test_the_same_seed_gives_the_same_bytes(clock: Clock) -> None:
    assert attest(boot(clock)) == attest(boot(clock))
    assert attest(boot(clock)) != attest(boot(clock, "another"))


def test_debug_mode_is_refused(clock: Clock) -> None:
    zeros = dict.fromkeys((0, 1, 2), ZERO)
    debug = SimulatedNsm(PKI, now_ms=clock, entropy=random.Random(1).randbytes, measurements=zeros)
    with pytest.raises(Exception, match="debug mode"):
        verify_archived(attest(debug), root=ROOT, policy=POLICY)


def test_errors_have_their_names_on_the_wire_in_the_order_of_the_c_enum() -> None:
    order = (
        "InvalidArgument InvalidIndex InvalidResponse ReadOnlyIndex "
        "InvalidOperation BufferTooSmall InputTooLarge InternalError"
    )
    assert list(device.NSM_ERRORS) == order.split()
    assert all(name.removesuffix("Error") + "Error" == error.__name__ for name, error in device.NSM_ERRORS.items())


def test_the_platform_carries_its_root(clock: Clock) -> None:
    assert boot(clock).trust_root == ROOT
    assert set(ALLOWED) == {0, 1, 2}
