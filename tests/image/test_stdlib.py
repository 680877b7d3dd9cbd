"""The image has a part of the standard library only: the enclave's program must not import the rest."""

import subprocess
import sys

from pinaivu_image.contents import LEFT_OUT, PYTHON

STDLIB = f"usr/lib/python{PYTHON}/"
IMPORT_WITHOUT = """
import fnmatch, sys

class LeftOut:
    def find_spec(self, name, path=None, target=None):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in {patterns!r}):
            raise ModuleNotFoundError(f"the image has no {{name}}")

sys.meta_path.insert(0, LeftOut())
import {module}
"""


def modules_left_out() -> list[str]:
    """Patterns of module names, of the files that LEFT_OUT names in the standard library."""
    named = (pattern.removeprefix(STDLIB) for pattern in LEFT_OUT if pattern.startswith(STDLIB))
    plain = (name.removesuffix(".py").removesuffix("/*") for name in named if name.endswith((".py", "/*")))
    return [name.replace("/", ".") for name in plain]


def importing(module: str) -> subprocess.CompletedProcess[str]:
    program = IMPORT_WITHOUT.format(patterns=modules_left_out(), module=module)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_the_enclaves_program_imports_nothing_that_the_image_leaves_out() -> None:
    ended = importing("pinaivu_enclave.program")
    assert ended.returncode == 0, ended.stderr


def test_a_module_that_is_left_out_would_be_noticed() -> None:
    assert "the image has no statistics" in importing("statistics").stderr
