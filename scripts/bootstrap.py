"""Make a virtual environment with uv in it, whatever this machine's Python came with. Standard library only."""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import venv
from pathlib import Path

MINIMUM = (3, 11)


def run(*command: str) -> bool:
    """Run a command, say it, and tell whether it ended well."""
    print("+ " + " ".join(command), file=sys.stderr, flush=True)
    return subprocess.run(command, check=False).returncode == 0


def make_environment(folder: Path, uv: str) -> bool:
    """Try, in this order: venv with pip, venv without pip filled by the system's pip, a uv found on PATH."""
    python = str(folder / "bin" / "python")
    if importlib.util.find_spec("ensurepip"):
        venv.create(folder, with_pip=True)
        return run(python, "-m", "pip", "install", "--quiet", f"uv=={uv}")
    if importlib.util.find_spec("pip"):
        venv.create(folder, with_pip=False)
        return run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", f"uv=={uv}")
    found = shutil.which("uv")
    if found and run(found, "venv", "--quiet", "--python", sys.executable, str(folder)):
        shutil.copy2(found, folder / "bin" / "uv")
        return True
    return False


def main() -> int:
    """Exit 0 when the environment is there, 2 when this machine lacks what it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, required=True, help="folder of the virtual environment")
    parser.add_argument("--uv", required=True, help="version of uv to install")
    arguments = parser.parse_args()
    if sys.version_info < MINIMUM:
        print(f"Python {'.'.join(map(str, MINIMUM))} or later is needed, this is {sys.version}", file=sys.stderr)
        return 2
    shutil.rmtree(arguments.venv, ignore_errors=True)
    if make_environment(arguments.venv, arguments.uv):
        return 0
    shutil.rmtree(arguments.venv, ignore_errors=True)
    print("no way to install packages: install python3-venv, or python3-pip, or uv, then try again", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
