"""How the node stands: asked of the enclave in every session.

The enclave signs its reports, so a host can hold them back and nothing else; their time tells how old they are.
"""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pinaivu_node.admission import Market
from pinaivu_node.keys import Identity
from pinaivu_node.status import PAUSE_SECONDS, HeardReport
from pinaivu_shared.canonical import decode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.signed import Signed, verify_enclave
from pinaivu_shared.terms import NodeReport
from pinaivu_shared.wire.node import FromNode, RequestReport

REPORT_SECONDS: Final = 10


def check_report(signed: Signed, market: Market, identity: Identity, *, now_ms: int) -> HeardReport:
    """What the enclave of this session says about this node; VerificationError for anything else."""
    payload = verify_enclave("node-report", signed, market.receipt_key)
    report = decode(payload, NodeReport, check="node report")
    if (report.session, report.node_id) != (market.session, identity.node_id):
        raise VerificationError("node report", f"is for {report.node_id} in {report.session}")
    spki = market.receipt_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return HeardReport(report, signed.signature.hex(), hashlib.sha256(spki).hexdigest(), now_ms)


class Reporting:
    """Asks for reports in one session: now and then, and soon after something happened."""

    def __init__(
        self,
        market: Market,
        identity: Identity,
        *,
        send: Callable[[FromNode], Awaitable[None]],
        hear: Callable[[HeardReport], None],
    ) -> None:
        self._market, self._identity, self._send, self._hear = market, identity, send, hear
        self._occasion = trio.Event()

    def take(self, signed: Signed, *, now_ms: int) -> None:
        """Pass an answer on; VerificationError when it is not the enclave's, about this node in this session."""
        self._hear(check_report(signed, self._market, self._identity, now_ms=now_ms))

    def something_happened(self) -> None:
        """A job ended, a quote stands: the next report says something new."""
        self._occasion.set()

    async def ask(self) -> None:
        """Ask until cancelled, or until there is nowhere to send to."""
        with suppress(trio.ClosedResourceError):
            while True:
                self._occasion = trio.Event()
                await self._send(RequestReport())
                with trio.move_on_after(REPORT_SECONDS - PAUSE_SECONDS):
                    await self._occasion.wait()
                await trio.sleep(PAUSE_SECONDS)
