"""The book of quotes that were posted: what an award may rest on, and for how long."""

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from pinaivu_node.admission import Market
from pinaivu_node.quotes import QuoteBook, Sequence
from pinaivu_node.tariff import QuoteTerms
from pinaivu_shared.ids import digest_of
from pinaivu_shared.sealing import open_sealed
from pinaivu_shared.signed import Signed
from pinaivu_shared.wire.node import PostQuote

from .market import CONFIGURATION, MODEL, NODE, NOW_MS, Enclave

LIFETIME_MS = 30_000
GRACE_MS = 60_000
TERMS = QuoteTerms(model=MODEL, input_price=1, output_price=2, slots=3, context_length=4096, capabilities=("chat",))
ENCLAVE = Enclave()


def book() -> QuoteBook:
    sealing_key: X25519PublicKey = ENCLAVE.sealing.public_key()
    market = Market("ses_" + "0" * 32, "33" * 32, ENCLAVE.receipt.public_key(), sealing_key, CONFIGURATION)
    return QuoteBook(market, NODE, Sequence(), lifetime_ms=LIFETIME_MS)


def digest(posted: PostQuote) -> str:
    signed = msgspec.msgpack.decode(open_sealed(posted.sealed, ENCLAVE.sealing), type=Signed)
    return digest_of(signed.payload)


def test_a_quote_expires_after_the_operators_lifetime_where_the_market_allows_more() -> None:
    quotes = book()
    quote = quotes.posted(digest(quotes.quote(TERMS, now_ms=NOW_MS)))
    assert quote is not None
    assert quote.expires_ms == NOW_MS + LIFETIME_MS


def test_each_renewal_is_a_quote_of_its_own() -> None:
    quotes = book()
    first, second = (quotes.posted(digest(quotes.quote(TERMS, now_ms=NOW_MS))) for _ in range(2))
    assert first is not None
    assert second is not None
    assert second.sequence == first.sequence + 1


def test_an_expired_quote_holds_for_awards_under_way_and_then_no_more() -> None:
    quotes = book()
    first = digest(quotes.quote(TERMS, now_ms=NOW_MS))
    quotes.quote(TERMS, now_ms=NOW_MS + LIFETIME_MS + GRACE_MS)
    assert quotes.posted(first) is not None
    quotes.quote(TERMS, now_ms=NOW_MS + LIFETIME_MS + GRACE_MS + 1)
    assert quotes.posted(first) is None
