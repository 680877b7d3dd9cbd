"""`pinaivu image inspect`: everything in an image is shown, and what nobody measures is said."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.image.images import (
    APPLICATION,
    BOOT,
    CMDLINE,
    TRAILER,
    certificate_of,
    directory,
    file,
    image,
    inputs_file,
    link,
    raw_entry,
    zipped,
)

from pinaivu_image.inputs import APPLICATION_INPUTS, BOOT_INPUTS, BuildInput, BuildInputs, encode_inputs, find_inputs
from pinaivu_image.inspection import inspect_image, inspection_json
from pinaivu_image.ramdisk import open_ramdisks
from pinaivu_image.rendering import inspection_lines
from pinaivu_shared.eif.budget import Budget
from pinaivu_shared.eif.cpio import CpioEntry, with_parents, write_cpio
from pinaivu_shared.eif.format import parse_eif
from pinaivu_shared.eif.measurements import measure
from pinaivu_shared.eif.signature import make_signature

OURS = write_cpio(with_parents([file("app/main.py", b"x"), inputs_file("1.0", {"app/main.py": "pinaivu"})]))


def text(raw: bytes) -> str:
    return "\n".join(inspection_lines(inspect_image(raw)))


def test_every_section_is_listed_with_its_place_size_and_hash() -> None:
    raw = image()
    shown = inspection_json(inspect_image(raw))
    names = ["kernel", "cmdline", "metadata", "ramdisk 1", "ramdisk 2"]
    assert [section["name"] for section in shown["sections"]] == names
    for section in shown["sections"]:
        data = raw[section["offset"] + 12 :][: section["size"]]
        assert hashlib.sha256(data).hexdigest() == section["sha256"]
        assert section["measured"] == (section["name"] != "metadata")
    assert shown["cmdline"] == CMDLINE.decode()
    assert shown["header"]["default_memory_bytes"] == 1 << 30
    assert shown["measurements"] == measure(parse_eif(raw)).as_hex()


def test_every_file_is_listed_with_its_mode_size_and_hash() -> None:
    first, second = inspection_json(inspect_image(image()))["ramdisks"]
    assert first["files"] == [
        {"path": "dev", "kind": "directory", "mode": "0755"},
        {"path": "dev/console", "kind": "character device", "mode": "0600", "device": [5, 1]},
        {
            "path": "init",
            "kind": "file",
            "mode": "0755",
            "size": 15,
            "sha256": hashlib.sha256(b"#!/sbin/python\n").hexdigest(),
        },
    ]
    assert second["files"][1] == {"path": "app/latest", "kind": "link", "mode": "0777", "target": "main.py"}


def test_a_file_names_the_input_it_came_from() -> None:
    _, second = inspection_json(inspect_image(image(ramdisks=(BOOT, OURS))))["ramdisks"]
    assert [entry.get("input") for entry in second["files"] if entry["path"] == "app/main.py"] == ["pinaivu"]
    assert "app/main.py  [pinaivu]" in text(image(ramdisks=(BOOT, OURS)))


SUMMARY = """\
inputs, as the image itself states; only a rebuild proves it:
  ramdisk 1: none stated
    of no input                                                               2 files, 15 bytes
  ramdisk 2:
    kernel-source linux                    6.12                               no file of it
    wheel         msgspec                  1.0                                2 files, 7 bytes
    toolchain     1 packages, which --json names                              no file of them
    of no input                                                               1 files, {rest} bytes
"""


def test_the_text_begins_with_what_came_from_each_input() -> None:
    wheel = BuildInput(kind="wheel", name="msgspec", version="1.0", sha256="a" * 64)
    kernel = BuildInput(kind="kernel-source", name="linux", version="6.12", sha256="b" * 64)
    tool = BuildInput(kind="toolchain", name="msgspec", version="0.9", sha256="c" * 64)
    files = {"lib/msgspec.so": "msgspec", "lib/link": "msgspec", "lib": "msgspec"}
    stated = file(APPLICATION_INPUTS, encode_inputs(BuildInputs(inputs=(wheel, kernel, tool), files=files)))
    entries = [file("lib/msgspec.so", b"machine"), link("lib/link", "msgspec.so"), stated]
    raw = image(ramdisks=(BOOT, write_cpio(with_parents(entries))))
    assert text(raw).startswith(SUMMARY.format(rest=len(stated.data)))
    _, second = inspection_json(inspect_image(raw))["ramdisks"]
    assert [(one["kind"], one["name"], one["files"], one["size"]) for one in second["inputs"]] == [
        ("kernel-source", "linux", 0, 0),
        ("toolchain", "msgspec", 0, 0),
        ("wheel", "msgspec", 2, 7),
    ]


def test_a_ramdisk_that_cannot_be_listed_says_so_in_its_place() -> None:
    found = inspect_image(image(ramdisks=(b"junk", APPLICATION)))
    lines = list(inspection_lines(found))
    reason = "at byte 0: 6a756e6b where a cpio header, zeros or compressed data should be"
    said = f"ramdisk 1: files cannot be listed: {reason}"
    assert [line for line in lines if line.strip().startswith("ramdisk 1: ")] == [f"  {said}", said]
    assert lines.index(said) < lines.index("ramdisk 2: 3 entries")
    assert (found.listed, inspect_image(image()).listed) == (False, True)
    assert inspection_json(found)["ramdisks"][0]["unlisted"] == reason


def test_a_signed_image_says_by_whom_and_whether_the_signature_holds() -> None:
    key = ec.derive_private_key(3, ec.SECP256R1())
    section = make_signature(measure(parse_eif(image())).pcr0, key=key, certificate_pem=certificate_of(key))
    signature = inspection_json(inspect_image(image(signature=section)))["signature"]
    assert signature["holds"] is True
    assert signature["certificate"]["IssuerName"] == {"commonName": "Pinaivu", "countryName": "IN"}
    assert "commonName=Pinaivu, countryName=IN; the signature holds" in text(image(signature=section))
    assert "the signature DOES NOT HOLD" in text(image(kernel=b"another", signature=section))


def test_people_are_told_what_is_not_measured() -> None:
    notes = inspect_image(image()).notes
    assert len(notes) == 1
    for unmeasured in ("header", "metadata", "signature", "ends and the next begins"):
        assert unmeasured in notes[0]
    assert "metadata" in text(image())
    assert "not measured" in text(image())


@pytest.mark.parametrize(
    ("ramdisks", "note"),
    [
        ((BOOT,), "PCR2 is the same constant"),
        ((zipped(BOOT) + b"\0" * (1 + -len(zipped(BOOT)) % 4), APPLICATION), "ramdisk 1 is not padded to 4 bytes"),
        ((BOOT, b"\xfd7zXZ\0" + bytes(50)), "ramdisk 2: its files cannot be listed: at byte 0 compressed with xz"),
        ((BOOT, b"junk"), "ramdisk 2: its files cannot be listed: at byte 0: 6a756e6b"),
        ((BOOT, write_cpio([file("a")]) + write_cpio([file("a", b"x")])), "cannot be listed: 'a' is written twice"),
    ],
)
def test_what_is_odd_about_ramdisks_is_noted(ramdisks: tuple[bytes, ...], note: str) -> None:
    found = inspect_image(image(ramdisks=ramdisks))
    assert any(note in one for one in found.notes), found.notes


def test_a_last_ramdisk_may_have_any_length() -> None:
    assert len(inspect_image(image(ramdisks=(BOOT, zipped(APPLICATION) + b"\0"))).notes) == 1


def test_gzip_ramdisks_are_listed_as_plain_ones_are() -> None:
    plain, packed = (
        inspection_json(inspect_image(image(ramdisks=pair))) for pair in ((BOOT, OURS), (BOOT, zipped(OURS)))
    )
    assert plain["ramdisks"] == packed["ramdisks"]


def test_names_cannot_forge_lines_or_colours() -> None:
    odd = CpioEntry(path="a\nramdisk 9\x1b[31m\u202e\udcff", mode=0o100644)
    shown = text(image(ramdisks=(write_cpio([odd]),)))
    assert "a\\nramdisk 9\\x1b[31m\\u202e\\udcff" in shown
    assert "\x1b" not in shown


def test_content_that_many_links_share_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = hashlib.sha256

    def counted(data: bytes) -> object:
        hashed.append(len(data))
        return real(data)

    links = (raw_entry(b"%d\0" % number, b"x" * 99 * (number == 9), ino=7, nlink=10) for number in range(10))
    found = inspect_image(image(ramdisks=(b"".join(links) + TRAILER,)))
    monkeypatch.setattr(hashlib, "sha256", counted)
    shown = inspection_json(found)["ramdisks"][0]["files"]
    assert {one["sha256"] for one in shown} == {real(b"x" * 99).hexdigest()}
    assert hashed.count(99) == 1


def test_one_budget_holds_for_all_ramdisks_of_an_image() -> None:
    packed = [zipped(raw_entry(name, bytes(1 << 20)) + TRAILER) for name in (b"a\0", b"b\0", b"c\0")]
    found = open_ramdisks(packed, Budget(max_bytes=(5 << 20) // 2))
    assert [len(ramdisk.entries) for ramdisk in found] == [1, 1, 0]
    assert "unpacks to more than 2621440 bytes" in found[2].notes[0]


FOREIGN: list[tuple[str, bytes]] = [
    ("no JSON", b"hello"),
    ("not UTF-8", b'{"inputs":[],"files":{"a":"\xff"}}'),
    ("another shape", b'{"inputs":{"a":1},"files":{}}'),
    (
        "an unknown kind",
        b'{"inputs":[{"kind":"rpm","name":"a","version":"1","sha256":"' + b"0" * 64 + b'"}],"files":{}}',
    ),
    ("no hash", b'{"inputs":[{"kind":"deb","name":"a","version":"1","sha256":"-"}],"files":{}}'),
    ("deeply nested", b'{"inputs":[],"files":{},"more":' + b"[" * 100_000),
    ("too large", b" " * ((1 << 24) + 1)),
]


@pytest.mark.parametrize("content", [case[1] for case in FOREIGN], ids=[case[0] for case in FOREIGN])
def test_foreign_content_where_our_inputs_would_be_is_a_note(content: bytes) -> None:
    for path in (BOOT_INPUTS, APPLICATION_INPUTS):
        inputs, note = find_inputs([file(path, content)])
        assert inputs is None
        assert note is not None
        assert note.startswith(path)
    assert find_inputs([directory("usr")]) == (None, None)


def test_inputs_are_written_sorted_and_read_again() -> None:
    wheel = BuildInput(kind="wheel", name="trio", version="0.35", sha256="a" * 64)
    deb = BuildInput(kind="deb", name="libc6", version="2.36", sha256="b" * 64)
    files = {"usr/lib/b": "trio", "usr/lib/a": "libc6"}
    one = encode_inputs(BuildInputs(inputs=(wheel, deb), files=files))
    other = encode_inputs(BuildInputs(inputs=(deb, wheel), files=dict(reversed(files.items()))))
    assert one == other
    for path in (BOOT_INPUTS, APPLICATION_INPUTS):
        assert find_inputs([file(path, one)]) == (BuildInputs(inputs=(deb, wheel), files=files), None)


def test_a_ramdisk_that_states_its_inputs_twice_states_none() -> None:
    content = encode_inputs(BuildInputs(inputs=(), files={}))
    inputs, note = find_inputs([file(BOOT_INPUTS, content), file(APPLICATION_INPUTS, content)])
    assert inputs is None
    assert note is not None
    assert "are both there" in note
