"""Node sessions: a challenge, its answer, and the one session that counts for each node."""

from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pinaivu_enclave.core.commands import IllegalCommandError, MarketFullError, UnknownSubjectError
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import node_id_of, operator_of
from pinaivu_shared.signed import Signed, load_node_key, verify_ed25519, verify_node
from pinaivu_shared.terms import Challenge, FleetGrant, Registration

CHALLENGE_LIFETIME_MS: Final = 60_000
CHALLENGE_ENTROPY_BYTES: Final = 48


class Session(msgspec.Struct, frozen=True):
    """A node that proved to hold its key. Quotes and proofs must name this session."""

    session: str
    node_id: str
    operator: str
    public_key: Ed25519PublicKey


class _Pending(msgspec.Struct, frozen=True):
    challenge: Challenge
    public_key: bytes


def _operator(answer: Registration) -> str:
    """Who operates the node, once that operator has said so; VerificationError otherwise."""
    grant = encode(FleetGrant(operator=answer.operator, node_key=answer.public_key))
    key = bytes.fromhex(answer.fleet_key)
    verify_ed25519("fleet-grant", grant, bytes.fromhex(answer.fleet_signature), key)
    return operator_of(answer.operator, key)


class Sessions:
    """Open challenges and registered sessions, at most one per node: the newer wins."""

    def __init__(self, *, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self._pending: dict[str, _Pending] = {}
        self._registered: dict[str, Session] = {}
        self._session_of_node: dict[str, str] = {}

    def challenge(self, public_key: bytes, entropy: bytes, now_ms: int) -> Challenge:
        """Open a session for this raw public key and say what it has to sign."""
        load_node_key(public_key)
        assert len(entropy) == CHALLENGE_ENTROPY_BYTES
        self.expire(now_ms)
        if len(self._registered) >= self._max_nodes:
            raise MarketFullError(f"the market takes {self._max_nodes} nodes")
        if len(self._pending) >= self._max_nodes:
            del self._pending[next(iter(self._pending))]  # whoever asks and does not answer keeps nobody out
        challenge = Challenge(
            session="ses_" + entropy[:16].hex(),
            node_id=node_id_of(public_key),
            challenge=entropy[16:].hex(),
            expires_ms=now_ms + CHALLENGE_LIFETIME_MS,
        )
        self._pending[challenge.session] = _Pending(challenge, public_key)
        return challenge

    def register(self, session: str, signed: Signed, now_ms: int) -> tuple[Session, str | None]:
        """Check the answer to a challenge; the session, and the older session of that node which it ends."""
        pending = self._pending.get(session)
        if pending is None or pending.challenge.expires_ms < now_ms:
            raise IllegalCommandError("no open challenge in this session: ask for a new one")
        key = load_node_key(pending.public_key)
        answer = decode(verify_node("registration", signed, key), Registration, check="registration")
        asked = (session, pending.challenge.challenge, pending.public_key.hex())
        if (answer.session, answer.challenge, answer.public_key) != asked:
            raise VerificationError("registration", "answers another challenge, session or key")
        registered = Session(session, pending.challenge.node_id, _operator(answer), key)
        older = self._session_of_node.get(registered.node_id)
        if older is None and len(self._registered) >= self._max_nodes:
            raise MarketFullError(f"the market takes {self._max_nodes} nodes")
        del self._pending[session]
        if older is not None:
            self.end(older)
        self._registered[session] = registered
        self._session_of_node[registered.node_id] = session
        return registered, older

    def get(self, session: str) -> Session:
        """The registered session, or UnknownSubjectError."""
        found = self._registered.get(session)
        if found is None:
            raise UnknownSubjectError("this session is not registered: connect again")
        return found

    def end(self, session: str) -> None:
        """Forget a session, if there is one."""
        self._pending.pop(session, None)
        ended = self._registered.pop(session, None)
        if ended is not None and self._session_of_node.get(ended.node_id) == session:
            del self._session_of_node[ended.node_id]

    def expire(self, now_ms: int) -> None:
        """Drop challenges nobody answered in time; they are in order of age."""
        while self._pending:
            session = next(iter(self._pending))
            if self._pending[session].challenge.expires_ms >= now_ms:
                return
            del self._pending[session]

    def all(self) -> list[str]:
        """Every session there is, open or registered."""
        return [*self._pending, *self._registered]
