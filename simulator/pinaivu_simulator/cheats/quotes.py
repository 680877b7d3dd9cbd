"""Cheats about quotes and registration: what was signed for one session is used in another, or twice."""

from typing import ClassVar

import msgspec

from pinaivu_node.connection import ConnectionLostError
from pinaivu_node.quotes import QuoteBook, Sequence
from pinaivu_node.tariff import QuoteTerms
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.signed import Signed, sign_as_node, sign_ed25519
from pinaivu_shared.terms import Challenge, FleetGrant, Registration
from pinaivu_shared.wire.node import (
    FromGateway,
    FromNode,
    Hello,
    PostQuote,
    QuoteAcknowledged,
    Register,
    RegistrationAccepted,
    Welcome,
)
from pinaivu_simulator.cheats.cheat import Cheat, Means
from pinaivu_simulator.cheats.wire import Wire

_LIFETIME_MS = 60_000
_CONTEXT_TOKENS = 4096


class ReplayedQuote(Cheat):
    """An old price may be a better one by now."""

    sentence: ClassVar[str] = "posts each of its sealed quotes a second time"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The same bytes again."""
        await wire.send(message)
        if isinstance(message, PostQuote):
            await wire.send(message)
            self.tell("cheated")


class ReusedSequence(Cheat):
    """Two quotes of one number: whichever suits later is the one that stood."""

    sentence: ClassVar[str] = "posts a second quote, for one micro-USDC, under the sequence number of its first"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Another quote from a book that begins to count again."""
        await wire.send(message)
        if isinstance(message, PostQuote):
            assert self.market is not None
            book = QuoteBook(self.market, self.means.identity, Sequence(), lifetime_ms=_LIFETIME_MS)
            model = self.market.configuration.models[0].model
            terms = QuoteTerms(
                model=model,
                input_price=1,
                output_price=1,
                slots=1,
                context_length=_CONTEXT_TOKENS,
                capabilities=("chat",),
            )
            await wire.send(book.quote(terms, now_ms=self.means.now_ms()))
            self.tell("cheated")


class QuoteOfAnotherSession(Cheat):
    """Quotes once, hangs up, and in each later session posts the quote of the first."""

    sentence: ClassVar[str] = "posts in each later session the quote that it signed in its first"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._old: PostQuote | None = None
        self._hung_up = False

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The old quote in place of the new one."""
        if isinstance(message, PostQuote):
            if self._hung_up:
                self.tell("cheated")
            self._old = self._old or message
            message = self._old
        await wire.send(message)

    def hear(self, message: FromGateway) -> None:
        """Hang up when the first quote stands."""
        super().hear(message)
        if isinstance(message, QuoteAcknowledged) and not self._hung_up:
            self._hung_up = True
            raise ConnectionLostError("gateway", "was hung up on: the quote is for the next session")


class KeyOfAnother(Cheat):
    """Wants the other node's quality and its jobs; has not got its private key."""

    sentence: ClassVar[str] = "registers with another node's public key and signs with its own"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The whole handshake under the victim's name; what follows is for the agent to hear."""
        if not isinstance(message, Hello):
            await wire.send(message)
            return
        await wire.send(msgspec.structs.replace(message, public_key=self.means.victim))
        welcome = await wire.receive()
        if isinstance(welcome, Welcome):
            challenge = decode(welcome.challenge.payload, Challenge, check="challenge")
            answer = Registration(
                session=challenge.session,
                challenge=challenge.challenge,
                public_key=self.means.victim.hex(),
                operator="somebody",
                fleet_key=self.means.identity.public_key.hex(),
                fleet_signature=self._grant().hex(),
            )
            await wire.send(Register(sign_as_node("registration", encode(answer), self.means.identity.key)))
            self.tell("cheated")

    def _grant(self) -> bytes:
        grant = FleetGrant(operator="somebody", node_key=self.means.victim.hex())
        return sign_ed25519("fleet-grant", encode(grant), self.means.identity.key)


class MadeUpChallenge(Cheat):
    """Answers a challenge that this session was not given."""

    sentence: ClassVar[str] = "registers by answering another challenge than it was given"

    async def send(self, message: FromNode, wire: Wire) -> None:
        """Its own name under a challenge of its own making."""
        if isinstance(message, Register):
            honest = decode(message.registration.payload, Registration, check="registration")
            other = msgspec.structs.replace(honest, challenge=self.means.chance.randbytes(32).hex())
            message = Register(sign_as_node("registration", encode(other), self.means.identity.key))
            self.tell("cheated")
        await wire.send(message)


class ReplayedRegistration(Cheat):
    """Registers once, hangs up, and comes back with the same signature."""

    sentence: ClassVar[str] = "answers each later challenge with its answer to the first"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._old: Signed | None = None
        self._hung_up = False

    async def send(self, message: FromNode, wire: Wire) -> None:
        """The old answer in place of the new one."""
        if isinstance(message, Register):
            if self._hung_up:
                self.tell("cheated")
            self._old = self._old or message.registration
            message = Register(self._old)
        await wire.send(message)

    def hear(self, message: FromGateway) -> None:
        """Hang up once registered."""
        super().hear(message)
        if isinstance(message, RegistrationAccepted) and not self._hung_up:
            self._hung_up = True
            raise ConnectionLostError("gateway", "was hung up on: the answer is for the next session")
