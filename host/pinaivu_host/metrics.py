"""What the host counts, for Prometheus. Every label comes from a list that ends.

Models are those of the configuration, reasons those below; anything else is `other`. Callers, nodes and peers can
neither make a series nor be told apart by one: no key, account, node or request id is a label.
"""

from collections.abc import Iterable
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.link import RefusedReason
from pinaivu_shared.wire.node import DeclineReason

OTHER: Final = "other"
NONE: Final = "none"
REASONS: Final = frozenset({
    *get_args(DeclineReason),
    "acceptance_refused", "answer_too_long", "coordinator_unavailable", "no_proof", "node_disconnected", "node_failed",
    "overflow", "protocol_violation", "timeout", "abandoned", "deadline", "host_restarted",
    "client_disconnected", "client_stalled", "shutting_down",
    "credit_limit", "empty_answer", "false_decline", "invalid_proof", "not_accepted", "nothing_delivered", "prompt_cut",
    "response_mismatch", "stopped_at_once", "usage_absurd", "usage_cut", "usage_missing", "usage_recounted",
})  # fmt: skip
"""Why a node failed a job, or what a receipt says of one: the words of gateway and enclave."""

_FIRST_TOKEN_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
_DURATION_S: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_AUCTION_REFUSALS: Final = frozenset(get_args(RefusedReason))


class Metrics:
    """One for a host, with a registry of its own. The gauges without a method are set when somebody looks."""

    def __init__(self, models: Iterable[str]) -> None:
        self._models = frozenset(models)
        self.registry: Final = CollectorRegistry()
        self._requests = self._counter("requests", "HTTP requests answered", "route", "status")
        self._request_s = self._histogram("request_duration_seconds", "To the end of the answer", _DURATION_S, "route")
        self.requests_running: Final = self._gauge("requests_running", "HTTP requests being answered")
        self._first_token_s = self._histogram(
            "first_token_seconds", "From a job's begin to its first token", _FIRST_TOKEN_S, "model"
        )
        self._tokens = self._counter("tokens", "Tokens on receipts", "model", "kind")
        self._auctions = self._counter("auctions", "Requests by what came of their auction", "result")
        self._jobs = self._counter("jobs", "Jobs that had an award, by their receipts", "outcome", "reason")
        self._failed_awards = self._counter("failed_awards", "Awards whose node gave no token", "reason")
        self.jobs_running: Final = self._gauge("jobs_running", "Jobs that wait for an award, run or are settled")
        self.queued: Final = self._gauge("queued_requests", "Requests waiting for what is scarce", "queue")
        self.nodes_connected: Final = self._gauge("nodes_connected", "Registered nodes")
        self.nodes_offering: Final = self._gauge("nodes_offering", "Nodes with a standing quote")
        self.link_ready: Final = self._gauge("enclave_link_ready", "1 while an enclave serves")
        self.journal_backlog: Final = self._gauge("journal_backlog_leaves", "Leaves that wait for the disk")
        self.journal_failed: Final = self._gauge("journal_failed", "1 once the journal has ended")
        self.orders_pending: Final = self._gauge("orders_pending", "Orders neither recorded nor refused")

    def answered(self, route: str, status: int, duration_s: float) -> None:
        """A request has ended; `route` is a template of this gateway's."""
        self._requests.labels(route, str(status)).inc()
        self._request_s.labels(route).observe(duration_s)

    def awarded(self) -> None:
        """An auction gave a request its first award."""
        self._auctions.labels("awarded").inc()

    def refused(self, reason: str) -> None:
        """A request got no award, after waiting if that could help."""
        self._auctions.labels(reason if reason in _AUCTION_REFUSALS else OTHER).inc()

    def award_failed(self, reason: str) -> None:
        """A node did not begin to answer; another may."""
        self._failed_awards.labels(_class_of(reason)).inc()

    def first_token(self, model: str, waited_s: float) -> None:
        """A job's node has begun to answer."""
        self._first_token_s.labels(self.model_label(model)).observe(waited_s)

    def settled(self, receipt: Receipt) -> None:
        """A job's receipt is durable."""
        model = self.model_label(receipt.model)
        self._tokens.labels(model, "prompt").inc(receipt.prompt_tokens)
        self._tokens.labels(model, "completion").inc(receipt.completion_tokens)
        self._jobs.labels(receipt.outcome, _class_of(receipt.reason)).inc()

    def unsettled(self) -> None:
        """A job ended here without a receipt, which may still come."""
        self._jobs.labels("unsettled", NONE).inc()

    def model_label(self, model: str) -> str:
        """The model's own name only if the market lists it; callers may write anything there."""
        return model if model in self._models else OTHER

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

    def names(self) -> set[str]:
        """What the series are called, without `_bucket`, `_sum`, `_count` and `_created`."""
        return {metric.name + ("_total" if metric.type == "counter" else "") for metric in self.registry.collect()}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"pinaivu_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"pinaivu_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], label: str) -> Histogram:
        return Histogram(f"pinaivu_{name}", text, (label,), buckets=buckets, registry=self.registry)


def _class_of(reason: str) -> str:
    if not reason:
        return NONE
    return reason if reason in REASONS else OTHER
