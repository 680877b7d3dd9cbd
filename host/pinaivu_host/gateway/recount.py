"""Counting tokens again, where the model's tokenizer is known: what a node claims beyond it is not paid.

The counts go to the enclave with the delivery. They can only lower what a node is paid. A claim a little above is no
offence, for an engine's tokens need not be the fewest that spell its text (`MeteringLimits`).
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pinaivu_shared.errors import CallerError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

AT_ONCE_CHARACTERS: Final = 4096
"""A longer text is counted in a thread: other requests get their turns meanwhile."""


MESSAGE_TOKENS: Final = 8
"""What a chat template puts around each message, generously."""
INPUT_TOKENS: Final = 4
"""What a model of embeddings puts around each input, generously: it is a beginning and an end."""


class Recounter:
    """Tokenizers by model. A model without one is not recounted."""

    def __init__(self, tokenizers: Mapping[str, "Tokenizer"]) -> None:
        self._tokenizers = dict(tokenizers)

    def knows(self, model: str) -> bool:
        """Whether the model's tokenizer is there."""
        return model in self._tokenizers

    async def count_answer(self, choices: Sequence[Mapping[str, Any]], *, model: str) -> int | None:
        """Tokens of an answer's choices; None where the tokenizer is not known, or there is more to them than text.

        How a model writes its tool calls is its template's secret, so answers with tool calls are not recounted.
        """
        messages = [choice["message"] for choice in choices]
        texts: list[str] = [message["content"] for message in messages if message.get("content")]
        if not texts or any(message.get("tool_calls") for message in messages):
            return None
        counts = [await self._count(model, text) for text in texts]
        return sum(count for count in counts if count is not None) if None not in counts else None

    async def count_prompt(self, forwarded: bytes, *, model: str) -> int | None:
        """Tokens that a request's text can have, its template's own aside; None as above."""
        if not self.knows(model):
            return None
        request = msgspec.json.decode(forwarded)
        given = request.get("input") or [request.get("prompt")]
        messages = request.get("messages") or [{"content": text} for text in given]
        texts = [text for message in messages for text in _texts(message)]
        if request.get("tools") or None in texts:
            return None
        counted = await self._count(model, "\n".join(text for text in texts if text))
        if counted is None:
            return None
        return counted + len(messages) * (INPUT_TOKENS if "input" in request else MESSAGE_TOKENS)

    async def _count(self, model: str, text: str) -> int | None:
        tokenizer = self._tokenizers.get(model)
        if tokenizer is None:
            return None
        if len(text) <= AT_ONCE_CHARACTERS:
            return _count(tokenizer, text)
        return await asyncio.to_thread(_count, tokenizer, text)


NO_RECOUNTS: Final = Recounter({})


def load_tokenizers(given: str) -> Recounter:
    """Tokenizers from `MODEL=FILE,MODEL=FILE`, each FILE a `tokenizer.json`; CallerError says which cannot be used."""
    tokenizers: dict[str, Tokenizer] = {}
    for entry in filter(None, given.split(",")):
        model, _, file = entry.rpartition("=")
        if not model or not file:
            raise CallerError(f"--tokenizers: {entry[:100]!r} is not MODEL=FILE")
        if model in tokenizers:
            raise CallerError(f"--tokenizers: {model} is there twice")
        tokenizers[model] = _load(model, Path(file))
    return Recounter(tokenizers)


def _load(model: str, file: Path) -> "Tokenizer":
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra that only hosts with recounts need
    except ImportError:
        raise CallerError("--tokenizers needs the extra `recount`: pip install 'pinaivu[host,recount]'") from None
    try:
        tokenizer = Tokenizer.from_buffer(file.read_bytes())
    except OSError as error:
        raise CallerError(f"--tokenizers: {file}: {error.strerror}") from error
    except ValueError as error:
        raise CallerError(f"--tokenizers: {file} is no tokenizer of {model}: {error}") from error
    tokenizer.no_truncation()  # those of embeddings' models come cut to a length, and filled up to it
    tokenizer.no_padding()
    return tokenizer


def _texts(message: Mapping[str, Any]) -> Iterator[str | None]:
    """The text of a message; None where it holds anything else."""
    content = message.get("content")
    if message.get("tool_calls"):
        yield None
    elif isinstance(content, list):
        yield from (part.get("text") if part.get("type") == "text" else None for part in content)
    else:
        yield content or ""


def _count(tokenizer: "Tokenizer", text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))
