"""Counting what an answer cost, from what engines tell of it on the way and at its end.

With several choices, a chunk that has some tells the count of its own choice only, and one without any that of the
answer (vLLM, SGLang, Ollama) or again of one choice each (llama.cpp, which sends as many). So those without are summed.

Before wanted JSON, llama.cpp lets the model write blanks, counts them, and trims them off the text. What nobody gets is
not claimed: a market that counts the text again would take the claim for a lie.
"""

from collections.abc import Iterable

from pinaivu_node.engines.chunks import Chunk
from pinaivu_node.engines.events import NO_USAGE, Usage


class UsageCount:
    """Collects the usage of one answer."""

    def __init__(self, choices: int, *, trimmed: bool = False) -> None:
        """`trimmed` says that the engine may trim what comes before the text, which is then no part of the usage."""
        self._choices = choices
        self._lead = _Lead() if trimmed else None
        self._of_choices: dict[int, Usage] = {}
        self._finished: dict[int, Usage] = {}
        self._of_answer: list[Usage] = []

    def take(self, chunk: Chunk, *, ended: bool) -> None:
        """Take what a chunk tells; `ended` says that all choices in it have, or all of the answer where it has none."""
        if self._lead is not None:
            self._lead.take(chunk)
        told = _told(chunk)
        if told is None:
            return
        if chunk.choices:
            places = self._finished if ended and chunk.usage is not None else self._of_choices
            places[chunk.choices[0].index] = told
        elif chunk.usage is not None and (ended or self._choices > 1):
            self._of_answer = [*(self._of_answer if self._choices > 1 else []), told]
        else:
            self._of_choices[0] = told

    def whole(self) -> Usage:
        """Of an answer that ended: zeros where the engine gave no count."""
        return self._shown(_sum(self._of_answer) if self._of_answer else _sum(self._finished.values()))

    def so_far(self) -> Usage:
        """Of an answer that was broken off."""
        running = self._shown(_sum({**self._of_choices, **self._finished}.values()))
        return max(running, self.whole(), key=lambda usage: usage.completion_tokens)

    def _shown(self, counted: Usage) -> Usage:
        if self._lead is None:
            return counted
        return Usage(counted.prompt_tokens, max(0, counted.completion_tokens - self._lead.tokens()))


class _Lead:
    """How many tokens llama.cpp trimmed before the text of each choice, by the counts in its `timings`."""

    def __init__(self) -> None:
        self._told: dict[int, int] = {}
        self._trimmed: dict[int, int] = {}

    def tokens(self) -> int:
        """Over all choices."""
        return sum(self._trimmed.values())

    def take(self, chunk: Chunk) -> None:
        """Reasoning is told piece by piece, and so is no part of it. The first chunk is a greeting, of no token."""
        if chunk.timings is None:
            return
        counted = chunk.timings.predicted_n
        for choice in chunk.choices or ():
            if choice.delta is not None and choice.delta.content and choice.index not in self._trimmed:
                self._trimmed[choice.index] = max(0, counted - self._told.get(choice.index, 0) - 1)
            self._told[choice.index] = counted if choice.index in self._told else 0


def _told(chunk: Chunk) -> Usage | None:
    if chunk.usage is not None:
        return Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
    if chunk.timings is not None:
        return Usage(chunk.timings.cache_n + chunk.timings.prompt_n, chunk.timings.predicted_n)
    return None


def _sum(counts: Iterable[Usage]) -> Usage:
    """The prompt counts once."""
    found = list(counts)
    if not found:
        return NO_USAGE
    return Usage(max(one.prompt_tokens for one in found), sum(one.completion_tokens for one in found))
