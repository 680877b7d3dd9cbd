"""`pinaivu image inspect`, `diff` and `pcrs`: what reads images, with nothing but what `pip install pinaivu` brings."""

import argparse
import contextlib
import datetime as dt
import json
from collections.abc import Iterable, Iterator

from pinaivu_image.command_line import DIFFERENT, DONE, NOT_GIVEN, given, say
from pinaivu_image.difference import compare_images, difference_json
from pinaivu_image.files import write_file
from pinaivu_image.inspection import Inspection, inspect_image, inspection_json
from pinaivu_image.rendering import difference_lines, inspection_lines
from pinaivu_image.signing import sign_image
from pinaivu_shared.eif.description import describe
from pinaivu_shared.eif.errors import EifError
from pinaivu_shared.eif.format import MAX_EIF_BYTES, Eif, encode_eif, parse_eif
from pinaivu_shared.eif.measurements import measure
from pinaivu_shared.errors import CallerError, UnreadableError
from pinaivu_shared.evidence_files import read_file

MAX_PEM_BYTES = 1 << 16


def inspect(chosen: argparse.Namespace) -> int:
    """Print all that is in an image; DIFFERENT where it has files that cannot be listed."""
    found = _inspected(chosen.file)
    if chosen.json:
        print(json.dumps(inspection_json(found)))
    else:
        _print_lines(inspection_lines(found), found.notes)
    return DONE if found.listed else DIFFERENT


def diff(chosen: argparse.Namespace) -> int:
    """Print what two images differ in."""
    found = compare_images(_inspected(chosen.old), _inspected(chosen.new))
    if chosen.json:
        print(json.dumps(difference_json(found)))
    else:
        _print_lines(difference_lines(found), found.notes)
    return DONE if found.same else DIFFERENT


def pcrs(chosen: argparse.Namespace) -> int:
    """Print an image's registers; with a key, sign it before."""
    signing = (chosen.private_key, chosen.signing_certificate, chosen.output)
    signed = [flag is not NOT_GIVEN for flag in signing]
    if any(signed) and not all(signed):
        raise CallerError("to sign, give --private-key, --signing-certificate and --output together")
    with _naming(chosen.file):
        eif = parse_eif(read_file(chosen.file, MAX_EIF_BYTES))
        if any(signed):
            eif = _sign(eif, chosen)
        described, measured = describe(eif), measure(eif)
    if chosen.json:
        print(json.dumps(described, indent=2))
    else:
        for name, value in measured.as_hex().items():
            print(f"{name} {value}")
    return DONE


def _sign(eif: Eif, chosen: argparse.Namespace) -> Eif:
    key = read_file(given("private-key", chosen.private_key), MAX_PEM_BYTES)
    certificate = read_file(given("signing-certificate", chosen.signing_certificate), MAX_PEM_BYTES)
    output = given("output", chosen.output)
    signed = sign_image(eif, key_pem=key, certificate_pem=certificate, now=dt.datetime.now(dt.UTC))
    write_file(output, encode_eif(signed))
    return signed


def _inspected(name: str) -> Inspection:
    with _naming(name):
        return inspect_image(read_file(name, MAX_EIF_BYTES))


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put the file's name in front of what is wrong with it."""
    try:
        yield
    except EifError as error:
        raise UnreadableError(f"{name}: {error}") from error


def _print_lines(lines: Iterable[str], notes: Iterable[str]) -> None:
    for line in lines:
        print(line)
    for note in notes:
        say(f"note: {note}")
