"""`pinaivu node earnings`: what the enclave signed, beside what the gateway says that the log says."""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import msgspec

from pinaivu_node.clock import now_ms
from pinaivu_node.market_client import MarketClient, PublicAccount
from pinaivu_node.node_folder import NodeFolder
from pinaivu_node.reasons import meaning
from pinaivu_node.status import HeardReport
from pinaivu_node.status_view import span
from pinaivu_shared.evidence_files import judge
from pinaivu_shared.money import format_usdc

_SIGNED: Final = "signed report"
_GATEWAYS: Final = "gateway"


def show_earnings(chosen: argparse.Namespace) -> int:
    """Print both; 0, or 2 where one of them cannot be had."""
    folder = NodeFolder(chosen.data_dir, gateway=chosen.gateway)
    lines = partial(_earnings_lines, at_ms=now_ms())
    return judge(lambda: _compared(folder), as_json=chosen.json, fields=dict, lines=lines)


def _compared(folder: NodeFolder) -> dict[str, Any]:
    status = folder.status()
    with MarketClient(folder.gateway()) as market:
        return earnings_fields(status.heard if status else None, market.account(folder.node_id()))


def earnings_fields(heard: HeardReport | None, account: PublicAccount) -> dict[str, Any]:
    """The object of `--json`. `signed` is null while the node has heard no report."""
    return {
        "node_id": account.node_id,
        "signed": _signed(heard) if heard else None,
        "gateway": {
            "earned": account.earned,
            "payable": account.payable,
            "paid_out": account.paid_out,
            "stated": account.stated,
            "statements": account.statements,
        },
        "suspension": msgspec.to_builtins(account.suspension),
    }


def _signed(heard: HeardReport) -> dict[str, Any]:
    report = heard.report
    return {
        "earned": format_usdc(report.earned),
        "payable": format_usdc(report.payable),
        "paid_out": format_usdc(report.paid_out),
        "reported_ms": report.reported_ms,
        "heard_ms": heard.heard_ms,
    }


def _earnings_lines(found: dict[str, Any], *, at_ms: int) -> Iterator[str]:
    signed, told = found["signed"], found["gateway"]
    yield f"node  {found['node_id']}"
    yield ""
    yield f"{'':<12}{_SIGNED:>22}{_GATEWAYS:>22}"
    for name in ("earned", "payable", "paid_out", "stated", "statements"):
        shown = (signed or {}).get(name, "-")
        yield f"{name.replace('_', ' '):<12}{shown:>22}{told[name]:>22}"
    yield ""
    yield "earned: paid by receipts, in no statement yet; payable: stated and not paid out yet"
    if signed:
        yield f"{_SIGNED}: by the enclave, verified by the node, heard {span(at_ms - signed['heard_ms'])} ago"
    else:
        yield f"{_SIGNED}: the node has heard none yet; `pinaivu node run` asks for it"
    yield f"{_GATEWAYS}: signed by nobody; `pinaivu node statement` verifies a statement"
    if suspension := found["suspension"]:
        left = span(suspension["until_ms"] - at_ms)
        yield f"suspended for another {left}, for {suspension['request_id']}: {meaning(suspension['reason'])}"
