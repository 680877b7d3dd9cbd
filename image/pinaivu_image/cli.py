"""Commands for enclave images: `pinaivu image build`, `lock`, `inspect`, `diff` and `pcrs`.

Exit status: 0 done (`diff`: the same), 1 different, 2 what was given is no image or cannot be used, 130 interrupted.
"""

import argparse
import contextlib
import datetime as dt
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pinaivu_image.errors import BuildError, MirrorError
from pinaivu_image.printable import printable
from pinaivu_shared.errors import CallerError, UnreadableError
from pinaivu_shared.flags import add_flag, add_switch

if TYPE_CHECKING:
    from pinaivu_image.building import BuildPlan
    from pinaivu_image.inspection import Inspection
    from pinaivu_image.mirrors import Mirrors

DONE, DIFFERENT, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
NOT_GIVEN = "(not given)"
"""A flag that was left out; an empty one is somebody's empty variable, and is refused."""
MAX_PEM_BYTES = 1 << 16


def image(arguments: list[str]) -> int:
    """Run `pinaivu image COMMAND`."""
    parser = argparse.ArgumentParser(prog="pinaivu image", description="Enclave images (EIF).")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_build, _add_lock, _add_inspect, _add_diff, _add_pcrs):
        add(commands)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot spell must not end the command with status 1
        sys.stdout.reconfigure(errors="backslashreplace")
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except (BuildError, MirrorError) as error:
        first, *rest = str(error).splitlines()
        _say(first)
        for line in rest:  # what apt, pip or a compiler said
            print(f"  {printable(line)}", file=sys.stderr)
        status = UNUSABLE
    except (UnreadableError, CallerError) as error:
        _say(str(error))
        status = UNUSABLE
    except ModuleNotFoundError as error:
        _say(f"{error.name} is missing; install pinaivu[image]")
        status = UNUSABLE
    except KeyboardInterrupt:
        _say("interrupted")
        status = INTERRUPTED
    return status


def _add_build(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    build = commands.add_parser(
        "build",
        help="build the enclave image out of locked inputs",
        description="Build the enclave image: the same bytes for the same checkout and lock, wherever and whenever.",
    )
    add_flag(build, "output", default=None, text="where to write the image; OUTPUT.json says all that is in it")
    _add_source_flags(build)
    build.set_defaults(run=_build)


def _add_lock(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    lock = commands.add_parser(
        "lock",
        help="lock today's versions of all inputs",
        description="Write a lock of what the mirrors have today. Another lock is another image, with other PCRs.",
    )
    _add_source_flags(lock)
    lock.set_defaults(run=_lock)


def _add_source_flags(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "lock", default=NOT_GIVEN, text="lock file; the one of this checkout unless given")
    add_flag(parser, "source", default=NOT_GIVEN, text="checkout to build; the one this command runs from unless given")
    add_flag(parser, "cache", default=NOT_GIVEN, text="folder of fetched inputs, build root and kernels")
    add_flag(
        parser,
        "mirror",
        default=NOT_GIVEN,
        text="Debian mirrors, comma-separated; those of this machine's apt "
        "unless given. An archive of old packages serves a lock whose versions have left the mirrors",
    )


def _add_inspect(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    inspect = commands.add_parser("inspect", help="list header, sections, measurements and every file")
    inspect.add_argument("file", metavar="FILE", help="the image")
    add_switch(inspect, "json", text="print one object")
    inspect.set_defaults(run=_inspect)


def _add_diff(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    diff = commands.add_parser("diff", help="say which input, section and file two images differ in")
    diff.add_argument("old", metavar="A", help="one image")
    diff.add_argument("new", metavar="B", help="the other image")
    add_switch(diff, "json", text="print one object")
    diff.set_defaults(run=_diff)


def _add_pcrs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pcrs = commands.add_parser("pcrs", help="compute the measurements; with a key, sign the image as well")
    pcrs.add_argument("file", metavar="FILE", help="the image")
    add_switch(pcrs, "json", text="print what nitro-cli describe-eif prints")
    add_flag(pcrs, "private-key", default=NOT_GIVEN, text="PEM file with the key to sign with")
    add_flag(pcrs, "signing-certificate", default=NOT_GIVEN, text="PEM file with the key's certificate")
    add_flag(pcrs, "output", default=NOT_GIVEN, text="where to write the signed image")
    pcrs.set_defaults(run=_pcrs)


def _build(chosen: argparse.Namespace) -> int:
    from pinaivu_image.building import build_image, build_manifest
    from pinaivu_image.progress import TerminalReporter
    from pinaivu_shared.eif.format import parse_eif
    from pinaivu_shared.eif.measurements import measure

    _require_writable(_given("output", chosen.output))
    image = build_image(_plan(chosen), TerminalReporter())
    _write(chosen.output, image)
    _write(f"{chosen.output}.json", json.dumps(build_manifest(image), indent=1).encode() + b"\n")
    for name, value in measure(parse_eif(image)).as_hex().items():
        print(f"{name} {value}")
    return DONE


def _lock(chosen: argparse.Namespace) -> int:
    from pinaivu_image.fetch import InputCache
    from pinaivu_image.lock import LOCK_FILE, write_lock
    from pinaivu_image.mirrors import machine_mirrors
    from pinaivu_image.progress import TerminalReporter
    from pinaivu_image.resolve import resolve

    mirrors = machine_mirrors() if chosen.mirror is NOT_GIVEN else _named_mirrors(chosen.mirror)
    requirements = _source(chosen) / "requirements" / "enclave.lock"
    lock = resolve(mirrors, requirements, InputCache(_cache(chosen)), TerminalReporter())
    write_lock(lock, LOCK_FILE if chosen.lock is NOT_GIVEN else _given("lock", chosen.lock))
    return DONE


def _plan(chosen: argparse.Namespace) -> "BuildPlan":
    from pinaivu_image.building import BuildPlan, usable_mirrors
    from pinaivu_image.lock import LOCK_FILE, read_lock

    return BuildPlan(
        lock=read_lock(LOCK_FILE if chosen.lock is NOT_GIVEN else _given("lock", chosen.lock)),
        source=_source(chosen),
        cache=_cache(chosen),
        mirrors=usable_mirrors() if chosen.mirror is NOT_GIVEN else _named_mirrors(chosen.mirror),
    )


def _named_mirrors(text: str) -> "Mirrors":
    from pinaivu_image.mirrors import named_mirrors

    return named_mirrors(text.split(","))


def _source(chosen: argparse.Namespace) -> Path:
    return Path(__file__).parents[2] if chosen.source is NOT_GIVEN else _given("source", chosen.source)


def _require_writable(output: Path) -> None:
    """Minutes before it is written."""
    folder = output.absolute().parent
    if not folder.is_dir() or os.path.isdir(output):  # noqa: PTH112 - Path.is_dir raises where nobody may look
        raise CallerError(f"--output {output}: not a file in a folder that exists")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CallerError(f"--output {output}: not allowed to write there")


def _given(flag: str, name: str) -> Path:
    if not name:
        raise CallerError(f"--{flag} is empty")
    return Path(name)


def _cache(chosen: argparse.Namespace) -> Path:
    if chosen.cache is not NOT_GIVEN:
        return _given("cache", chosen.cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pinaivu" / "image"


def _inspect(chosen: argparse.Namespace) -> int:
    from pinaivu_image.inspection import inspection_json
    from pinaivu_image.rendering import inspection_lines

    found = _inspected(chosen.file)
    if chosen.json:
        print(json.dumps(inspection_json(found)))
    else:
        _print_lines(inspection_lines(found), found.notes)
    return DONE if found.listed else DIFFERENT


def _diff(chosen: argparse.Namespace) -> int:
    from pinaivu_image.difference import compare_images, difference_json
    from pinaivu_image.rendering import difference_lines

    found = compare_images(_inspected(chosen.old), _inspected(chosen.new))
    if chosen.json:
        print(json.dumps(difference_json(found)))
    else:
        _print_lines(difference_lines(found), found.notes)
    return DONE if found.same else DIFFERENT


def _pcrs(chosen: argparse.Namespace) -> int:
    from pinaivu_shared.eif.description import describe
    from pinaivu_shared.eif.format import encode_eif, parse_eif
    from pinaivu_shared.eif.measurements import measure

    signing = (chosen.private_key, chosen.signing_certificate, chosen.output)
    given = [flag is not NOT_GIVEN for flag in signing]
    if any(given) and not all(given):
        raise CallerError("to sign, give --private-key, --signing-certificate and --output together")
    with _naming(chosen.file):
        eif = parse_eif(_read_image(chosen.file))
        if any(given):
            from pinaivu_image.signing import sign_image

            key, certificate = (_read(name, MAX_PEM_BYTES) for name in signing[:2])
            eif = sign_image(eif, key_pem=key, certificate_pem=certificate, now=dt.datetime.now(dt.UTC))
            _write(chosen.output, encode_eif(eif))
        described, measured = describe(eif), measure(eif)
    if chosen.json:
        print(json.dumps(described, indent=2))
    else:
        for name, value in measured.as_hex().items():
            print(f"{name} {value}")
    return DONE


def _inspected(name: str) -> "Inspection":
    from pinaivu_image.inspection import inspect_image

    with _naming(name):
        return inspect_image(_read_image(name))


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put the file's name in front of what is wrong with it."""
    from pinaivu_shared.eif.errors import EifError

    try:
        yield
    except EifError as error:
        raise UnreadableError(f"{name}: {error}") from error


def _print_lines(lines: Iterable[str], notes: Iterable[str]) -> None:
    for line in lines:
        print(line)
    for note in notes:
        _say(f"note: {note}")


def _say(text: str) -> None:
    print(f"pinaivu image: {printable(text)}", file=sys.stderr)


def _read_image(name: str) -> bytes:
    from pinaivu_shared.eif.format import MAX_EIF_BYTES

    return _read(name, MAX_EIF_BYTES)


def _read(name: str, max_bytes: int) -> bytes:
    try:
        with Path(name).open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UnreadableError(f"{name}: {error.strerror}") from error
    if len(content) > max_bytes:
        raise UnreadableError(f"{name}: more than {max_bytes} bytes")
    return content


def _write(name: str, content: bytes) -> None:
    try:
        Path(name).write_bytes(content)
    except OSError as error:
        raise CallerError(f"{name}: {error.strerror}") from error
