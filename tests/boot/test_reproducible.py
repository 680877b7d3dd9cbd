"""The same checkout gives the same image, byte for byte, whoever builds it; another checkout, one that says why."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.boot.builds import Surroundings, copy_cache, copy_checkout

from pinaivu_image.building import BuildPlan
from pinaivu_image.checkout import LOCK_PLACE
from pinaivu_image.lock import write_lock

SOMEWHERE_ELSE = {
    "TZ": "Asia/Kolkata",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "tr_TR.UTF-8",
    "PYTHONHASHSEED": "7",
    "SOURCE_DATE_EPOCH": "1700000000",
    "CC": "clang",
    "CFLAGS": "-O0 -g",
    "GZIP": "-1",
}
CHANGED = "enclave/pinaivu_enclave/clock.py"
PLACE = "usr/local/lib/python3.13/dist-packages/pinaivu_enclave"


def committed(checkout: Path) -> str:
    """Make a repository of a folder; its commit."""
    git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    for step in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *step], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def stated(image: Path) -> tuple[str, bool]:
    """The commit in an image's manifest, and whether the image is of it."""
    manifest = json.loads(Path(f"{image}.json").read_bytes())
    return manifest["commit"], manifest["clean"]


@pytest.fixture
def lock(plan: BuildPlan, tmp_path: Path) -> Path:
    write_lock(plan.lock, tmp_path / "lock.json")
    return tmp_path / "lock.json"


@pytest.fixture
def elsewhere(plan: BuildPlan, tmp_path: Path) -> Surroundings:
    """Another folder, another home, another cache with a build root of its own, other habits."""
    home = tmp_path / "home of somebody else"
    home.mkdir(mode=0o700)
    return Surroundings(
        checkout=copy_checkout(plan.source, home / "pinaivu"),
        cache=copy_cache(plan.cache, home / "cache", ("inputs", "kernels")),
        umask=0o077,
        environment={**SOMEWHERE_ELSE, "HOME": str(home)},
    )


def test_two_people_build_the_same_image(plan: BuildPlan, lock: Path, elsewhere: Surroundings, tmp_path: Path) -> None:
    here = Surroundings(checkout=copy_checkout(plan.source, tmp_path / "here"), cache=plan.cache)
    one, other = tmp_path / "one.eif", tmp_path / "other.eif"
    builds = here.build(one, lock=lock), elsewhere.build(other, lock=lock)
    for built in builds:
        assert built.returncode == 0, built.stderr
        assert re.fullmatch(r"(PCR[012] [0-9a-f]{96}\n){3}", built.stdout), "nothing else is on stdout"
    assert "unpacking" in builds[1].stderr, "the other one had to unpack a build root"
    assert one.read_bytes() == other.read_bytes()
    assert Path(f"{one}.json").read_bytes() == Path(f"{other}.json").read_bytes()
    compared = here.run("diff", one, other)
    assert (compared.returncode, compared.stdout) == (0, "the images are the same, byte for byte\n")


def test_a_changed_file_is_named_with_its_input_and_registers(
    lock: Path, elsewhere: Surroundings, tmp_path: Path
) -> None:
    source, before, after = elsewhere.checkout / CHANGED, tmp_path / "before.eif", tmp_path / "after.eif"
    shutil.copy2(lock, elsewhere.checkout / LOCK_PLACE)
    commit = committed(elsewhere.checkout)
    built = elsewhere.build(before, lock=lock)
    assert built.returncode == 0, built.stderr
    assert "warning" not in built.stderr
    assert stated(before) == (commit, True)
    source.write_text(source.read_text() + "\n# changed\n")
    built = elsewhere.build(after, lock=lock)
    assert built.returncode == 0, built.stderr
    assert f"nobody can rebuild this image from commit {commit[:12]}, which has not: {CHANGED}\n" in built.stderr
    assert stated(after) == (commit, False)
    compared = elsewhere.run("diff", before, after, "--json")
    assert compared.returncode == 1, compared.stderr
    said = json.loads(compared.stdout)
    assert [change["input"] for change in said["inputs"]] == ["pinaivu"]
    assert [change["section"] for change in said["sections"]] == ["ramdisk 2"]
    assert [change["register"] for change in said["measurements"]] == ["PCR0", "PCR2"]
    assert [(change["ramdisk"], change["path"]) for change in said["files"]] == [
        (2, f"{PLACE}/__pycache__/clock.cpython-313.pyc"),
        (2, f"{PLACE}/clock.py"),
        (2, "usr/share/pinaivu/application-inputs.json"),
    ]
    assert all(change["old"]["input"] == "pinaivu" for change in said["files"][:2])
