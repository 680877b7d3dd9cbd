"""Compiles the C stand-ins of this folder, with tables of what they expect and answer."""

import importlib.util
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from pinaivu_enclave.nsm import MAX_RANDOM_BYTES, NSM_ERRORS, NsmDescription, NsmError
from pinaivu_enclave.nsm.device import IoctlExtension
from pinaivu_enclave.nsm.extension import FILE_NAME, MODULE, write_source
from pinaivu_simulator.nsm_conformance import (
    Attest,
    Call,
    Describe,
    DescribePcr,
    ExtendPcr,
    LockPcr,
    LockPcrs,
    Octets,
    Outcome,
    Random,
    Step,
    octets,
)

FOLDER = Path(__file__).parent
INCLUDE = Path(sysconfig.get_paths()["include"])

needs_python_h = pytest.mark.skipif(
    not (INCLUDE / "Python.h").exists(), reason=f"no Python.h in {INCLUDE}: the ioctl extension cannot be compiled"
)


@dataclass(frozen=True, kw_only=True)
class LibraryStep:
    """One call that the stub library expects, and its answer; `announced` is the length told, if not the true one."""

    function: str
    number: int = 0
    given: tuple[bytes | None, ...] = ()
    code: int = 0
    flags: int = 0
    answer: bytes = b""
    announced: int | None = None


def library_steps(recorded: Sequence[tuple[Step, Outcome]]) -> list[LibraryStep]:
    """The conversation as libnsm.so sees it: without what is refused before it is called."""
    return [
        _library_step(step.call, outcome)
        for step, outcome in recorded
        if not (isinstance(step.call, Random) and not 0 < step.call.size <= MAX_RANDOM_BYTES)
    ]


def _library_step(call: Call, outcome: Outcome) -> LibraryStep:
    function, number, given = _library_call(call)
    code, flags, answer = _library_answer(outcome)
    return LibraryStep(function=function, number=number, given=given, code=code, flags=flags, answer=answer)


def _library_call(call: Call) -> tuple[str, int, tuple[bytes | None, ...]]:  # noqa: PLR0911  # one for each operation
    match call:
        case Describe():
            return "nsm_get_description", 0, ()
        case DescribePcr(index=index):
            return "nsm_describe_pcr", index, ()
        case ExtendPcr(index=index, data=data):
            return "nsm_extend_pcr", index, (octets(data),)
        case LockPcr(index=index):
            return "nsm_lock_pcr", index, ()
        case LockPcrs(count=count):
            return "nsm_lock_pcrs", count, ()
        case Attest(public_key=public_key, user_data=user_data, nonce=nonce):
            return "nsm_get_attestation_doc", 0, (_given(user_data), _given(nonce), _given(public_key))
        case Random(size=size):
            return "nsm_get_random", size, ()


def _given(text: Octets | None) -> bytes | None:
    return None if text is None else octets(text)


def _library_answer(outcome: Outcome) -> tuple[int, int, bytes]:
    """Code, flags and bytes."""
    match outcome:
        case NsmError():
            return 1 + list(NSM_ERRORS).index(outcome.name), 0, b""
        case NsmDescription():
            return 0, sum(1 << index for index in outcome.locked_pcrs), outcome.module_id.encode()
        case (locked, value):
            return 0, int(locked), value
        case bytes():
            return 0, 0, outcome
        case None:
            return 0, 0, b""


def compile_library(
    folder: Path, steps: Sequence[LibraryStep], *, descriptor: int = 7, digest: int = 1, options: Sequence[str] = ()
) -> Path:
    """A libnsm.so in this folder that expects these calls and no others."""
    rows = [
        f'{{"{step.function}", {step.number}, {{{", ".join(map(_octets, (*step.given, None, None, None)[:3]))}}}, '
        f"{step.code}, {step.flags}ull, {_octets(step.answer)}, "
        f"{len(step.answer) if step.announced is None else step.announced}u}},\n"
        for step in steps
    ]
    header = f"#define DESCRIPTOR {descriptor}\n#define DIGEST {digest}\n"
    (folder / "steps.h").write_text(f"{header}static const struct step steps[] = {{\n{''.join(rows)}}};\n")
    return _compile(folder / "libnsm.so", f"-I{folder}", "-Wall", "-Werror", *options, FOLDER / "libnsm.c")


def compile_extension(folder: Path) -> IoctlExtension:
    """The ioctl extension as the image has it."""
    write_source(folder / "_nsm_ioctl.c")
    return _load(_compile(folder / FILE_NAME, f"-I{INCLUDE}", folder / "_nsm_ioctl.c"))


def compile_extension_over_stub(
    folder: Path, exchanges: Sequence[tuple[bytes, bytes]], *, failure: str = "0"
) -> IoctlExtension:
    """The same source, but its ioctl is the stub's: it knows these exchanges, or fails with an errno by name."""
    rows = [
        f"{{{_literal(request)}, {len(request)}, {_literal(answer)}, {len(answer)}}},\n"
        for request, answer in exchanges
    ]
    table = f"#define FAILURE {failure}\nstatic const struct exchange exchanges[] = {{\n{''.join(rows)}}};\n"
    (folder / "exchanges.h").write_text(table)
    write_source(folder / "_nsm_ioctl.c")
    sources = (folder / "_nsm_ioctl.c", FOLDER / "ioctl.c")
    return _load(_compile(folder / FILE_NAME, f"-I{INCLUDE}", f"-I{folder}", "-Dioctl=fake_ioctl", *sources))


def _octets(value: bytes | None) -> str:
    return "{NULL, 0}" if value is None else f"{{{_literal(value)}, {len(value)}}}"


def _literal(value: bytes) -> str:
    digits = "".join(f"\\{byte:03o}" for byte in value)
    return f'(const uint8_t *)"{digits}"'


def _compile(target: Path, *arguments: str | Path) -> Path:
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", target, *arguments], check=True, timeout=120)
    return target


def _load(path: Path) -> IoctlExtension:
    """Import a compiled extension without making it the one that the enclave would import."""
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("IoctlExtension", module)
