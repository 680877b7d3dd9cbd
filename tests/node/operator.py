"""What the operator's commands are tried on: a node's folder, and a gateway with its public pages."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from tests.node.test_reporting import report_of
from tests.shared.statements import Stated

from pinaivu_node import cli
from pinaivu_node.status import EngineStatus, HeardReport, NodeStatus, beginning
from pinaivu_shared.terms import QualityChange, ReportedQuote

from .market import MODEL, NODE, NOW_MS

REQUEST = "req_" + "0" * 26
SESSION = "ses_" + "1" * 32
STATED = Stated()
BUNDLE = json.dumps(STATED.evidence().bundle).encode()
ACCOUNT = {
    "node_id": STATED.node.node_id,
    "operator": "alice",
    "registered_ms": 1,
    "statements": 1,
    "earned": "0.000041 USDC",
    "stated": "0.000009 USDC",
    "payable": "0.000007 USDC",
    "paid_out": "0.000002 USDC",
    "suspension": None,
    "later": "a field that this version does not know",
}
HEARD = HeardReport(
    report_of(
        SESSION,
        changes=(
            QualityChange(request_id=REQUEST, reason="", sample_bps=9000, quality_bps=7594),
            QualityChange(request_id=REQUEST, reason="usage_missing", sample_bps=0, quality_bps=7344),
        ),
        quotes=(
            ReportedQuote(
                model=MODEL,
                input_price=20_000,
                output_price=60_000,
                slots=4,
                context_length=8192,
                running=1,
                expires_ms=NOW_MS + 61_000,
            ),
        ),
    ),
    "00",
    "11" * 32,
    NOW_MS,
)


def status(**changes: Any) -> NodeStatus:
    first = beginning(node_id=NODE.node_id, operator="alice", gateway="ws://gateway.test", agent="a", now_ms=NOW_MS)
    whole = {"state": "connected", "session": SESSION, "heard": HEARD, "engines": (EngineStatus("echo", (MODEL,)),)}
    return msgspec.structs.replace(first, **{**whole, **changes})


def run(*arguments: str | Path) -> int:
    """`pinaivu node` with these arguments; its exit status."""
    return cli.node([str(argument) for argument in arguments])


class Pages:
    """A gateway on a real socket that answers with what it was given, and otherwise with its error."""

    def __init__(self) -> None:
        self.node = f"/v1/nodes/{STATED.node.node_id}"
        self.answers = {f"{self.node}/statements/1": (200, BUNDLE)}
        self.asked: list[str] = []
        self.set_account()
        pages = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pages.asked.append(self.path)
                status, content = pages.answers.get(self.path, (404, b'{"error": {"message": "no such thing"}}'))
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Pages"]:
        """Answer from another thread while the block runs."""
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()

    def set_account(self, **changes: Any) -> None:
        self.answers[self.node] = (200, json.dumps({**ACCOUNT, **changes}).encode())
