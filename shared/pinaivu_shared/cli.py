"""Commands that need nothing but evidence: `pinaivu verify` and `pinaivu attestation`. Neither touches the network.

How they exit is told in `evidence_files`.
"""

import argparse
import datetime as dt
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pinaivu_shared.errors import CallerError, UnreadableError, VerificationError
from pinaivu_shared.evidence_files import judge, read_evidence
from pinaivu_shared.flags import NOT_GIVEN, add_flag, add_switch, parse_command
from pinaivu_shared.report import report_lines

if TYPE_CHECKING:
    from pinaivu_shared.answers import Choices
    from pinaivu_shared.attestation.document import AttestationDocument
    from pinaivu_shared.bundle import Bundle
    from pinaivu_shared.forwarding import Endpoint
    from pinaivu_shared.receipt import Receipt
    from pinaivu_shared.trust import TrustFile


def verify(arguments: list[str]) -> int:
    """Run `pinaivu verify BUNDLE --trust FILE`."""
    parser = argparse.ArgumentParser(prog="pinaivu verify", description="Verify a receipt's bundle, offline.")
    parser.add_argument("bundle", metavar="BUNDLE", help="file with the bundle, - for standard input")
    add_flag(parser, "trust", default=None, text="trust file")
    add_flag(parser, "request", default=NOT_GIVEN, text="request body as sent (JSON), to open its commitment")
    add_flag(
        parser,
        "response",
        default=NOT_GIVEN,
        text="answer (JSON, or its stream as text or as a list), to open its commitment",
    )
    add_switch(parser, "json", text="print one object")
    chosen = parser.parse_args(arguments)
    return _judge(chosen.json, lambda: _verify_bundle(chosen))


def attestation(arguments: list[str]) -> int:
    """Run `pinaivu attestation show DOC`, `verify DOC --trust FILE` or `trust ANSWER --pcrs FILE`."""
    parser = argparse.ArgumentParser(prog="pinaivu attestation", description="One attestation document.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    show = commands.add_parser("show", help="print what a document says, nothing of it verified")
    judge = commands.add_parser("verify", help="judge a document now, or an archived one with --at")
    for command in (show, judge):
        command.add_argument("document", metavar="DOC", help="binary, base64 or hex; - for standard input")
        add_switch(command, "json", text="print one object")
    add_flag(judge, "trust", default=None, text="trust file")
    add_flag(judge, "at", default=NOT_GIVEN, text="judge as archived, valid at this time (RFC 3339 or Unix seconds)")
    add_flag(judge, "nonce", default=NOT_GIVEN, text="hex nonce that the document must answer")
    trust = commands.add_parser("trust", help="judge a service's fresh answer and write the trust file for it")
    trust.add_argument("document", metavar="ANSWER", help="answer of GET /v1/attestation?nonce=…; - for standard input")
    add_flag(trust, "pcrs", default=None, text="what `pinaivu image pcrs --json` printed for the image you built")
    add_flag(trust, "nonce", default=None, text="hex nonce that the service was asked with")
    add_flag(trust, "platform", default="nitro", text="nitro, or simulator, whose --root you then name")
    add_flag(trust, "root", default=NOT_GIVEN, text="PEM file with the root of another platform than nitro")
    chosen = parse_command(parser, arguments)
    if chosen.command == "show":
        return _judge(chosen.json, lambda: _show_document(chosen))
    if chosen.command == "trust":
        return _judge(False, lambda: _enrol(chosen))  # noqa: FBT003 - it prints a trust file, which is JSON already
    return _judge(chosen.json, lambda: _verify_document(chosen))


def _judge(as_json: bool, command: Callable[[], dict[str, Any]]) -> int:  # noqa: FBT001 - what --json says
    return judge(command, as_json=as_json, fields=dict, lines=report_lines)


def _verify_bundle(chosen: argparse.Namespace) -> dict[str, Any]:
    from pinaivu_shared.bundle import verify_bundle
    from pinaivu_shared.trust import MAX_TRUST_BYTES, parse_trust

    trust = parse_trust(read_evidence(chosen.trust, MAX_TRUST_BYTES))
    bundle = _read_bundle(chosen.bundle)
    request = None if chosen.request is NOT_GIVEN else _read_request(chosen.request)
    endpoint, choices = (None, None) if chosen.response is NOT_GIVEN else _read_answer(chosen.response)
    verified = verify_bundle(bundle, trust, request=request, choices=choices, endpoint=endpoint)
    compared = request is None or "forwarded" in verified.opened
    receipt = verified.receipt
    return {
        "valid": True,
        "finality": "final" if trust.quorum else "issued",
        "platform": trust.platform,
        "request_id": receipt.request_id,
        "node_id": receipt.node_id,
        "model": receipt.model,
        "outcome": receipt.outcome,
        "reason": receipt.reason,
        "payment_amount": receipt.payment_amount,
        "charge_amount": receipt.charge_amount,
        "account": receipt.account,
        "timestamp": receipt.timestamp,
        "log_index": verified.inclusion.index,
        "log_size": verified.inclusion.size,
        "epoch": verified.epoch.manifest.epoch,
        "opened_commitments": list(verified.opened),
        **({} if compared else {"not_compared": _why_not_compared(receipt)}),
        "not_proven": "that the node ran the weights it named",
    }


def _verify_document(chosen: argparse.Namespace) -> dict[str, Any]:
    from pinaivu_shared.attestation import verify as verifier
    from pinaivu_shared.attestation.binding import require_nonce
    from pinaivu_shared.attestation.document import MAX_DOCUMENT_BYTES
    from pinaivu_shared.attestation.encodings import document_bytes
    from pinaivu_shared.trust import MAX_TRUST_BYTES, parse_trust

    trust = parse_trust(read_evidence(chosen.trust, MAX_TRUST_BYTES))
    raw = document_bytes(read_evidence(chosen.document, 4 * MAX_DOCUMENT_BYTES))
    _require_cose(raw)
    nonce = None if chosen.nonce is NOT_GIVEN else _hex(chosen.nonce)
    if chosen.at is not NOT_GIVEN:
        at_ms = _time_ms(chosen.at)
        document = verifier.verify_archived_at(raw, root=trust.root, policy=trust.policy, at_ms=at_ms)
        if nonce is not None:
            require_nonce(document, nonce)
    else:
        document = _verified_now(raw, trust, nonce)
    return {"valid": True, "platform": trust.platform, **_fields(document)}


def _verified_now(raw: bytes, trust: "TrustFile", nonce: bytes | None) -> "AttestationDocument":
    from pinaivu_shared.attestation import verify as verifier

    try:
        if nonce is None:
            return verifier.verify_recent(raw, root=trust.root, policy=trust.policy, now_ms=_now_ms())
        return verifier.verify_live(raw, root=trust.root, policy=trust.policy, nonce=nonce, now_ms=_now_ms())
    except VerificationError as error:
        if error.check != "attestation freshness" and "expired at" not in error.detail:
            raise
        raise VerificationError(error.check, f"{error.detail}; --at TIME judges one that was kept") from error


def _enrol(chosen: argparse.Namespace) -> dict[str, Any]:
    from pinaivu_shared.attestation.document import MAX_DOCUMENT_BYTES
    from pinaivu_shared.attestation.policy import MeasurementPolicy
    from pinaivu_shared.attestation.roots import aws_nitro_root, load_root
    from pinaivu_shared.enrolment import enrol, read_answer, read_measurements
    from pinaivu_shared.trust import MAX_TRUST_BYTES

    if chosen.platform not in {"nitro", "simulator"}:
        raise CallerError(f"--platform {chosen.platform}: there are nitro and simulator; QEMU's documents are unsigned")
    if chosen.platform == "nitro" and chosen.root is not NOT_GIVEN:
        raise CallerError("--root: platform nitro has AWS's root and takes no other; --root goes with simulator")
    if chosen.platform == "simulator" and chosen.root is NOT_GIVEN:
        raise CallerError("--root: platform simulator needs a PEM file with its root; without one there is only nitro")
    pem = b"" if chosen.root is NOT_GIVEN else read_evidence(chosen.root, MAX_TRUST_BYTES)
    trust = enrol(
        read_answer(read_evidence(chosen.document, 8 * MAX_DOCUMENT_BYTES)),
        platform=chosen.platform,
        root=load_root(pem.decode("ascii", "replace")) if pem else aws_nitro_root(),
        policy=MeasurementPolicy.exactly(read_measurements(read_evidence(chosen.pcrs, MAX_TRUST_BYTES))),
        nonce=_hex(chosen.nonce),
        now_ms=_now_ms(),
    )
    print(trust.decode(), end="")
    return {}


def _require_cose(raw: bytes) -> None:
    """What does not even begin as a COSE_Sign1 (some other file) is no evidence that fails, but nothing to judge."""
    if raw[:1] not in {b"\x84", b"\xd2"}:  # an array of four, and AWS's text shows the tag before it
        raise UnreadableError("attestation document: does not begin as a COSE_Sign1 does")


def _show_document(chosen: argparse.Namespace) -> dict[str, Any]:
    from pinaivu_shared.attestation.document import MAX_DOCUMENT_BYTES, parse_unverified
    from pinaivu_shared.attestation.encodings import document_bytes

    raw = document_bytes(read_evidence(chosen.document, 4 * MAX_DOCUMENT_BYTES))
    try:
        unverified = parse_unverified(raw)
    except VerificationError as error:
        raise UnreadableError(str(error)) from error
    return {"verified": False, **_fields(unverified)}


def _fields(document: Any) -> dict[str, Any]:  # noqa: ANN401 - verified or not, the fields have the same names
    def shown(value: bytes | None) -> str | None:
        return None if value is None else value.hex()

    made = dt.datetime.fromtimestamp(document.timestamp_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")
    return {
        "module_id": document.module_id,
        "timestamp": made,
        "public_key": shown(document.public_key),
        "user_data": shown(document.user_data),
        "nonce": shown(document.nonce),
        "pcrs": {str(index): value.hex() for index, value in document.pcrs.items()},
    }


def _read_bundle(name: str) -> "Bundle":
    import msgspec

    from pinaivu_shared.bundle import MAX_BUNDLE_BYTES, parse_bundle
    from pinaivu_shared.receipt import Receipt

    raw = read_evidence(name, MAX_BUNDLE_BYTES)
    try:
        return parse_bundle(raw)
    except UnreadableError as error:
        try:
            receipt = msgspec.json.decode(raw, type=Receipt)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise error from None
        path = f"/v1/receipts/{receipt.request_id}/bundle"
        raise UnreadableError(f"bundle: a receipt without its evidence; both are at {path}") from error


def _read_request(name: str) -> Any:  # noqa: ANN401 - any JSON value
    from pinaivu_shared.bundle import MAX_BUNDLE_BYTES
    from pinaivu_shared.canonical import parse_json

    try:
        request = parse_json(read_evidence(name, 2 * MAX_BUNDLE_BYTES))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{name}: not JSON: {error}") from error
    if not isinstance(request, dict):
        raise UnreadableError(f"{name}: not a request body, which is a JSON object")
    return request


def _why_not_compared(receipt: "Receipt") -> str:
    if not receipt.node_proof:
        return "what the node was given: it signed nothing of its work, and is paid nothing"
    return "what the node was given: several endpoints take such a request; --response tells which was asked"


def _read_answer(name: str) -> "tuple[Endpoint, Choices]":
    from pinaivu_shared.answers import choices_of_answer, endpoint_of_answer
    from pinaivu_shared.bundle import MAX_BUNDLE_BYTES
    from pinaivu_shared.canonical import parse_json
    from pinaivu_shared.error_body import service_error
    from pinaivu_shared.sse import data_events

    content = read_evidence(name, 8 * MAX_BUNDLE_BYTES)
    if refusal := service_error(content):
        raise UnreadableError(f"{name}: this is the service's error, and no answer: {refusal}")
    try:
        text = content.decode()
        if text.lstrip(" \t\r\n").startswith(("data:", "event:", ":")):
            return _of_stream(list(data_events(text)))
        answer = parse_json(text)
        if isinstance(answer, list):
            return _of_stream(answer)
        choices = choices_of_answer(answer)
        return endpoint_of_answer(answer), choices
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{name}: neither an answer nor a stream: {error}") from error


def _of_stream(events: list[dict[str, Any]]) -> "tuple[Endpoint, Choices]":
    from pinaivu_shared.answers import choices_of_stream, endpoint_of_stream

    choices = choices_of_stream(events)
    return endpoint_of_stream(events), choices


def _hex(text: str) -> bytes:
    try:
        nonce = bytes.fromhex(text)
    except ValueError as error:
        raise UnreadableError(f"nonce: {error}") from error
    if not nonce:
        raise UnreadableError("nonce: is empty, so it asks for nothing")
    return nonce


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _time_ms(text: str) -> int:
    try:
        if text.isascii() and text.isdigit():
            return int(text) * 1000
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableError(f"time: {error}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp() * 1000)
