"""A node's status for people: tables of rich. Whatever a peer may have written is shown as plain, printable text."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pinaivu_node.reasons import meaning
from pinaivu_node.status import HeardReport, NodeStatus
from pinaivu_shared.money import format_usdc
from pinaivu_shared.report import percent, printable
from pinaivu_shared.terms import NodeReport, QualityChange

_SUSPENDED = "It is in no auction until then. After that it begins again on probation, at no more than half the prior."


def status_view(status: NodeStatus, *, now_ms: int) -> Group:
    """Everything there is to say."""
    parts: list[RenderableType] = [_facts([*_node_facts(status, now_ms), *_report_facts(status.heard, now_ms)])]
    if status.heard is not None:
        parts += [Text(), _quotes(status, status.heard.report), Text(), _changes(status.heard.report.changes)]
    return Group(*parts)


def span(milliseconds: int) -> str:
    """A length of time, in its largest two units."""
    seconds = max(0, milliseconds) // 1000
    for unit, parts, size in (("d", "h", 86_400), ("h", "min", 3600), ("min", "s", 60)):
        if seconds >= size:
            smaller = {"h": 3600, "min": 60, "s": 1}[parts]
            return f"{seconds // size} {unit} {seconds % size // smaller} {parts}"
    return f"{seconds} s"


def _facts(facts: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        table.add_row(Text(name), Text(printable(value)))
    return table


def _node_facts(status: NodeStatus, now_ms: int) -> Iterator[tuple[str, str]]:
    yield "node", status.node_id
    yield "operator", f"{status.operator}, {status.agent}"
    yield "gateway", status.gateway
    yield "state", f"{status.state} for {span(now_ms - status.since_ms)}" + (status.detail and f": {status.detail}")
    for engine in status.engines:
        yield "engine", f"{engine.engine}: {', '.join(engine.ready) or 'not ready'}"
        for model, capabilities in engine.capabilities.items():
            yield "", f"{model} can do {', '.join(capabilities)}"
        for model, reason in engine.unquoted.items():
            yield "", f"{model} is not quoted: {reason}"
    yield "jobs", f"{status.jobs_running} running"


def _report_facts(heard: HeardReport | None, now_ms: int) -> Iterator[tuple[str, str]]:
    if heard is None:
        yield "market", "the enclave has not reported yet"
        return
    report = heard.report
    yield "quality", f"{percent(report.quality_bps)}, with room for {report.slots} jobs at once over all models"
    if report.suspended_until_ms > now_ms:
        yield "suspended", f"for another {span(report.suspended_until_ms - now_ms)}. {_SUSPENDED}"
    yield "auctions", f"{report.wins} won, {report.losses} lost{_margin(report)}, since the enclave was started"
    yield "earned", f"{format_usdc(report.earned)}, in no statement yet"
    yield "payable", f"{format_usdc(report.payable)}, stated and not paid out yet"
    yield "paid out", format_usdc(report.paid_out)
    yield "report", f"signed by the enclave, heard {span(now_ms - heard.heard_ms)} ago"


def _margin(report: NodeReport) -> str:
    return f" by {percent(report.loss_margin_bps)} on average" if report.losses else ""


def _quotes(status: NodeStatus, report: NodeReport) -> RenderableType:
    """As of the report, unless its session has ended: every quote of it ended with it."""
    if not report.quotes or report.session != status.session:
        return Text("no quote stands")
    table = Table(title="quotes, in micro-USDC per million tokens", title_justify="left", title_style="")
    table.add_column("model")
    for heading in ("input", "output", "slots", "context", "running", "expires in"):
        table.add_column(heading, justify="right")
    for quote in report.quotes:
        numbers = (quote.input_price, quote.output_price, quote.slots, quote.context_length, quote.running)
        left = span(quote.expires_ms - report.reported_ms)
        table.add_row(Text(printable(quote.model)), *map(str, numbers), left)
    return table


def _changes(changes: tuple[QualityChange, ...]) -> RenderableType:
    if not changes:
        return Text("no job has moved the quality yet")
    table = Table(title="what moved the quality, newest last", title_justify="left", title_style="")
    for heading in ("request", "why"):
        table.add_column(heading)
    for heading in ("sample", "quality after"):
        table.add_column(heading, justify="right")
    for change in changes:
        why = Text(printable(meaning(change.reason)))
        table.add_row(Text(change.request_id), why, percent(change.sample_bps), percent(change.quality_bps))
    return table
