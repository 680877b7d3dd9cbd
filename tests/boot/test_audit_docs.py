"""docs/audit.md, "From a tag to PCR0": its commands, on a repository that holds this checkout under a tag."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.deploy.checkout import copy_checkout
from tests.docs.pages import DOCS, blocks, section

from pinaivu_image.building import BuildPlan
from pinaivu_image.lock import LOCK_FILE, read_lock

BLOCKS = blocks(section(DOCS / "audit.md", "From a tag to PCR0"), "sh")
TAG = "v0.0.0"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_checkout(tmp_path_factory.mktemp("origin"))
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com", "-c", "commit.gpgsign=false"]
    for step in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "-m", "all"], ["tag", TAG]):
        subprocess.run(["git", "-C", str(folder), *step], check=True)
    return folder


def test_an_auditor_comes_from_a_tag_to_the_very_image(
    plan: BuildPlan, image: Path, repository: Path, tmp_path: Path
) -> None:
    if plan.lock != read_lock(LOCK_FILE):
        pytest.skip("the committed lock cannot be built here: its packages have left the mirrors")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PINAIVU_", "VIRTUAL_ENV"))}
    given = {"REPOSITORY": str(repository), "TAG": TAG, "PUBLISHED": str(image)}
    ended = subprocess.run(
        ["sh", "-euc", "\n".join(BLOCKS)],
        check=False,
        cwd=tmp_path,
        env={**ours, **given},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.endswith("the images are the same, byte for byte\n")
    assert (tmp_path / "pinaivu" / "pinaivu.eif").read_bytes() == image.read_bytes()
    assert "PCR0" in (tmp_path / "pinaivu" / "pcrs.json").read_text()
