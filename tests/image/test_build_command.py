"""`pinaivu image build | lock`: what is wrong is one line on stderr with exit status 2, and stdout stays clean."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from tests.image.images import image
from tests.image.packages import cached, lock, wheel

from pinaivu_image.building import manifest_json, project_version
from pinaivu_image.checkout import CheckoutState
from pinaivu_image.errors import BuildError, LockError, machine_faults
from pinaivu_image.inspection import inspect_image, inspection_json
from pinaivu_image.lock import write_lock
from pinaivu_image.progress import TerminalReporter

ROOT = Path(__file__).parents[2]


def run(
    *arguments: str | Path, missing: str = "", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command; `missing` is a package that is not installed."""
    start = f"import sys; sys.modules[{missing!r}] = None; from pinaivu_shared.command import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "image", *map(str, arguments)]
    environment = {**os.environ, **(variables or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def flags(tmp_path: Path) -> dict[str, str | Path]:
    """Flags of a build that would get as far as its mirror, where nobody answers."""
    write_lock(lock(), tmp_path / "lock.json")
    return {
        "--output": tmp_path / "image.eif",
        "--cache": tmp_path / "cache",
        "--lock": tmp_path / "lock.json",
        "--mirror": "http://127.0.0.1:9/debian",
    }


WRONG = {
    "output, empty": ({"--output": ""}, "--output is empty"),
    "output in no folder": ({"--output": "/absent/image.eif"}, "--output /absent/image.eif: not a file in a folder"),
    "output is a folder": ({"--output": "/"}, "--output /: not a file in a folder that exists"),
    "cache, empty": ({"--cache": ""}, "--cache is empty"),
    "cache that cannot be": ({"--cache": "/dev/null/x"}, "this machine: /dev/null/x/inputs: Not a directory"),
    "source, empty": ({"--source": ""}, "--source is empty"),
    "source is no checkout": ({"--source": "/usr"}, "/usr is no checkout of Pinaivu"),
    "lock, empty": ({"--lock": ""}, "--lock is empty"),
    "lock is absent": ({"--lock": "/absent.json"}, "/absent.json: No such file or directory"),
    "lock is none": ({"--lock": __file__}, "not a lock"),
    "mirror, empty": ({"--mirror": ""}, "a mirror's address begins with"),
    "mirror is none": ({"--mirror": "http://m/debian,http://m/ubuntu"}, "http://m/ubuntu: a mirror's address"),
    "mirror is silent": ({}, "Connection refused"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_in_one_line(flags: dict[str, str | Path], name: str) -> None:
    changed, reason = WRONG[name]
    ended = run("build", *(word for flag in (flags | changed).items() for word in flag))
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = [line for line in ended.stderr.splitlines() if re.match("pinaivu image: (?!warning: )", line)]
    assert reason in line
    assert "Traceback" not in ended.stderr
    assert not Path(flags["--output"]).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_may_not_be_written_is_refused_before_minutes_of_work(
    flags: dict[str, str | Path], tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    ended = run("build", *(word for flag in flags.items() for word in flag))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"pinaivu image: --output {flags['--output']}: not allowed to write there\n"


def test_what_a_program_said_stands_on_lines_of_its_own(flags: dict[str, str | Path], tmp_path: Path) -> None:
    write_lock(msgspec.structs.replace(lock(), wheels=(wheel("trio", b"absent"),)), tmp_path / "lock.json")
    cached(tmp_path / "cache", b"")
    alone = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
    ended = run("build", *(word for flag in flags.items() for word in flag), variables=alone)
    assert ended.returncode == 2
    said = ended.stderr.splitlines()
    first = next(place for place, line in enumerate(said) if line.startswith("pinaivu image: pip download: "))
    assert len(said) > first + 1
    assert all(line.startswith("  ") for line in said[first + 1 :])


def test_a_checkout_that_is_not_as_committed_is_said_before_the_work_begins(
    flags: dict[str, str | Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "enclave", source / "enclave", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "image", source / "image", ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(source), "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    for step in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *step], check=True)
    (source / "enclave/pinaivu_enclave/new.py").touch()
    ended = run("build", *(word for flag in (flags | {"--source": source}).items() for word in flag))
    warning = ended.stderr.splitlines()[0]
    assert warning.startswith("pinaivu image: warning: nobody can rebuild this image from commit ")
    assert warning.endswith(f", which has not: {flags['--lock']}, enclave/pinaivu_enclave/new.py")


def test_the_version_in_an_image_is_that_of_its_checkout(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "7.1"\n')
    assert project_version(tmp_path) == "7.1"


@pytest.mark.parametrize("content", [None, b"", b"[project]\n", b"project = 1\n", b"]", b"\xff"])
def test_a_checkout_without_a_version_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(LockError, match=r"is no checkout of Pinaivu: pyproject\.toml"):
        project_version(tmp_path)


def test_a_manifest_is_what_inspect_prints_and_the_commit() -> None:
    found = inspect_image(image())
    assert manifest_json(found, None) == inspection_json(found)
    for changed in ((), ("a.py",)):
        commit = {"commit": "c" * 40, "clean": not changed}
        assert manifest_json(found, CheckoutState(commit="c" * 40, changed=changed)) == commit | inspection_json(found)


def test_a_package_of_the_extra_that_is_not_installed_is_named(flags: dict[str, str | Path]) -> None:
    ended = run("build", *(word for flag in flags.items() for word in flag), missing="rich")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "pinaivu image: rich.console is missing; install pinaivu[image]\n"


def test_a_build_without_an_output_is_wrong_usage() -> None:
    ended = run("build")
    assert ended.returncode == 2
    assert "--output" in ended.stderr


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        (OSError(30, "Read-only file system", "/cache/x.lock"), "/cache/x.lock: Read-only file system"),
        (OSError(28, "No space left on device"), "/cache: No space left on device"),
    ],
)
def test_what_the_machine_refuses_is_its_fault_and_names_the_file(faulty: OSError, said: str) -> None:
    with pytest.raises(BuildError, match=f"this machine: {said}"), machine_faults(Path("/cache")):
        raise faulty


def test_progress_is_for_people_and_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = TerminalReporter()
    with reporter.step("compiling", 3) as step:
        step.advance()
        reporter.say("half-way")
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.partition(":")[0] for line in err.splitlines()] == ["compiling …", "half-way", "compiling"]


def test_a_long_step_says_how_far_it_is_each_half_minute(capfd: pytest.CaptureFixture[str]) -> None:
    seconds = itertools.count()  # one more each time it is asked
    reporter = TerminalReporter(clock=lambda: next(seconds))
    with reporter.step("compiling the kernel", 120) as step:
        for _ in range(150):
            step.advance()
    assert capfd.readouterr().err.splitlines() == [
        "compiling the kernel …",
        *(f"compiling the kernel: {percent} %" for percent in (25, 50, 75, 99, 99)),
        "compiling the kernel: 152.0 s",
    ]
