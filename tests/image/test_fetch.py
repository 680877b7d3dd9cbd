"""Inputs come from mirrors that nobody trusts: what does not match its locked hash is never kept, and never used."""

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.image.mirror import LocalMirror, local_mirror
from tests.image.packages import Listener, cached, deb, wheel, wheel_bytes

from pinaivu_image.errors import InputError, MirrorError, MissingInputError
from pinaivu_image.fetch import InputCache, fetch_debs, fetch_wheels
from pinaivu_image.progress import SilentReporter

ONE, TWO = b"package one" * 1000, b"package two" * 1000
DEBS = (deb("one", ONE), deb("two", TWO))
QUIET = SilentReporter()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalMirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with local_mirror({DEBS[0].path: ONE, DEBS[1].path: TWO}) as serving:
        yield serving


@pytest.fixture
def cache(tmp_path: Path) -> InputCache:
    return InputCache(tmp_path)


def kept(cache: InputCache) -> list[str]:
    """What is in the cache beside its lock."""
    return sorted(path.name for path in cache.folder.iterdir() if path.name != ".lock")


def test_packages_are_fetched_once(mirror: LocalMirror, cache: InputCache) -> None:
    fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert [cache.read(one) for one in DEBS] == [ONE, TWO]
    assert kept(cache) == sorted(one.sha256 for one in DEBS)
    fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert mirror.requests == [one.path for one in DEBS]


def test_only_what_is_missing_is_asked_for(mirror: LocalMirror, tmp_path: Path) -> None:
    fetch_debs(DEBS, mirror.mirrors, cached(tmp_path, ONE), QUIET)
    assert mirror.requests == [DEBS[1].path]


def test_a_full_cache_needs_no_mirror_and_writes_nothing(tmp_path: Path) -> None:
    cache = cached(tmp_path, ONE, TWO)
    fetch_debs(DEBS, None, cache, QUIET)
    assert not (cache.folder / ".lock").exists()


def test_without_a_mirror_what_is_missing_is_named_with_the_way_out(cache: InputCache) -> None:
    with pytest.raises(MirrorError, match=r"one 1\.0-1 is not in the cache, and .* --mirror URL"):
        fetch_debs(DEBS, None, cache, QUIET)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"X" + ONE[1:], "the mirror gave another file"),
        (ONE + b"X", "more than the locked 11000 bytes"),
        (ONE * 1000, "more than the locked 11000 bytes"),
    ],
)
def test_what_is_not_the_locked_file_is_never_kept(
    mirror: LocalMirror, cache: InputCache, content: bytes, reason: str
) -> None:
    mirror.files[DEBS[0].path] = content
    with pytest.raises(InputError, match=reason):
        fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert kept(cache) == []


@pytest.mark.parametrize("shorter", [b"", ONE[:-1]])
def test_a_file_that_ends_early_is_a_fault_of_the_mirror(
    mirror: LocalMirror, cache: InputCache, shorter: bytes
) -> None:
    mirror.files[DEBS[0].path] = shorter
    with pytest.raises(MirrorError, match="bytes before its end: try again"):
        fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert kept(cache) == []


def test_a_cut_connection_keeps_nothing_and_the_next_try_starts_anew(mirror: LocalMirror, cache: InputCache) -> None:
    mirror.cut.add(DEBS[1].path)
    with pytest.raises(MirrorError, match=r"two_1\.0-1_amd64\.deb: (cut off|IncompleteRead)"):
        fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert kept(cache) == [DEBS[0].sha256]
    mirror.cut.clear()
    fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert cache.read(DEBS[1]) == TWO
    assert mirror.requests.count(DEBS[0].path) == 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_version_that_left_the_mirror_is_named_with_what_to_do(
    mirror: LocalMirror, cache: InputCache, status: int
) -> None:
    mirror.failing[DEBS[0].path] = status
    with pytest.raises(MissingInputError, match=r"one 1\.0-1 is not at the mirror any more: name an archive") as gone:
        fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert (gone.value.name, gone.value.version) == ("one", "1.0-1")
    assert "pinaivu image lock" in str(gone.value)


def test_a_broken_mirror_is_not_a_missing_version(mirror: LocalMirror, cache: InputCache) -> None:
    mirror.failing[DEBS[0].path] = 500
    with pytest.raises(MirrorError, match="HTTP Error 500") as failed:
        fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert not isinstance(failed.value, MissingInputError)


def test_what_does_not_speak_http_is_no_mirror(mirror: LocalMirror, cache: InputCache) -> None:
    mirror.rude.add(DEBS[0].path)
    with pytest.raises(MirrorError, match=r"amd64\.deb: who are you\?"):
        fetch_debs(DEBS, mirror.mirrors, cache, QUIET)


def test_the_next_mirror_has_what_the_first_lacks(mirror: LocalMirror, cache: InputCache) -> None:
    with local_mirror({DEBS[0].path: ONE}) as first:
        fetch_debs(DEBS, {"debian": (first.url, mirror.url)}, cache, QUIET)
        assert first.requests == [one.path for one in DEBS]
    assert mirror.requests == [DEBS[1].path]
    assert [cache.read(one) for one in DEBS] == [ONE, TWO]


def test_where_no_mirror_has_it_the_one_that_failed_counts(mirror: LocalMirror, cache: InputCache) -> None:
    mirror.files.clear()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/debian"
        for mirrors in ((mirror.url, dead), (dead, mirror.url)):
            with pytest.raises(MirrorError, match="Connection refused"):
                fetch_debs(DEBS, {"debian": mirrors}, cache, QUIET)


def test_an_input_that_changed_in_the_cache_is_not_used(tmp_path: Path) -> None:
    cache = cached(tmp_path, ONE)
    cache.path(DEBS[0].sha256).write_bytes(b"")
    with pytest.raises(InputError, match=f"{DEBS[0].sha256}: not what was fetched for one 1.0-1 any more: delete it"):
        cache.read(DEBS[0])


def test_what_an_interrupted_build_left_half_fetched_is_gone(mirror: LocalMirror, cache: InputCache) -> None:
    (cache.folder / "wheels.new").mkdir(parents=True)
    (cache.folder / "wheels.new" / "half.whl").touch()
    (cache.folder / "package.new").write_bytes(ONE[:100])
    fetch_debs(DEBS, mirror.mirrors, cache, QUIET)
    assert kept(cache) == sorted(one.sha256 for one in DEBS)


def test_what_another_build_fetched_in_the_meantime_is_not_fetched_again(tmp_path: Path) -> None:
    class Fetched(Listener):
        """Whoever held the lock has filled the cache by the time it is ours."""

        def say(self, text: str) -> None:
            super().say(text)
            cached(tmp_path, ONE, TWO)
            holder.__exit__(None, None, None)

    cache, listener = InputCache(tmp_path), Fetched()
    holder = cache.filling(QUIET)
    holder.__enter__()
    fetch_debs(DEBS, None, cache, listener)
    assert listener.said == [f"waiting for another build, which has {cache.folder}/.lock"]


def test_wheels_are_fetched_with_pip_by_name_version_and_hash(
    monkeypatch: pytest.MonkeyPatch, cache: InputCache, tmp_path: Path
) -> None:
    index = offline_index(monkeypatch, tmp_path, "1.0", "2.0")
    one = wheel("tiny", distribution("1.0"))
    fetch_wheels([one], cache, QUIET)
    assert cache.read(one) == distribution("1.0")
    for file in index.iterdir():
        file.unlink()
    fetch_wheels([one], cache, QUIET)
    assert kept(cache) == [one.sha256]


def test_a_wheel_whose_version_left_the_index_is_missing(
    monkeypatch: pytest.MonkeyPatch, cache: InputCache, tmp_path: Path
) -> None:
    offline_index(monkeypatch, tmp_path, "2.0")
    with pytest.raises(MissingInputError, match=r"tiny 1\.0 is not at the mirror any more"):
        fetch_wheels([wheel("tiny", distribution("1.0"))], cache, QUIET)


def test_a_wheel_with_another_hash_is_refused_by_pip(
    monkeypatch: pytest.MonkeyPatch, cache: InputCache, tmp_path: Path
) -> None:
    offline_index(monkeypatch, tmp_path, "1.0")
    with pytest.raises(MirrorError, match="DO NOT MATCH THE HASHES"):
        fetch_wheels([msgspec.structs.replace(wheel("tiny", distribution("1.0")), sha256="0" * 64)], cache, QUIET)
    assert kept(cache) == []


def test_an_index_without_the_package_is_not_taken_for_a_missing_version(
    monkeypatch: pytest.MonkeyPatch, cache: InputCache, tmp_path: Path
) -> None:
    offline_index(monkeypatch, tmp_path)
    with pytest.raises(MirrorError, match="No matching distribution") as failed:
        fetch_wheels([wheel("tiny", b"")], cache, QUIET)
    assert not isinstance(failed.value, MissingInputError)


def test_modules_in_the_folder_where_a_build_starts_are_not_run(
    monkeypatch: pytest.MonkeyPatch, cache: InputCache, tmp_path: Path
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    offline_index(monkeypatch, tmp_path, "1.0")
    fetch_wheels([wheel("tiny", distribution("1.0"))], cache, QUIET)
    assert kept(cache) == [wheel("tiny", distribution("1.0")).sha256]


def distribution(version: str) -> bytes:
    """A wheel that pip takes."""
    folder = f"tiny-{version}.dist-info"
    return wheel_bytes(
        {
            "tiny.py": b"",
            f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n".encode(),
            f"{folder}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{folder}/RECORD": b"",
        }
    )


def offline_index(monkeypatch: pytest.MonkeyPatch, folder: Path, *versions: str) -> Path:
    """Have pip look into a folder with these versions, and nowhere else."""
    index = folder / "index"
    index.mkdir()
    for version in versions:
        (index / f"tiny-{version}-py3-none-any.whl").write_bytes(distribution(version))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index
