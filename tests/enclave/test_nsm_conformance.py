"""One conversation, every implementation: simulated, CBOR as the kernel passes it on, libnsm.so, and the real ioctl.

Inside an enclave under QEMU the same steps run against /dev/nsm (`make test-image`).
"""

import ast
import re
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from tests.enclave.nsm_recorded import STEPS, VECTORS, CborModule, recorded_exchanges, recorded_outcomes, simulated
from tests.enclave.nsm_stub.compiling import (
    compile_extension_over_stub,
    compile_library,
    library_steps,
    needs_python_h,
)
from tests.vectors.nsm.generate import text

import pinaivu_simulator.nsm_conformance
from pinaivu_enclave.nsm import InternalError, NsmDescription
from pinaivu_enclave.nsm.device import IoctlExchange, KernelNsm
from pinaivu_enclave.nsm.library import LibraryNsm, ffi
from pinaivu_simulator.cose import PayloadForm
from pinaivu_simulator.nsm import SimulatedNsm
from pinaivu_simulator.nsm_conformance import run_conversation


def test_the_vectors_are_what_their_generator_writes() -> None:
    assert (VECTORS / "conversation.json").read_text() == text()


def test_every_operation_and_every_refusal_that_is_certain_occurs() -> None:
    certain = {(type(step.call).__name__, str(step.allowed[0])) for step in STEPS if len(step.allowed) == 1}
    assert {call for call, _ in certain} == {
        "Describe", "DescribePcr", "ExtendPcr", "LockPcr", "LockPcrs", "Attest", "Random"
    }  # fmt: skip
    refusals = {answer for _, answer in certain if answer.startswith("Refusal")}
    assert len(refusals) == 4, refusals


@pytest.mark.parametrize("form", ["definite", "indefinite"])
def test_the_simulated_module_conforms(form: PayloadForm) -> None:
    assert run_conversation(simulated(form), STEPS) == []


@pytest.mark.parametrize("reverse", [False, True], ids=["keys as AWS", "keys reversed"])
def test_the_kernel_way_conforms_in_cbor(reverse: bool) -> None:  # noqa: FBT001  # a pytest parameter
    assert run_conversation(KernelNsm(CborModule(simulated(), reverse=reverse)), STEPS) == []


def test_the_library_way_conforms_over_a_stub_in_c(tmp_path: Path) -> None:
    path = compile_library(tmp_path, library_steps(recorded_outcomes()))
    nsm = LibraryNsm(path)
    assert run_conversation(nsm, STEPS) == []
    nsm.close()
    counter = type(ffi)()
    counter.cdef("size_t nsm_stub_steps_left(void); size_t nsm_stub_exits(void);")
    stub = cast("Any", counter.dlopen(str(path)))
    assert (stub.nsm_stub_steps_left(), stub.nsm_stub_exits()) == (0, 1)


@needs_python_h
def test_the_kernel_way_conforms_through_the_compiled_ioctl(tmp_path: Path) -> None:
    exchange = IoctlExchange(compile_extension_over_stub(tmp_path, recorded_exchanges()), Path("/dev/null"))
    nsm = KernelNsm(exchange)
    assert run_conversation(nsm, STEPS) == []
    with pytest.raises(InternalError, match="ENOMSG"):  # the stub's own end of the conversation
        nsm.describe()
    exchange.close()


class WrongHash(SimulatedNsm):
    """Hashes a byte more."""

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        return super().extend_pcr(index, data + b"\0")


class Unlocking(SimulatedNsm):
    """Locks nothing."""

    def lock_pcr(self, index: int) -> None:
        super().lock_pcr(index)
        self._locked.discard(index)


class LockingTooMany(SimulatedNsm):
    """Locks a register too many."""

    def lock_pcrs(self, count: int) -> None:
        super().lock_pcrs(min(count + 1, 32))


class Forgetful(SimulatedNsm):
    """Forgets a lock of the start."""

    def describe(self) -> NsmDescription:
        self._locked.discard(3)
        return super().describe()


class OtherNonce(SimulatedNsm):
    """Attests zeros instead of the nonce."""

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        return super().attest(public_key=public_key, user_data=user_data, nonce=nonce and bytes(len(nonce)))


class EmptyIsAbsent(SimulatedNsm):
    """Takes empty for absent."""

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        return super().attest(public_key=public_key, user_data=user_data or None, nonce=nonce)


class OtherRegistersInDocuments(SimulatedNsm):
    """Attests another PCR16 than it shows."""

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        true = self._pcrs[16]
        self._pcrs[16] = bytes(48)
        try:
            return super().attest(public_key=public_key, user_data=user_data, nonce=nonce)
        finally:
            self._pcrs[16] = true


class NoDocument(SimulatedNsm):
    """Cuts the document short."""

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        return super().attest(public_key=public_key, user_data=user_data, nonce=nonce)[:-1]


class SameRandom(SimulatedNsm):
    """Gives zeros."""

    def random(self, size: int) -> bytes:
        return bytes(len(super().random(size)))


class ShortRandom(SimulatedNsm):
    """Gives 200 bytes at most."""

    def random(self, size: int) -> bytes:
        return super().random(size)[:200]


class Obliging(SimulatedNsm):
    """Has a register for every number."""

    def describe_pcr(self, index: int) -> tuple[bool, bytes]:
        return super().describe_pcr(index % 32)


class Broken(SimulatedNsm):
    """Fails."""

    def describe(self) -> NsmDescription:
        raise InternalError("the module failed")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (WrongHash, "the new value is the hash of the old one and the data: .* instead of"),
        (Unlocking, "locking keeps the value: locked is False"),
        (LockingTooMany, "and locks the open ones: NsmDescription"),
        (Forgetful, "registers 0 to 15 are locked at start: NsmDescription"),
        (OtherNonce, "a nonce, user data and a key come back: nonce of the document"),
        (EmptyIsAbsent, "empty user data is not absent: user_data of the document"),
        (OtherRegistersInDocuments, r"without asking for anything else: PCRs \[16\] have other values"),
        (NoDocument, "without asking for anything else: attestation document: CBOR ends too early"),
        (SameRandom, "256 random bytes: the same random bytes as before"),
        (ShortRandom, "255 random bytes: 200 random bytes instead of 255"),
        (Obliging, "there is no PCR32 to describe: tuple where a Refusal is due"),
        (Broken, r"all are locked: InternalError \(the module failed\) where a Description is due"),
    ],
)
def test_a_module_that_deviates_is_told_so(kind: type[SimulatedNsm], said: str) -> None:
    deviations = "\n".join(run_conversation(simulated(kind=kind), STEPS))
    assert re.search(said, deviations), deviations


def test_the_conversation_can_go_into_an_image_without_the_simulator() -> None:
    tree = ast.parse(Path(pinaivu_simulator.nsm_conformance.__file__).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported - sys.stdlib_module_names == {"msgspec", "pinaivu_enclave"}
