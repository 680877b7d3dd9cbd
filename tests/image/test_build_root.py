"""A build step sees the build root and nothing of the machine around it.

The root of these tests has a shell only, this machine's own: what is tested is the way in.
"""

import fcntl
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.image.packages import Listener, cached, deb, entry, package, package_of, tar

from pinaivu_image.build_root import ENVIRONMENT, TAIL_LINES, BuildRoot, build_root, root_key
from pinaivu_image.errors import BuildError, InputError
from pinaivu_image.exclusion import alone

SHELL = Path("/bin/sh").resolve()
BY_THE_SHELL = {"PWD", "OLDPWD", "SHLVL", "_"}


def shell_package() -> bytes:
    """A package with a shell and the libraries that it needs."""
    listed = subprocess.run(["ldd", SHELL], check=True, capture_output=True, text=True).stdout
    libraries = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    files = {f"usr/{name.removeprefix('/usr').lstrip('/')}": Path(name).read_bytes() for name in libraries}
    files["usr/bin/dash"] = SHELL.read_bytes()
    return package(tar(*((entry(f"./{path}", mode=0o755), content) for path, content in files.items())))


@pytest.fixture(scope="module")
def shell() -> bytes:
    return shell_package()


@pytest.fixture
def root(shell: bytes, tmp_path: Path) -> Iterator[BuildRoot]:
    """An entered build root; skipped, and said so, on a machine that lets nobody in."""
    with build_root(tmp_path, [deb("shell", shell)], cached(tmp_path, shell), Listener()) as root:
        try:
            root.run("enter", ["sh", "-c", "exit 0"])
        except BuildError as error:
            if "cannot be entered" not in str(error):
                raise
            pytest.skip(str(error))
        yield root


def output(root: BuildRoot, script: str) -> list[str]:
    lines: list[str] = []
    root.run("step", ["sh", "-c", script], on_line=lines.append)
    return [line.rstrip("\n") for line in lines]


def test_a_step_starts_in_the_work_folder(root: BuildRoot) -> None:
    assert output(root, "pwd; : > made") == ["/build"]
    assert [path.name for path in root.work.iterdir()] == ["made"]


def test_a_step_has_the_fixed_environment_and_nothing_of_ours(root: BuildRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "CFLAGS", "LD_PRELOAD_X", "PYTHONPATH", "LANG"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    exported = [shlex.split(line)[-1].partition("=") for line in output(root, "export -p")]
    found = {name: value for name, _, value in exported if name not in BY_THE_SHELL}
    assert found == ENVIRONMENT


@pytest.mark.parametrize("ours", [0o077, 0o000, 0o002])
def test_a_step_makes_files_as_everybody_does_whatever_our_umask(root: BuildRoot, ours: int) -> None:
    before = os.umask(ours)
    try:
        assert output(root, "umask; : > made") == ["0022"]
    finally:
        os.umask(before)
    assert (root.work / "made").stat().st_mode & 0o777 == 0o644


def test_a_step_sees_no_folder_of_the_machine(root: BuildRoot) -> None:
    assert output(root, "echo /* /dev/*") == ["/bin /build /dev /lib /lib64 /sbin /tmp /usr /dev/null"]
    assert output(root, f"[ -e {root.folder} ] && echo seen || echo hidden") == ["hidden"]


def test_a_step_reads_nothing_and_may_throw_away_what_it_writes(root: BuildRoot) -> None:
    assert output(root, "read line || echo nothing; echo lost > /dev/null") == ["nothing"]


def test_a_step_has_no_network(root: BuildRoot) -> None:
    if "unshare" not in root._entering[0]:
        pytest.skip("a root that may make no namespaces has the network inside")
    os.mkfifo(root.work / "wait")
    networks = []

    def look(line: str) -> None:
        networks.append(Path(f"/proc/{line.strip()}/ns/net").readlink())
        (root.work / "wait").write_text("go on\n")

    root.run("step", ["sh", "-c", "echo $$; read line < wait"], on_line=look)
    assert len(networks) == 1
    assert networks != [Path("/proc/self/ns/net").readlink()]


def test_what_a_step_left_running_keeps_the_next_build_out(root: BuildRoot, tmp_path: Path) -> None:
    os.mkfifo(root.work / "wait")
    writer = os.open(root.work / "wait", os.O_RDWR)
    with alone(tmp_path / "lock", Listener()) as held:
        left = "exec 3< wait; (exec <&3 >/dev/null 2>&1; read line) &"
        BuildRoot(root.folder, held=held).run("step", ["sh", "-c", left])
    with (tmp_path / "lock").open("rb") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(writer)
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_a_failed_step_is_named_with_its_status_and_last_lines(root: BuildRoot) -> None:
    script = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; echo broken >&2; exit 3"
    with pytest.raises(BuildError) as failed:
        root.run("kernel", ["sh", "-c", script])
    assert failed.value.step == "kernel"
    lines = str(failed.value).splitlines()
    assert lines[0] == "kernel: exit status 3"
    assert lines[1:] == [*(f"line {number}" for number in range(101 - TAIL_LINES, 100)), "broken"]


def test_a_program_that_is_not_in_the_root_is_not_found_on_the_machine(root: BuildRoot) -> None:
    with pytest.raises(BuildError, match="true: not found"):
        root.run("step", ["true"])


def test_each_build_finds_an_empty_work_folder_and_leaves_none(shell: bytes, tmp_path: Path) -> None:
    debs, cache, listener = [deb("shell", shell)], cached(tmp_path, shell), Listener()
    with build_root(tmp_path, debs, cache, listener) as root:
        (root.work / "left").mkdir()
        (root.work / "left" / "behind").touch()
    assert not root.work.exists()
    root.work.mkdir()
    (root.work / "killed").touch()
    with build_root(tmp_path, debs, cache, listener) as root:
        assert list(root.work.iterdir()) == []
    assert listener.said == ["unpacking 1 packages of the build root"]


def test_an_unpacking_that_was_interrupted_begins_again(shell: bytes, tmp_path: Path) -> None:
    debs = [deb("shell", shell), deb("other", package_of({"usr/lib/other": b"1"}))]
    cache = cached(tmp_path, shell)
    with pytest.raises(FileNotFoundError), build_root(tmp_path, debs, cache, Listener()):
        pytest.fail("half a root was entered")
    cached(tmp_path, package_of({"usr/lib/other": b"1"}))
    with build_root(tmp_path, debs, cache, Listener()) as root:
        assert (root.folder / "usr/lib/other").read_bytes() == b"1"
    assert sorted(path.name for path in (tmp_path / "roots").iterdir()) == [root_key(debs), f"{root_key(debs)}.lock"]


@pytest.mark.parametrize("target", ["/var", "../../../..", "../../.."])
def test_a_package_cannot_write_through_a_link_that_leads_out(tmp_path: Path, target: str) -> None:
    link = entry("./usr/lib/way", kind=b"2", link=target)
    raw = package(tar((link, b""), (entry(f"./usr/lib/way/{tmp_path.name}"), b"out")))
    with (
        pytest.raises(InputError, match="leads out of the build root"),
        build_root(tmp_path, [deb("evil", raw)], cached(tmp_path, raw), Listener()),
    ):
        pytest.fail("it was unpacked")


def test_a_later_package_replaces_a_link_and_does_not_write_behind_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    one = package(tar((entry("./usr/lib/file", kind=b"2", link=str(target)), b"")))
    two = package_of({"usr/lib/file": b"theirs"})
    with build_root(tmp_path, [deb("one", one), deb("two", two)], cached(tmp_path, one, two), Listener()) as root:
        assert (root.folder / "usr/lib/file").read_bytes() == b"theirs"
    assert target.read_bytes() == b"mine"


def test_a_root_is_named_after_all_of_its_packages() -> None:
    one, two = deb("one", b"1"), deb("two", b"2")
    assert len({root_key([one]), root_key([two]), root_key([one, two]), root_key([two, one])}) == 4


def test_without_unshare_an_ordinary_user_is_told_what_to_do(
    root: BuildRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildError, match=r"unshare \(util-linux\) is missing; change that, or build as root"):
        BuildRoot(root.folder, held=0).run("step", ["sh"])
