"""All that is in the image is named here; what is not named, nobody finds in an enclave.

The lists are meant to be short and to be changed by hand: a package that brings a new module shows up as a failure.
"""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.boot.builds import Surroundings

from pinaivu_enclave import init
from pinaivu_image.build_root import BuildRoot, build_root
from pinaivu_image.building import BuildPlan
from pinaivu_image.contents import LIBRARIES
from pinaivu_image.fetch import InputCache
from pinaivu_image.inputs import APPLICATION_INPUTS, BOOT_INPUTS
from pinaivu_image.inspection import Inspection, inspect_image
from pinaivu_image.lock import Deb, Wheel
from pinaivu_image.progress import SilentReporter
from pinaivu_shared.eif.cpio import CpioEntry, read_cpio
from pinaivu_shared.eif.format import parse_eif

TOP = {"bin", "dev", "init", "lib", "lib64", "proc", "run", "sys", "tmp", "usr"}
PROGRAMS = {"init", "usr/bin/python3.13"}
OURS = {"pinaivu_enclave", "pinaivu_shared"}
THEIRS = {
    "_cffi_backend", "attr", "attrs", "cbor2", "cffi", "cryptography", "h11", "idna", "msgspec", "outcome", "pycparser",
    "rfc8785", "sniffio", "sortedcontainers", "trio",
}  # fmt: skip
STANDARD_LIBRARY = {
    "LICENSE", "__future__", "_collections_abc", "_colorize", "_compression", "_opcode_metadata", "_py_abc", "_pylong",
    "_sitebuiltins", "_strptime", "_threading_local", "_weakrefset", "abc", "argparse", "ast", "base64", "bisect",
    "calendar", "codecs", "collections", "contextlib", "contextvars", "copy", "copyreg", "csv", "ctypes", "dataclasses",
    "datetime", "decimal", "dis", "email", "encodings", "enum", "fnmatch", "fractions", "functools", "genericpath",
    "gettext", "glob", "gzip", "hashlib", "heapq", "hmac", "importlib", "inspect", "io", "ipaddress", "json", "keyword",
    "linecache", "locale", "logging", "ntpath", "numbers", "opcode", "operator", "os", "pathlib", "pkgutil", "platform",
    "posixpath", "pprint", "queue", "quopri", "random", "re", "reprlib", "runpy", "secrets", "selectors", "shutil",
    "signal", "site", "socket", "ssl", "stat", "string", "stringprep", "struct", "subprocess", "tempfile", "textwrap",
    "threading", "token", "tokenize", "traceback", "types", "typing", "urllib", "uuid", "warnings", "weakref",
    "zipfile", "zipimport",
}  # fmt: skip
EXTENSIONS = {"_contextvars", "_ctypes", "_decimal", "_hashlib", "_queue", "_ssl"}
ABSENT = {
    *("_frozen_importlib", "_frozen_importlib_external", "collections.abc", "os.path"),  # made when Python starts
    *("_ios_support", "_winapi", "_wmi", "asyncio.windows_utils", "ctypes._aix", "ctypes.macholib.dyld"),  # elsewhere
    *("encodings.mbcs", "java.lang", "msvcrt", "nt", "plistlib", "vms_lib", "winreg"),  # other systems
    *("_dummy_thread", "annotationlib", "dummy_thread", "exceptiongroup", "thread", "typing_extensions"),  # versions
    *("_pydatetime", "_pydecimal", "_uuid", "cffi._shimmed_dist_utils", "tomli"),  # where something else is missing
    *("OpenSSL", "asyncio", "bcrypt", "curio.meta", "pycparser.lextab", "pycparser.yacctab", "yaml"),  # if it is there
    *("hypothesis", "hypothesis.internal.reflection", "sitecustomize", "trio.testing._raises_group", "usercustomize"),
    *("bz2", "lzma", "py_compile", "tarfile", "tomllib", "tomli_w", "tracemalloc"),  # formats that nobody asks for
    *("_pyrepl.main", "_pyrepl.readline", "_pyrepl.unix_console", "_pyrepl.windows_console", "pydoc", "readline"),
    *("doctest", "getopt", "rlcompleter", "statistics"),  # and what only a person would start
    *("pickle", "sysconfig", "_typeshed"),  # to refuse pickling a logger; to name an extension to compile; for types
}
"""Modules that code in the image could import and that are not in it; each import was looked at."""

FIND_ABSENT = """\
import ast, json, pathlib, sys
roots = [pathlib.Path("tree", name) for name in json.loads(sys.argv[1])]
files = [(root, path) for root in roots for path in root.rglob("*") if path.suffix in (".py", ".so")]
names = {str(path.relative_to(root)).split(".")[0].removesuffix("/__init__").replace("/", ".") for root, path in files}
present = {*names, *(name.rpartition(".")[0] for name in names), *sys.builtin_module_names}
for root, path in files:
    for node in ast.walk(ast.parse(path.read_bytes())) if path.suffix == ".py" else ():
        wanted = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            wanted = [node.module]
        for name in wanted:
            if name not in present:
                print(name)
"""


@pytest.fixture(scope="module")
def inspection(image: Path) -> Inspection:
    return inspect_image(image.read_bytes())


@pytest.fixture(scope="module")
def files(inspection: Inspection) -> dict[str, CpioEntry]:
    """Both ramdisks, as the kernel puts one above the other."""
    return {path: entry for ramdisk in inspection.ramdisks for path, entry in ramdisk.files.items()}


@pytest.fixture(scope="module")
def inside(plan: BuildPlan, files: dict[str, CpioEntry]) -> Iterator[BuildRoot]:
    """The image's files under `tree` in the build root, whose tools know better than ours what they are."""
    inputs = InputCache(plan.cache)
    with build_root(plan.cache, plan.lock.build, inputs, SilentReporter()) as root:
        for path, entry in files.items():
            place = root.work / "tree" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISREG(entry.mode):
                place.write_bytes(entry.data)
        yield root


def below(files: dict[str, CpioEntry], folder: str) -> set[str]:
    """Names of what lies in a folder, without endings."""
    inside = [path.removeprefix(f"{folder}/") for path in files if path.startswith(f"{folder}/")]
    return {path.split("/")[0].split(".")[0] for path in inside} - {"__pycache__"}


def output(root: BuildRoot, *command: str) -> list[str]:
    lines: list[str] = []
    root.run("look", command, on_line=lines.append)
    return [line.strip() for line in lines]


def test_inspect_lists_every_file_that_another_reader_finds(plan: BuildPlan, image: Path, inside: BuildRoot) -> None:
    here = Surroundings(checkout=plan.source, cache=plan.cache)
    listed = json.loads(here.run("inspect", image, "--json").stdout)
    for ramdisk, section in zip(listed["ramdisks"], inspect_image(image.read_bytes()).eif.ramdisks, strict=True):
        (inside.work / "ramdisk").write_bytes(section.rstrip(b"\0") + bytes(8))
        found = output(inside, "sh", "-c", "gzip -dc ramdisk 2>/dev/null | cpio --list --quiet")
        assert [file["path"] for file in ramdisk["files"]] == found
        assert ramdisk["notes"] == []


def test_everything_is_roots_and_nobody_else_writes_it(files: dict[str, CpioEntry]) -> None:
    for path, entry in files.items():
        modes = {stat.S_IFREG: (0o644, 0o755), stat.S_IFDIR: (0o755,), stat.S_IFLNK: (0o777,)}
        assert stat.S_IMODE(entry.mode) in modes[stat.S_IFMT(entry.mode)], path
        assert (entry.uid, entry.gid, entry.mtime_s, entry.rdev) == (0, 0, 0, (0, 0)), path


def test_every_file_has_a_locked_input(plan: BuildPlan, inspection: Inspection) -> None:
    boot, application = inspection.ramdisks
    for ramdisk in inspection.ramdisks:
        for path, entry in ramdisk.files.items():
            if not stat.S_ISDIR(entry.mode) and path not in {BOOT_INPUTS, APPLICATION_INPUTS}:
                assert ramdisk.input_of(path) is not None, path
    assert boot.inputs is not None
    assert application.inputs is not None
    locked: list[Deb | Wheel] = [*plan.lock.boot, *plan.lock.wheels]
    used = {one.name for one in locked} | {"pinaivu-init"}
    assert set(boot.inputs.files.values()) == used, "no compiler, and nothing else of the build root"
    assert set(application.inputs.files.values()) == {"pinaivu"}
    hashes = {one.sha256 for one in (*locked, *plan.lock.build, plan.lock.kernel)}
    assert {one.sha256 for one in boot.inputs.inputs if one.kind not in {"source", "kernel-config"}} == hashes


def test_there_is_no_shell_no_compiler_and_no_configuration(files: dict[str, CpioEntry]) -> None:
    assert {path.split("/")[0] for path in files} == TOP
    assert {path for path in files if "bin/" in path} == {"usr/bin/python3.13"}
    programs = {path for path, entry in files.items() if stat.S_ISREG(entry.mode) and entry.mode & 0o111}
    assert {path for path in programs if ".so" not in path.rpartition("/")[2]} == PROGRAMS


def test_nothing_is_there_for_developers(files: dict[str, CpioEntry]) -> None:
    endings = (".a", ".c", ".h", ".la", ".o", ".pc", ".pth", ".pyi", ".pyx", ".sh", ".whl", "py.typed", "RECORD")
    assert [path for path in files if path.endswith(endings)] == []
    folders = {"test", "tests", "testing", "_tests", "include", "pip", "setuptools", "ensurepip"}
    assert [path for path in files if not folders.isdisjoint(path.split("/"))] == []


def test_every_package_is_named_here(files: dict[str, CpioEntry]) -> None:
    assert below(files, "usr/local/lib/python3.13/dist-packages") == OURS
    theirs = {name for name in below(files, LIBRARIES) if f"{LIBRARIES}/{name}" in files or name.startswith("_")}
    assert theirs == THEIRS
    metadata = below(files, LIBRARIES) - theirs
    assert {name.rpartition("-")[0] for name in metadata} == THEIRS - {"_cffi_backend", "attr"}


def test_every_module_of_the_standard_library_is_named_here(files: dict[str, CpioEntry]) -> None:
    assert below(files, "usr/lib/python3.13") - {"lib-dynload"} == STANDARD_LIBRARY
    assert below(files, "usr/lib/python3.13/lib-dynload") == EXTENSIONS


def test_every_import_finds_its_module_or_is_known_not_to(inside: BuildRoot) -> None:
    roots = [
        "usr/lib/python3.13",
        "usr/lib/python3.13/lib-dynload",
        LIBRARIES,
        "usr/local/lib/python3.13/dist-packages",
    ]
    assert set(output(inside, "python3.13", "-P", "-c", FIND_ABSENT, json.dumps(roots))) <= ABSENT


def test_every_library_is_there_and_needed(files: dict[str, CpioEntry], inside: BuildRoot) -> None:
    elf = [f"tree/{path}" for path, entry in files.items() if entry.data[:4] == b"\x7fELF"]
    lines = output(inside, "readelf", "--dynamic", "--wide", *elf)
    needed = {line.partition("[")[2].rstrip("]") for line in lines if "(NEEDED)" in line}
    there = {path.rpartition("/")[2] for path in files if path.startswith("usr/lib/x86_64-linux-gnu/")}
    assert needed <= there
    assert {name for name in there if name.partition(".so.")[2].count(".") == 0} == needed
    assert [line for line in lines if "(RPATH)" in line or "(RUNPATH)" in line] == []


def test_bytecode_has_its_source_beside_it_and_no_time_in_it(files: dict[str, CpioEntry]) -> None:
    compiled = {path: entry for path, entry in files.items() if path.endswith(".pyc")}
    sources = {path.replace("/__pycache__", "").replace(".cpython-313.pyc", ".py") for path in compiled}
    assert sources == {path for path in files if path.endswith(".py")}
    for path, entry in compiled.items():
        assert entry.data[4:8] == b"\x03\0\0\0", f"{path} is valid by its source's hash, and the hash is checked"


def test_init_looks_at_the_last_file_of_each_ramdisk(image: Path) -> None:
    """If that one was unpacked to its end, all before it were."""
    last = [read_cpio(section)[-1] for section in parse_eif(image.read_bytes()).ramdisks]
    assert tuple(f"/{entry.path}" for entry in last) == init.LAST_FILES
    assert all(entry.data.endswith(b"}\n") for entry in last)
