"""The Dockerfiles: pinned bases, a clean lint, and commands that work. There is no Docker engine here.

What the steps of Dockerfile.enclave make is in tests/boot: it takes as long as a build.
"""

import fnmatch
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.deploy.checkout import copy_checkout, tracked_files
from tests.deploy.dockerfile import DOCKERFILES, IGNORE, ROOT, commands, stages

HADOLINT = Path(sys.executable).with_name("hadolint")
JUSTIFIED = {"Dockerfile.enclave": ["DL3029", "DL3008"], "Dockerfile.host": []}
"""Rules switched off for one instruction each, with the reason in the comment above it."""


def hadolint(path: Path) -> list[str]:
    command = [str(HADOLINT), "--no-color", "--format", "json", str(path)]
    found = json.loads(subprocess.run(command, check=False, capture_output=True, text=True).stdout)
    return [one["code"] for one in found]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_linter_finds_nothing(name: str) -> None:
    assert hadolint(ROOT / name) == []


@pytest.mark.parametrize("name", DOCKERFILES)
def test_no_rule_is_switched_off_but_those_with_a_reason(name: str, tmp_path: Path) -> None:
    lines = (ROOT / name).read_text().splitlines()
    ignored = [line.removeprefix(IGNORE) for line in lines if line.startswith(IGNORE)]
    bare = tmp_path / name
    bare.write_text("\n".join(line for line in lines if not line.startswith(IGNORE)) + "\n")
    assert ignored == JUSTIFIED[name] == hadolint(bare)
    for before, line in itertools.pairwise(lines):
        assert not line.startswith(IGNORE) or before.startswith("# "), "a reason stands above"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_base_is_pinned_by_digest(name: str) -> None:
    bases = [re.sub(r"^--platform=\S+ ", "", stage[0].argument).split()[0] for stage in stages(name)]
    assert all(base == "scratch" or re.fullmatch(r"[a-z]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", base) for base in bases)


def test_the_enclave_build_exports_the_image_and_its_manifest_and_nothing_else() -> None:
    assert [tuple(step) for step in stages("Dockerfile.enclave")[-1]] == [
        ("FROM", "scratch"),
        ("COPY", "--from=build /out /"),
    ]


def test_the_host_runs_without_privileges() -> None:
    final = dict(stages("Dockerfile.host")[-1])
    assert int(final["USER"]) > 0
    assert json.loads(final["ENTRYPOINT"]) + json.loads(final["CMD"]) == ["pinaivu", "host", "serve"]


def test_apt_knows_the_packages_that_are_installed() -> None:
    (line,) = (step.argument for step in stages("Dockerfile.enclave")[0] if step.argument.startswith("apt-get"))
    words = line.split(" install ")[1].split(" && ")[0].split()
    packages = [word for word in words if not word.startswith("--")]
    assert packages
    if shutil.which("apt-cache") is None:
        pytest.skip("this machine has no apt-cache")
    for package in packages:
        shown = subprocess.run(["apt-cache", "show", package], check=False, capture_output=True, text=True)
        assert f"Package: {package}" in shown.stdout, f"{package}: unknown to this machine's apt"


def test_a_build_is_given_what_git_knows_and_neither_history_nor_environments() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    def ignored(path: str) -> bool:
        """Docker's rules, for the patterns that are used: a folder takes its contents with it."""
        parents = [path, *(str(parent) for parent in Path(path).parents)]
        return any(
            fnmatch.fnmatchcase(part, pattern.removeprefix("**/")) if pattern.startswith("**/") else place == pattern
            for pattern in patterns
            for place in parents
            for part in place.split("/")
        ) or any(fnmatch.fnmatchcase(place, pattern) for pattern in patterns for place in parents if "/" not in place)

    assert [name for name in tracked_files() if ignored(name)] == []
    left = ("pinaivu.eif", "pinaivu.eif.json", "pcrs.json", "trust.json", "build/pinaivu.eif", "out/pinaivu.eif")
    for name in (
        *left,
        ".git/HEAD",
        ".venv/bin/python",
        ".mypy_cache/x",
        "shared/a/__pycache__/b.pyc",
        ".pinaivu/admin.key",
    ):
        assert ignored(name), name


def test_the_host_image_holds_a_host_that_works(tmp_path: Path) -> None:
    """Run the steps of Dockerfile.host in a copy of the checkout, with `/opt` elsewhere and this Python as its own."""
    build, final = stages("Dockerfile.host")
    source, opt, programs = copy_checkout(tmp_path / "src"), tmp_path / "opt", tmp_path / "bin"
    opt.mkdir()
    programs.mkdir()
    (programs / "python").symlink_to(Path(sys.executable).resolve())
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PINAIVU_", "PYTHON", "VIRTUAL"))}
    environment = ours | {"PATH": f"{programs}:{os.environ['PATH']}"}
    for command in commands(build):
        step = ["sh", "-c", command.replace("/opt/", f"{opt}/")]
        ended = subprocess.run(step, check=False, cwd=source, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    entry = json.loads(dict(final)["ENTRYPOINT"])
    started = [str(opt / "pinaivu" / "bin" / entry[0]), *entry[1:], "serve"]
    given = {"PINAIVU_ENCLAVE": "vsock:16:5000", "PINAIVU_CONFIGURATION": "/nowhere.json"}
    ended = subprocess.run(started, check=False, cwd=tmp_path, env=ours | given, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "pinaivu host: --configuration /nowhere.json: No such file or directory\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="useradd needs root, even in a folder of its own")
def test_the_user_of_the_host_image_owns_its_data_folder(tmp_path: Path) -> None:
    (command,) = commands(stages("Dockerfile.host")[-1])
    (tmp_path / "etc").mkdir()
    (tmp_path / "var" / "lib").mkdir(parents=True)
    for name in ("passwd", "group"):
        (tmp_path / "etc" / name).write_text("root:x:0:0:root:/root:/bin/sh\n" if name == "passwd" else "root:x:0:\n")
    command = command.replace("useradd ", f"useradd --prefix {tmp_path} ").replace("0700 /", f"0700 {tmp_path}/")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    folder = (tmp_path / "var" / "lib" / "pinaivu").stat()
    assert (folder.st_uid, folder.st_mode & 0o777) == (int(dict(stages("Dockerfile.host")[-1])["USER"]), 0o700)
