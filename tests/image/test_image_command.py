"""`pinaivu image inspect | diff | pcrs` as people and scripts run them: exit status and output."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.image.images import APPLICATION, BOOT, CMDLINE, KERNEL, METADATA, certificate_of, file, image, key_pem

from pinaivu_shared.eif.cpio import write_cpio
from pinaivu_shared.eif.description import describe
from pinaivu_shared.eif.format import parse_eif, write_eif
from pinaivu_shared.eif.measurements import measure
from pinaivu_shared.eif.metadata import encode_metadata

BASE_ONLY = """
import sys
for name in ("rich", "trio", "cffi", "boto3", "pydantic", "pip"):
    sys.modules[name] = None  # type: ignore
from pinaivu_shared.command import main
raise SystemExit(main())
"""
"""Only what `pip install pinaivu` brings."""


def run(*arguments: str | Path, encoding: str = "utf-8", program: str = BASE_ONLY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, "image", *map(str, arguments)]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ended = subprocess.run(command, capture_output=True, encoding=encoding, check=False, env=environment)
    assert "Traceback" not in ended.stderr
    return ended


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "one.eif").write_bytes(image())
    return tmp_path / "one.eif"


def test_inspect_prints_the_image_and_notes_on_stderr(path: Path) -> None:
    ended = run("inspect", path)
    assert ended.returncode == 0
    assert "init" in ended.stdout
    assert "not measured: the header" in ended.stderr
    assert "not measured: the header" not in ended.stdout


def test_inspect_exits_1_where_files_cannot_be_listed(tmp_path: Path) -> None:
    odd = tmp_path / "odd.eif"
    odd.write_bytes(image(ramdisks=(BOOT, b"junk")))
    ended = run("inspect", odd)
    assert ended.returncode == 1
    assert "\nramdisk 2: files cannot be listed: at byte 0: 6a756e6b" in ended.stdout
    assert "ramdisk 2: its files cannot be listed" in ended.stderr
    assert run("inspect", odd, "--json").returncode == 1
    assert run("diff", odd, odd).returncode == 0


def test_inspect_json_is_one_line_with_the_notes_inside(path: Path) -> None:
    ended = run("inspect", path, "--json")
    (line,) = ended.stdout.splitlines()
    assert json.loads(line)["notes"]
    assert ended.stderr == ""


def test_diff_exits_0_for_the_same_1_for_different_2_for_unreadable(path: Path, tmp_path: Path) -> None:
    other, broken = tmp_path / "two.eif", tmp_path / "broken.eif"
    other.write_bytes(image(kernel=KERNEL + b"!"))
    broken.write_bytes(image()[:-1])
    assert run("diff", path, path).returncode == 0
    different = run("diff", path, other)
    assert different.returncode == 1
    assert "kernel" in different.stdout
    assert json.loads(run("diff", path, other, "--json").stdout)["same"] is False
    for pair in ((path, broken), (broken, path), (path, tmp_path / "absent.eif")):
        ended = run("diff", *pair)
        assert ended.returncode == 2
        assert ended.stdout == ""
        assert ended.stderr.count("\n") == 1


def test_an_unreadable_image_is_named_with_its_fault(tmp_path: Path) -> None:
    broken = tmp_path / "broken.eif"
    broken.write_bytes(b"MZ" + image())
    for command in ("inspect", "pcrs"):
        ended = run(command, broken)
        assert ended.returncode == 2
        assert ended.stdout == ""
        assert "broken.eif: magic: the file begins with 4d5a2e65" in ended.stderr


def test_pcrs_prints_one_line_for_each_register(path: Path) -> None:
    lines = dict(line.split() for line in run("pcrs", path).stdout.splitlines())
    assert lines == measure(parse_eif(image())).as_hex()


def test_pcrs_json_is_what_describe_eif_prints(path: Path) -> None:
    printed = run("pcrs", path, "--json").stdout
    assert printed == json.dumps(describe(parse_eif(image())), indent=2) + "\n"
    assert '\n  "Measurements": {\n    "HashAlgorithm": "Sha384 { ... }",\n    "PCR0": "' in printed


ODD_NAME = "\u009b2J\u202e\x7f\x1b[2Jü€"


def test_pcrs_json_has_no_control_characters(tmp_path: Path) -> None:
    odd = tmp_path / "odd.eif"
    metadata = encode_metadata(msgspec.structs.replace(METADATA, image_name=ODD_NAME))
    odd.write_bytes(write_eif(kernel=KERNEL, cmdline=CMDLINE, metadata=metadata, ramdisks=(BOOT, APPLICATION)))
    printed = run("pcrs", odd, "--json").stdout
    assert printed.isascii()
    assert [one for one in printed if not one.isprintable() and one != "\n"] == []
    assert json.loads(printed)["ImageName"] == ODD_NAME


def test_a_name_that_the_terminal_cannot_spell_is_escaped_and_changes_no_exit_status(tmp_path: Path) -> None:
    one, two = tmp_path / "one.eif", tmp_path / "two.eif"
    one.write_bytes(image(ramdisks=(BOOT, write_cpio([file("ü€", b"1")]))))
    two.write_bytes(image(ramdisks=(BOOT, write_cpio([file("ü€", b"2")]))))
    for encoding, shown in (("utf-8", "ü€"), ("ascii", "\\xfc\\u20ac"), ("latin-1", "ü\\u20ac")):
        for status, arguments in ((0, ("inspect", one)), (1, ("diff", one, two))):
            ended = run(*arguments, encoding=encoding)
            assert (ended.returncode, ended.stderr.count("Error")) == (status, 0)
            assert shown in ended.stdout
            assert run(*arguments, "--json", encoding=encoding).returncode == status


FULL_DISK = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n{BASE_ONLY}"
"""No file can become longer than 1000 bytes."""


def test_a_full_disk_leaves_what_was_there_before(path: Path, tmp_path: Path) -> None:
    key, folder = ec.generate_private_key(ec.SECP384R1()), tmp_path / "outputs"
    (tmp_path / "key.pem").write_bytes(key_pem(key))
    (tmp_path / "certificate.pem").write_bytes(certificate_of(key, now=dt.datetime.now(dt.UTC)))
    folder.mkdir()
    (folder / "old.eif").write_bytes(b"old")
    flags = ("--private-key", tmp_path / "key.pem", "--signing-certificate", tmp_path / "certificate.pem")
    for name in ("old.eif", "new.eif"):
        ended = run("pcrs", path, *flags, "--output", folder / name, program=FULL_DISK)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"pinaivu image: {folder / name}: File too large\n"
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == {"old.eif": b"old"}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(("inspect", ""), "FILE"), (("pcrs", ""), "FILE"), (("diff", "", "x"), "A"), (("diff", "x", ""), "B")],
)
def test_an_empty_name_is_refused_and_says_whose_it_is(arguments: tuple[str, ...], name: str) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith(f"error: argument {name}: the name is empty\n")


def test_a_reader_that_has_seen_enough_is_no_error_to_talk_about(tmp_path: Path) -> None:
    entries = [file(f"{number:05}" + "x" * 60) for number in range(2000)]  # more than a pipe holds
    (tmp_path / "long.eif").write_bytes(image(ramdisks=(BOOT, write_cpio(entries))))
    command = [sys.executable, "-c", BASE_ONLY, "image", "inspect", str(tmp_path / "long.eif")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_pcrs_signs_and_prints_pcr8_too(path: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "key.pem").write_bytes(key_pem(key))
    (tmp_path / "certificate.pem").write_bytes(certificate_of(key, now=dt.datetime.now(dt.UTC)))
    flags = ("--private-key", tmp_path / "key.pem", "--signing-certificate", tmp_path / "certificate.pem")
    ended = run("pcrs", path, *flags, "--output", tmp_path / "signed.eif")
    assert ended.returncode == 0, ended.stderr
    eif = parse_eif((tmp_path / "signed.eif").read_bytes())
    assert dict(line.split() for line in ended.stdout.splitlines()) == measure(eif).as_hex()
    described = json.loads(run("pcrs", tmp_path / "signed.eif", "--json").stdout)
    assert (described["IsSigned"], described["SignatureCheck"]) == (True, True)
    assert path.read_bytes() == image()


def test_half_of_what_signing_needs_is_wrong_usage(path: Path, tmp_path: Path) -> None:
    for flags in (("--output", "x.eif"), ("--private-key", "k"), ("--private-key", "k", "--signing-certificate", "c")):
        ended = run("pcrs", path, *flags)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "together" in ended.stderr
    missing = run("pcrs", path, "--private-key", "", "--signing-certificate", "c", "--output", tmp_path / "x.eif")
    assert missing.returncode == 2
    assert not (tmp_path / "x.eif").exists()


def test_no_command_is_wrong_usage_with_the_list() -> None:
    ended = run()
    assert ended.returncode == 2
    assert "usage: pinaivu image" in ended.stderr
