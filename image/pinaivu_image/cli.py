"""Commands for enclave images: `pinaivu image build`, `lock`, `inspect`, `diff` and `pcrs`.

Exit status: 0 done (`diff`: the same), 1 different (`inspect`: files cannot be listed), 2 what was given is no image or
cannot be used, 130 interrupted.
"""

import argparse
import io
import sys

from pinaivu_image.command_line import INTERRUPTED, NOT_GIVEN, UNUSABLE, say
from pinaivu_image.errors import BuildError, MirrorError
from pinaivu_shared.errors import CallerError, UnreadableError
from pinaivu_shared.flags import add_flag, add_switch, parse_command
from pinaivu_shared.report import printable


def image(arguments: list[str]) -> int:
    """Run `pinaivu image COMMAND`."""
    parser = argparse.ArgumentParser(prog="pinaivu image", description="Enclave images (EIF).")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_build, _add_lock, _add_inspect, _add_diff, _add_pcrs):
        add(commands)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot spell must not end the command with status 1
        sys.stdout.reconfigure(errors="backslashreplace")
    chosen = parse_command(parser, arguments)
    try:
        status: int = chosen.run(chosen)
    except (BuildError, MirrorError) as error:
        first, *rest = str(error).splitlines()
        say(first)
        for line in rest:  # what apt, pip or a compiler said
            print(f"  {printable(line)}", file=sys.stderr)
        status = UNUSABLE
    except (UnreadableError, CallerError) as error:
        say(str(error))
        status = UNUSABLE
    except ModuleNotFoundError as error:
        say(f"{error.name} is missing; install pinaivu[image]")
        status = UNUSABLE
    except KeyboardInterrupt:
        say("interrupted")
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
    add_flag(
        parser,
        "cache",
        default=NOT_GIVEN,
        text="folder of fetched inputs, build roots and kernels. Inputs and kernels are held against their hashes, the "
        "unpacked compiler is trusted as it lies there: an auditor names a fresh folder",
    )
    add_flag(
        parser,
        "mirror",
        default=NOT_GIVEN,
        text="Debian mirrors, comma-separated; those of this machine's apt "
        "unless given. An archive of old packages serves a lock whose versions have left the mirrors",
    )


def _add_inspect(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    inspect = commands.add_parser("inspect", help="list header, sections, measurements and every file")
    inspect.add_argument("file", metavar="FILE", type=_file_name, help="the image")
    add_switch(inspect, "json", text="print one object")
    inspect.set_defaults(run=_inspect)


def _add_diff(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    diff = commands.add_parser("diff", help="say which input, section and file two images differ in")
    diff.add_argument("old", metavar="A", type=_file_name, help="one image")
    diff.add_argument("new", metavar="B", type=_file_name, help="the other image")
    add_switch(diff, "json", text="print one object")
    diff.set_defaults(run=_diff)


def _add_pcrs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pcrs = commands.add_parser("pcrs", help="compute the measurements; with a key, sign the image as well")
    pcrs.add_argument("file", metavar="FILE", type=_file_name, help="the image")
    add_switch(pcrs, "json", text="print what nitro-cli describe-eif prints")
    add_flag(pcrs, "private-key", default=NOT_GIVEN, text="PEM file with the key to sign with")
    add_flag(pcrs, "signing-certificate", default=NOT_GIVEN, text="PEM file with the key's certificate")
    add_flag(pcrs, "output", default=NOT_GIVEN, text="where to write the signed image")
    pcrs.set_defaults(run=_pcrs)


def _build(chosen: argparse.Namespace) -> int:
    from pinaivu_image.build_commands import build

    return build(chosen)


def _lock(chosen: argparse.Namespace) -> int:
    from pinaivu_image.build_commands import lock

    return lock(chosen)


def _inspect(chosen: argparse.Namespace) -> int:
    from pinaivu_image.reading_commands import inspect

    return inspect(chosen)


def _diff(chosen: argparse.Namespace) -> int:
    from pinaivu_image.reading_commands import diff

    return diff(chosen)


def _pcrs(chosen: argparse.Namespace) -> int:
    from pinaivu_image.reading_commands import pcrs

    return pcrs(chosen)


def _file_name(name: str) -> str:
    if not name:
        raise argparse.ArgumentTypeError("the name is empty")
    return name
