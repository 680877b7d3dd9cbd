"""Mirrors are those of the machine's apt, in both of its formats, or those that the caller names. None is trusted."""

from pathlib import Path

import pytest

from pinaivu_image.errors import MirrorError
from pinaivu_image.mirrors import deb822_sources, machine_mirrors, named_mirrors, one_line_sources

ONE_LINE = {
    "deb http://m.example/debian trixie main": ["http://m.example/debian"],
    "deb http://m.example:8080/debian/ trixie main contrib": ["http://m.example:8080/debian/"],
    "deb https://m.example/debian trixie contrib main # mine": ["https://m.example/debian"],
    "deb [arch=amd64 signed-by=/usr/share/k.gpg] http://m.example/debian trixie main": ["http://m.example/debian"],
    "  deb\thttp://m.example/debian\ttrixie\tmain": ["http://m.example/debian"],
    "# deb http://m.example/debian trixie main": [],
    "#deb http://m.example/debian trixie main": [],
    "deb-src http://m.example/debian trixie main": [],
    "deb http://m.example/debian trixie contrib": [],
    "deb http://m.example/debian trixie contrib # main": [],
    "deb http://m.example/debian ./": [],
    "deb": [],
    "": [],
}
DEB822 = {
    "plain": ("Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n", 1),
    "names in any case": ("types: deb\nuris: http://m.example/debian\nsuites: trixie\ncomponents: main\n", 1),
    "several": ("Types: deb deb-src\nURIs: http://a/debian http://b/debian\nSuites: x\nComponents: main\n", 2),
    "going on for lines": ("Types: deb\nURIs:\n http://a/debian\n\thttp://b/debian\nSuites: x\nComponents: main\n", 2),
    "enabled": ("Enabled: yes\nTypes: deb\nURIs: http://m/debian\nSuites: x\nComponents: main\n", 1),
    "disabled": ("Enabled: no\nTypes: deb\nURIs: http://m/debian\nSuites: x\nComponents: main\n", 0),
    "disabled, last": ("Types: deb\nURIs: http://m/debian\nSuites: x\nComponents: main\nEnabled: No\n", 0),
    "source only": ("Types: deb-src\nURIs: http://m/debian\nSuites: x\nComponents: main\n", 0),
    "other component": ("Types: deb\nURIs: http://m/debian\nSuites: x\nComponents: contrib\n", 0),
    "commented out": ("# Types: deb\n# URIs: http://m/debian\n# Suites: x\n# Components: main\n", 0),
    "comment inside": ("Types: deb\n# old\nURIs: http://m/debian\nSuites: x\nComponents: main\n", 1),
    "comment within a field": (
        "Types: deb\nURIs: http://a/debian\n# http://b/debian\nSuites: x\nComponents: main\n",
        1,
    ),
    "two stanzas, one disabled": (
        "Enabled: no\nTypes: deb\nURIs: http://a\nComponents: main\n \n\nTypes: deb\nURIs: http://b\nComponents: main",
        1,
    ),
    "nothing": ("", 0),
}


def apt(folder: Path, **files: str) -> Path:
    """A folder like /etc/apt."""
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        place = folder if name == "sources.list" else folder / "sources.list.d"
        (place / name).write_text(text)
    return folder


@pytest.mark.parametrize("line", ONE_LINE)
def test_a_line_names_a_mirror_or_nothing(line: str) -> None:
    assert list(one_line_sources(line)) == ONE_LINE[line]


@pytest.mark.parametrize("name", DEB822)
def test_a_stanza_names_mirrors_or_nothing(name: str) -> None:
    text, count = DEB822[name]
    assert len(list(deb822_sources(text))) == count


def test_both_formats_are_read_and_other_files_are_not(tmp_path: Path) -> None:
    files = {
        "sources.list": "deb http://one/debian trixie main\n",
        "a.list": "deb http://two/debian trixie main\ndeb http://one/debian/ trixie main\n",
        "b.sources": "Types: deb\nURIs: http://three/debian-security\nSuites: trixie-security\nComponents: main\n",
        "c.list.disabled": "deb http://four/debian trixie main\n",
        "d.list.save": "deb http://five/debian trixie main\n",
    }
    assert machine_mirrors(apt(tmp_path, **files)) == {
        "debian": ("http://one/debian", "http://two/debian"),
        "debian-security": ("http://three/debian-security",),
    }


def test_sources_of_other_archives_are_left_alone(tmp_path: Path) -> None:
    others = (
        "https://vendor.example/linux/debian/12/prod",
        "https://vendor.example/debian-stable",
        "http://m.example/ubuntu",
        "cdrom:[Debian]/debian",
        "file:/srv/debian",
        "mirror+file:/etc/apt/mirrors/debian",
        "http://user:secret@m.example/debian",
    )
    text = "".join(f"deb {url} trixie main\n" for url in others)
    with pytest.raises(MirrorError, match="name one with --mirror"):
        machine_mirrors(apt(tmp_path, **{"sources.list": text}))


def test_a_machine_without_apt_has_no_mirror(tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match=f"no Debian mirror under {tmp_path}: name one with --mirror"):
        machine_mirrors(tmp_path)


@pytest.mark.parametrize(
    ("named", "beside"),
    [
        ("http://m/debian", "http://m/debian-security"),
        ("https://m:8443/pub/debian/", "https://m:8443/pub/debian-security"),
        ("http://m/archive/debian/20261125T000000Z", "http://m/archive/debian-security/20261125T000000Z"),
        ("http://debian/debian", "http://debian/debian-security"),
        ("http://m/debian/debian", "http://m/debian/debian-security"),
    ],
)
def test_one_archive_is_looked_for_beside_the_other(named: str, beside: str) -> None:
    assert named_mirrors([named]) == {"debian": (named.rstrip("/"),), "debian-security": (beside,)}
    assert named_mirrors([beside]) == {"debian": (named.rstrip("/"),), "debian-security": (beside,)}


def test_mirrors_are_asked_in_the_order_in_which_they_are_named() -> None:
    urls = ["http://b/debian", "http://a/debian", "http://s/debian-security", "http://b/debian/"]
    assert named_mirrors(urls) == {
        "debian": ("http://b/debian", "http://a/debian"),
        "debian-security": ("http://s/debian-security",),
    }


@pytest.mark.parametrize(
    "url",
    [
        "", "debian", "m.example/debian", "ftp://m/debian", "file:///srv/debian", "http:///debian", "http://m/", "http://m",
        "http://debian", "http://m/ubuntu", "http://m/debian/pool", "http://m/debian?x=1", "http://m/debian#x",
        "http://m/xdebian", "http://[m/debian",
    ],
)  # fmt: skip
def test_an_address_that_is_no_mirrors_is_refused(url: str) -> None:
    with pytest.raises(MirrorError, match="a mirror's address begins with http:// or https:// and ends in"):
        named_mirrors(["http://m/debian", url])


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(MirrorError, match="no password") as refused:
        named_mirrors(["http://user:secret@m.example/debian"])
    assert "secret" not in str(refused.value)
