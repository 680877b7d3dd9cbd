"""The conversation of tests/vectors/nsm as it goes with the simulated module: through Python, and through CBOR."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cbor2
from tests.attestation.forge import NOW_MS, PKI

from pinaivu_enclave.nsm import MAX_REQUEST_BYTES, InputTooLargeError, NsmDevice, NsmError
from pinaivu_enclave.nsm.device import KernelNsm
from pinaivu_simulator.cose import PayloadForm
from pinaivu_simulator.nsm import SimulatedNsm
from pinaivu_simulator.nsm_conformance import Outcome, Step, perform, read_steps, run_conversation

VECTORS = Path(__file__).parents[1] / "vectors" / "nsm"
STEPS = read_steps((VECTORS / "conversation.json").read_bytes())


def simulated(form: PayloadForm = "indefinite", *, kind: type[SimulatedNsm] = SimulatedNsm) -> SimulatedNsm:
    """A module that nobody has used; the same one every time."""
    return kind(PKI, now_ms=lambda: NOW_MS, entropy=random.Random("nsm").randbytes, form=form)


def recorded_outcomes(steps: Sequence[Step] = STEPS) -> list[tuple[Step, Outcome]]:
    """What the simulated module answers to each step."""
    device = simulated()
    return [(step, perform(device, step.call)) for step in steps]


def recorded_exchanges() -> list[tuple[bytes, bytes]]:
    """Each request and answer of the conversation that goes to the device, in CBOR."""
    module = CborModule(simulated())
    assert run_conversation(KernelNsm(module), STEPS) == []
    return module.exchanges


class CborModule:
    """An `Exchange`: a module's own end of the CBOR, in front of any `NsmDevice`.

    `reverse` writes the fields of an answer in the other order; the driver's limit on requests is here as well.
    """

    def __init__(self, device: NsmDevice, *, reverse: bool = False) -> None:
        self._device, self._reverse = device, reverse
        self.exchanges: list[tuple[bytes, bytes]] = []

    def __call__(self, request: bytes) -> bytes:
        """The answer to a request."""
        if len(request) > MAX_REQUEST_BYTES:
            raise InputTooLargeError("EMSGSIZE")
        decoded: Any = cbor2.loads(request)
        ((name, fields),) = decoded.items() if isinstance(decoded, dict) else [(decoded, {})]
        try:
            answer = self._answer(name, fields)
        except NsmError as error:
            answer = {"Error": error.name}
        encoded = cbor2.dumps(answer)
        self.exchanges.append((request, encoded))
        return encoded

    def _answer(self, name: str, fields: dict[str, Any]) -> object:
        match name:
            case "DescribeNSM":
                content = self._description()
            case "DescribePCR":
                locked, value = self._device.describe_pcr(**fields)
                content = {"lock": locked, "data": value}
            case "ExtendPCR":
                content = {"data": self._device.extend_pcr(**fields)}
            case "Attestation":
                content = {"document": self._device.attest(**fields)}
            case "GetRandom":
                content = {"random": self._device.random(256)}
            case "LockPCR":
                self._device.lock_pcr(fields["index"])
                return name
            case "LockPCRs":
                self._device.lock_pcrs(fields["range"])
                return name
            case _:
                raise AssertionError(name)
        return {name: dict(reversed(content.items())) if self._reverse else content}

    def _description(self) -> dict[str, Any]:
        description = self._device.describe()
        return {
            "version_major": description.version[0],
            "version_minor": description.version[1],
            "version_patch": description.version[2],
            "module_id": description.module_id,
            "max_pcrs": description.max_pcrs,
            "locked_pcrs": sorted(description.locked_pcrs),
            "digest": description.digest,
        }
