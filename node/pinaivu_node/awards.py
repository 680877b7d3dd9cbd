"""Checking an award before anything runs: the node's protection against a lying gateway.

An award must be the enclave's, name this node and session, rest on a quote that was posted, pay at least that quote's
prices, and belong to the very request that came with it. Each award is good for one run.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from pinaivu_node.admission import Market
from pinaivu_node.keys import Identity
from pinaivu_shared.canonical import decode, parse_json
from pinaivu_shared.commitments import FORWARDED_FIELDS, canonical_bytes, commitment
from pinaivu_shared.errors import PeerError, VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import Signed, verify_enclave
from pinaivu_shared.terms import Award, Quote
from pinaivu_shared.wire.node import Offer


class CheckedAward(msgspec.Struct, frozen=True):
    """An award that may be run. Made by `AwardCheck` only. `digest` is that of the award's payload bytes."""

    award: Award
    signed: Signed
    digest: str
    quote: Quote
    request: dict[str, Any]
    salt: bytes


class InvalidAwardError(VerificationError):
    """Nothing may be run under this award."""

    code = "invalid_award"


_CHECK: Final = "award"


class AwardCheck:
    """Judges the awards of one session."""

    def __init__(self, market: Market, identity: Identity, posted: Callable[[str], Quote | None]) -> None:
        """`posted` finds a quote of this session by its digest."""
        self._market, self._identity, self._posted = market, identity, posted
        self._seen: dict[str, int] = {}

    def check(self, offer: Offer, *, now_ms: int) -> CheckedAward:
        """The award, once everything holds; InvalidAwardError says what does not."""
        try:
            payload = verify_enclave("award", offer.award, self._market.receipt_key)
        except VerificationError as error:
            raise InvalidAwardError(error.check, error.detail) from error
        award = named_award(offer)
        quote = self._check_terms(award, now_ms)
        request = _matching_request(offer, award)
        self._use_up(award, now_ms)
        return CheckedAward(award, offer.award, digest_of(payload), quote, request, offer.salt)

    def _check_terms(self, award: Award, now_ms: int) -> Quote:
        quote = self._posted(award.quote)
        _require(award.node_id == self._identity.node_id, f"is for {award.node_id}")
        _require(award.session == self._market.session, f"is for {award.session}")
        if quote is None:
            raise InvalidAwardError(_CHECK, "rests on a quote that this session did not post")
        _require(award.model == quote.model, f"is for model {award.model}, the quote for {quote.model}")
        _require(award.input_price >= quote.input_price, f"pays {award.input_price} for input")
        _require(award.output_price >= quote.output_price, f"pays {award.output_price} for output")
        _require(min(award.first_token_by_ms, award.deadline_ms) > now_ms, "came after its deadline")
        return quote

    def _use_up(self, award: Award, now_ms: int) -> None:
        _require(award.request_id not in self._seen, "was offered before")
        while self._seen and (oldest := next(iter(self._seen))) and self._seen[oldest] <= now_ms:
            del self._seen[oldest]
        self._seen[award.request_id] = award.deadline_ms


def named_award(offer: Offer) -> Award:
    """The award in an offer, unverified; PeerError for bytes that are none, which cannot even be declined."""
    try:
        return decode(offer.award.payload, Award, check=_CHECK)
    except VerificationError as error:
        raise PeerError("gateway", f"offered what is no award: {error.detail}") from error


def _matching_request(offer: Offer, award: Award) -> dict[str, Any]:
    """The request, once it is the one that the award commits to."""
    try:
        request = parse_json(offer.request)
        canonical = canonical_bytes(request)
    except (ValueError, RecursionError, VerificationError) as error:
        raise InvalidAwardError("request", "has no canonical form") from error  # the log must not quote it
    if not isinstance(request, dict):
        raise InvalidAwardError("request", "is no JSON object")
    _require(len(canonical) == award.request_bytes, f"is for a request of {award.request_bytes} bytes")
    committed = commitment("forwarded", canonical, offer.salt)
    _require(committed == award.forwarded_commitment, "commits to another request")
    _require(FORWARDED_FIELDS.issuperset(request), "comes with fields that nodes have no business to see")
    _require(request.get("model") == award.model, "comes with a request for another model")
    _require("input" in request or award.max_completion_tokens >= 1, "leaves no token to answer with")
    return request


def _require(condition: bool, detail: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise InvalidAwardError(_CHECK, detail)
