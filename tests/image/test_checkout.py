"""Whether the checkout that is built is that of its commit. If not it is said: nobody could rebuild the image."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pinaivu_image.checkout import BUILDER, BUILDER_PLACE, LOCK_PLACE, compare_with_commit
from pinaivu_image.errors import CheckoutError

MODULE = "enclave/pinaivu_enclave/__init__.py"


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of two small packages and the very builder that runs."""
    folder = tmp_path / "checkout"
    for place in (MODULE, "shared/pinaivu_shared/__init__.py", "README.md", "pyproject.toml"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(f"# {place}\n")
    shutil.copytree(BUILDER, folder / BUILDER_PLACE, ignore=shutil.ignore_patterns("__pycache__"))
    git(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("ignored.py\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


def changed(checkout: Path, lock: Path | None = None) -> tuple[str, ...]:
    state = compare_with_commit(checkout, lock or checkout / LOCK_PLACE)
    assert state is not None
    assert len(state.commit) == 40
    return state.changed


def test_a_checkout_as_committed_has_nothing_to_say(checkout: Path) -> None:
    assert changed(checkout) == ()


CHANGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a module changed": (lambda folder: (folder / MODULE).write_text("x"), (MODULE,)),
    "a module removed": (lambda folder: (folder / MODULE).unlink(), (MODULE,)),
    "a module added": (
        lambda folder: (folder / "shared/pinaivu_shared/evil.py").write_text(""), ("shared/pinaivu_shared/evil.py",),
    ),
    "an ignored module added": (
        lambda folder: (folder / "shared/pinaivu_shared/ignored.py").write_text(""),
        ("shared/pinaivu_shared/ignored.py",),
    ),
    "the lock changed": (lambda folder: (folder / LOCK_PLACE).write_text("{}"), (LOCK_PLACE,)),
    "a page changed": (lambda folder: (folder / "README.md").write_text("x"), ()),
    "notes beside a module": (lambda folder: (folder / "enclave/pinaivu_enclave/notes.txt").write_text("x"), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_build_would_take_is_compared_and_nothing_else(checkout: Path, name: str) -> None:
    change, named = CHANGES[name]
    change(checkout)
    assert changed(checkout) == named


def test_a_change_that_git_was_told_to_overlook_is_seen(checkout: Path) -> None:
    git(checkout, "update-index", "--assume-unchanged", MODULE)
    (checkout / MODULE).write_text("x")
    assert changed(checkout) == (MODULE,)


def test_a_commit_that_git_was_told_to_see_as_another_is_seen_as_it_is(checkout: Path) -> None:
    (checkout / MODULE).write_text("x")
    git(checkout, "commit", "--quiet", "--all", "--message", "another")
    git(checkout, "branch", "other")
    git(checkout, "reset", "--quiet", "--soft", "HEAD~1")
    git(checkout, "replace", "HEAD", "other")
    assert changed(checkout) == (MODULE,)


def test_variables_of_git_lead_to_no_other_repository(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "absent"))
    assert changed(checkout) == ()


def test_another_lock_is_named_where_it_lies(checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.lock.json"
    other.write_text("{}")
    assert changed(checkout, other) == (str(other),)


def test_without_a_repository_nothing_is_known(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    assert compare_with_commit(checkout, checkout / LOCK_PLACE) is None


def test_a_lock_that_has_gone_is_an_error_that_says_so(checkout: Path) -> None:
    with pytest.raises(CheckoutError, match=r"cannot be said: /absent\.json: No such file"):
        compare_with_commit(checkout, Path("/absent.json"))


def test_a_repository_that_git_cannot_read_is_an_error_that_says_so(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    (checkout / ".git").write_text("nonsense")
    with pytest.raises(CheckoutError, match="cannot be said"):
        compare_with_commit(checkout, checkout / LOCK_PLACE)
