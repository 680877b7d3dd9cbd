"""Nodes join: challenge, registration, standing quotes (DESIGN section 3)."""

import msgspec

from pinaivu_enclave.core.commands import Effect, IssueChallenge, MarketFullError
from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.quote_book import QuoteBook, StandingQuote
from pinaivu_enclave.core.sessions import Session, Sessions
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import RegistrationLeaf, sign_leaf
from pinaivu_shared.sealing import open_sealed
from pinaivu_shared.signed import Signed, sign_as_enclave, verify_node
from pinaivu_shared.terms import Quote, QuoteAcknowledgement, Registered
from pinaivu_shared.wire import link

_signed_decoder = msgspec.msgpack.Decoder(Signed)


class RegistrationOffice:
    """Opens and ends sessions, and lets quotes stand."""

    def __init__(
        self, keys: EpochKeys, state: MarketState, journal: Journal, book: QuoteBook, sessions: Sessions
    ) -> None:
        self._keys, self._state, self._journal = keys, state, journal
        self._book, self._sessions = book, sessions

    def issue_challenge(self, command: IssueChallenge, now_ms: int) -> list[Effect]:
        """A new session, to be proven."""
        challenge = self._sessions.challenge(command.public_key, command.entropy, now_ms)
        signed = sign_as_enclave("challenge", encode(challenge), self._keys.receipt)
        return [link.ChallengeIssued(challenge.session, signed)]

    def register(self, command: link.RegisterNode, now_ms: int) -> list[Effect]:
        """The session is proven: it is the node's only one from now on. A node not known yet becomes a leaf."""
        if self._journal.full:
            raise MarketFullError("too many leaves wait to be stored")
        session, older = self._sessions.register(command.session, command.registration, now_ms)
        if older is not None:
            self._book.forget_session(older)
        effects: list[Effect] = self._record_node(session, now_ms)
        registered = Registered(session=session.session, node_id=session.node_id, registered_ms=now_ms)
        signed = sign_as_enclave("registered", encode(registered), self._keys.receipt)
        return [*effects, link.NodeRegistered(session.node_id, signed)]

    def post_quote(self, command: link.PostSealedQuote, now_ms: int) -> list[Effect]:
        """The quote stands, or RefusedQuoteError or VerificationError."""
        session = self._sessions.get(command.session)
        quote, digest = _open_quote(command.sealed, session, self._keys)
        self._book.post(StandingQuote(quote, digest, session.operator), now_ms)
        acknowledgement = QuoteAcknowledgement(
            session=quote.session,
            sequence=quote.sequence,
            node_id=quote.node_id,
            quote=digest,
            acknowledged_ms=now_ms,
            expires_ms=quote.expires_ms,
        )
        signed = sign_as_enclave("quote-acknowledgement", encode(acknowledgement), self._keys.receipt)
        return [link.QuotePosted(quote.model, signed)]

    def end_session(self, session: str) -> None:
        """The node is gone; its quotes fall."""
        self._sessions.end(session)
        self._book.forget_session(session)

    def _record_node(self, session: Session, now_ms: int) -> list[Effect]:
        known = self._state.nodes.get(session.node_id)
        public_key = session.public_key.public_bytes_raw()
        if known is not None and known.public_key != public_key:
            raise VerificationError("registration", "another key has this node id")
        if known is not None and known.operator == session.operator:
            return []
        leaf = RegistrationLeaf(
            index=self._journal.size,
            node_id=session.node_id,
            public_key=public_key.hex(),
            operator=session.operator,
            registered_ms=now_ms,
            coordinator_signature="",
        )
        self._state.fold(leaf)
        return [self._journal.append(sign_leaf(leaf, self._keys.receipt))]


def _open_quote(sealed: bytes, session: Session, keys: EpochKeys) -> tuple[Quote, str]:
    try:
        signed = _signed_decoder.decode(open_sealed(sealed, keys.sealing))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VerificationError("quote", f"not of the expected shape: {error}") from None
    quote = decode(verify_node("quote", signed, session.public_key), Quote, check="quote")
    if (quote.session, quote.node_id) != (session.session, session.node_id):
        raise VerificationError("quote", "is of another session or node")
    return quote, digest_of(signed.payload)
