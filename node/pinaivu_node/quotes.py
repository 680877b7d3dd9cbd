"""Standing quotes: made, sealed, remembered, and their acknowledgements checked and kept.

An award is run only against a quote that was really posted in this session, so quotes are remembered by the digest of
their payload, a while beyond their expiry for awards that are under way.
"""

from typing import Final

import msgspec

from pinaivu_node.admission import Market
from pinaivu_node.keys import Identity
from pinaivu_node.tariff import QuoteTerms
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.sealing import seal
from pinaivu_shared.signed import Signed, sign_as_node, verify_enclave
from pinaivu_shared.terms import Quote, QuoteAcknowledgement
from pinaivu_shared.wire.node import PostQuote

_GRACE_MS: Final = 60_000


class Acknowledged(msgspec.Struct, frozen=True):
    """A quote and the enclave's signature that it stands: the evidence of a node left out of an auction."""

    quote: Signed
    acknowledgement: Signed


class Sequence:
    """Numbers that rise within one session; quotes and proofs share them."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """The next number, from 1."""
        self._last += 1
        return self._last


class QuoteBook:
    """The quotes of one session."""

    def __init__(self, market: Market, identity: Identity, sequence: Sequence, *, lifetime_ms: int) -> None:
        """`lifetime_ms` is the operator's wish, within what the market allows."""
        self._market, self._identity, self._sequence = market, identity, sequence
        self._posted: dict[str, tuple[Quote, Signed]] = {}
        self.lifetime_ms = min(lifetime_ms, market.configuration.quote_lifetime_ms)

    def quote(self, terms: QuoteTerms, *, now_ms: int) -> PostQuote:
        """A new quote at these terms, sealed to the enclave and remembered."""
        quote = Quote(
            session=self._market.session,
            sequence=self._sequence.next(),
            node_id=self._identity.node_id,
            model=terms.model,
            input_price=terms.input_price,
            output_price=terms.output_price,
            slots=terms.slots,
            context_length=terms.context_length,
            capabilities=terms.capabilities,
            expires_ms=now_ms + self.lifetime_ms,
        )
        signed = sign_as_node("quote", encode(quote), self._identity.key)
        self._forget(now_ms)
        self._posted[digest_of(signed.payload)] = quote, signed
        return PostQuote(seal(msgspec.msgpack.encode(signed), self._market.sealing_key))

    def posted(self, digest: str) -> Quote | None:
        """The quote with this digest, None when none was posted in this session or it is long over."""
        found = self._posted.get(digest)
        return found[0] if found else None

    def acknowledged(self, acknowledgement: Signed) -> Acknowledged:
        """The quote and its acknowledgement, once that holds; VerificationError otherwise."""
        payload = verify_enclave("quote-acknowledgement", acknowledgement, self._market.receipt_key)
        stands = decode(payload, QuoteAcknowledgement, check="quote acknowledgement")
        quote, signed = self._posted.get(stands.quote, (None, None))
        if quote is None or signed is None:
            raise VerificationError("quote acknowledgement", "is for a quote that this session did not post")
        if (stands.session, stands.sequence, stands.node_id) != (quote.session, quote.sequence, quote.node_id):
            raise VerificationError("quote acknowledgement", "names another session, sequence or node than the quote")
        return Acknowledged(signed, acknowledgement)

    def _forget(self, now_ms: int) -> None:
        over = [digest for digest, (quote, _) in self._posted.items() if quote.expires_ms + _GRACE_MS < now_ms]
        for digest in over:
            del self._posted[digest]
