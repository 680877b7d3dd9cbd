"""The core computes and does nothing else: no I/O, no clock, no chance; the same commands give the same bytes."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pinaivu_enclave.core

CORE = Path(pinaivu_enclave.core.__file__).parent
FORBIDDEN_NAMES = {"open", "print", "input", "hash", "id", "exec", "eval", "breakpoint", "__import__", "globals"}
FORBIDDEN_ATTRIBUTES = {"now", "today", "utcnow", "time", "time_ns", "monotonic", "urandom", "generate", "random"}


def syntax_trees() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(CORE.glob("**/*.py")):
        yield path.name, ast.parse(path.read_text())


def test_the_core_names_no_builtin_that_does_something() -> None:
    found = [
        (file, node.id)
        for file, tree in syntax_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES
    ]
    assert found == []


def test_the_core_asks_no_clock_and_no_chance() -> None:
    found = [
        (file, node.attr)
        for file, tree in syntax_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_ATTRIBUTES
    ]
    assert found == []


def test_the_core_has_no_float_and_no_true_division() -> None:
    found = [
        (file, node.lineno)
        for file, tree in syntax_trees()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
    ]
    assert found == []


def test_importing_the_core_imports_no_io_of_ours_and_opens_nothing() -> None:
    program = (
        "import sys; opened = []\n"
        "watched = ('socket.', 'subprocess.')\n"
        "sys.addaudithook(lambda event, _: opened.append(event) if event.startswith(watched) else 0)\n"
        "import pinaivu_enclave.core.coordinator, pinaivu_enclave.core.resume\n"
        "ours = [name for name in sys.modules if name.startswith('pinaivu_')]\n"
        "assert not opened, opened\n"
        "assert not [name for name in ours if not name.startswith(('pinaivu_shared', 'pinaivu_enclave'))], ours\n"
        "assert 'trio' not in sys.modules and 'pinaivu_enclave.server' not in sys.modules, ours\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_same_commands_give_the_same_bytes_whatever_the_hash_seed() -> None:
    replay = Path(__file__).with_name("replay_commands.py")
    printed = [
        subprocess.run(
            [sys.executable, str(replay)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1")
    ]
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) > 100
