"""`pinaivu node statement`: a settlement statement, downloaded or from a file, and verified offline."""

import argparse
import datetime as dt
from pathlib import Path
from typing import Any, Final

from pinaivu_node.market_client import MarketClient
from pinaivu_node.node_folder import NodeFolder
from pinaivu_shared.errors import CallerError, VerificationError
from pinaivu_shared.evidence_files import judge, read_evidence
from pinaivu_shared.money import format_usdc
from pinaivu_shared.report import report_lines
from pinaivu_shared.statement import MAX_STATEMENT_BYTES, VerifiedStatement, parse_statement, verify_statement
from pinaivu_shared.trust import MAX_TRUST_BYTES, TrustFile, parse_trust

LATEST: Final = "latest"


def show_statement(chosen: argparse.Namespace) -> int:
    """Print what a statement proves; exits as `pinaivu verify` does."""
    return judge(lambda: _verified(chosen), as_json=chosen.json, fields=dict, lines=report_lines)


def _verified(chosen: argparse.Namespace) -> dict[str, Any]:
    trust = parse_trust(read_evidence(chosen.trust, MAX_TRUST_BYTES))
    name: str = chosen.statement
    if name == LATEST or (name.isascii() and name.isdecimal()):
        verified = _downloaded(name, NodeFolder(chosen.data_dir, gateway=chosen.gateway), chosen.output, trust)
    elif chosen.output:
        raise CallerError("--output goes with a number or `latest`: a file is there already")
    else:
        verified = verify_statement(parse_statement(read_evidence(name, MAX_STATEMENT_BYTES)), trust)
    return _fields(verified, trust)


def _downloaded(name: str, folder: NodeFolder, output: str, trust: TrustFile) -> VerifiedStatement:
    node_id = folder.node_id()
    with MarketClient(folder.gateway()) as market:
        number = _newest(market, node_id) if name == LATEST else int(name)
        raw = market.statement(node_id, number)
    if output:
        _write(Path(output), raw)
    verified = verify_statement(parse_statement(raw), trust)
    found = verified.statement
    if (found.node_id, found.number) != (node_id, number):
        raise VerificationError("statement", f"is number {found.number} of {found.node_id}, not {number} of {node_id}")
    return verified


def _newest(market: MarketClient, node_id: str) -> int:
    if number := market.account(node_id).statements:
        return number
    raise CallerError(f"there is no statement of {node_id} yet; one is written after each period in which it earned")


def _fields(verified: VerifiedStatement, trust: TrustFile) -> dict[str, Any]:
    statement = verified.statement
    return {
        "valid": True,
        "finality": "final" if trust.quorum else "issued",
        "platform": trust.platform,
        "node_id": statement.node_id,
        "number": statement.number,
        "period_start": _time(statement.period_start_ms),
        "period_end": _time(statement.period_end_ms),
        "receipts": len(verified.receipts),
        "amount": format_usdc(statement.amount),
        "payable": format_usdc(statement.payable),
        "log_index": verified.inclusion.index,
        "log_size": verified.inclusion.size,
        "epoch": verified.epoch.manifest.epoch,
        "not_proven": "that every receipt of the node is in a statement, and in one only",
    }


def _write(path: Path, raw: bytes) -> None:
    """Before it is judged: a statement that does not hold is evidence too."""
    try:
        path.write_bytes(raw)
    except OSError as error:
        raise CallerError(f"{path}: {error.strerror}") from error


def _time(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")
