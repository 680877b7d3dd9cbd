"""Which engine a node runs, from the one text of `--engine`: `embedded`, `echo`, `echo:SETTINGS` or a URL."""

from typing import Final
from urllib.parse import urlsplit

import msgspec

from pinaivu_node.engines.echo_settings import parse_echo_settings
from pinaivu_shared.errors import CallerError


class EmbeddedChoice(msgspec.Struct, frozen=True):
    """The demo model in a child process."""

    default_slots: int = 16

    @property
    def label(self) -> str:
        """As it is called in the log."""
        return "embedded"


class EchoChoice(msgspec.Struct, frozen=True):
    """The echo engine in a child process. `settings` was parsed once and is right."""

    settings: str
    default_slots: int = 1024

    @property
    def label(self) -> str:
        """As it is called in the log."""
        return f"echo:{self.settings}" if self.settings else "echo"


class UrlChoice(msgspec.Struct, frozen=True):
    """An OpenAI-protocol server that somebody else runs; `address` has no `/v1`."""

    address: str
    default_slots: int = 64

    @property
    def label(self) -> str:
        """As it is called in the log."""
        return self.address


EngineChoice = EmbeddedChoice | EchoChoice | UrlChoice
_EXPECTED: Final = "expected embedded, echo, echo:SETTINGS or the URL of an OpenAI-protocol server"


def parse_engine(text: str) -> EngineChoice:
    """The chosen engine; CallerError says what is wrong with the text."""
    kind, colon, rest = text.partition(":")
    if text == "embedded":
        return EmbeddedChoice()
    if kind == "echo" and not rest.startswith("//"):
        if colon and not rest:
            raise CallerError(f"engine {text!r}: {_EXPECTED}")
        parse_echo_settings(rest)
        return EchoChoice(rest)
    return UrlChoice(_address(text))


def _address(text: str) -> str:
    try:
        url = urlsplit(text)
        url.port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        raise CallerError(f"engine {text!r}: {error}") from error
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise CallerError(f"engine {text!r}: {_EXPECTED}")
    if url.username is not None or url.query or url.fragment:
        raise CallerError("engine: a URL without user, query or fragment; a key goes into the engine's key file")
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/').removesuffix('/v1')}"
