"""Getting at the chosen engine: its address and key, and the process behind it where the node runs one."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, assert_never

import msgspec
import trio

from pinaivu_node.engines.capabilities import Wishes
from pinaivu_node.engines.child import running_child
from pinaivu_node.engines.choice import EchoChoice, EmbeddedChoice, EngineChoice, UrlChoice

EMBEDDED_MODEL: Final = "pinaivu-tiny"
EMBEDDED_TOKENIZER: Final = Path(__file__).parent / "models" / "pinaivu-tiny-tokenizer.json"
"""The tokenizer of the embedded model, taken from its weights: for hosts that count its answers again."""
_MODEL_FILE: Final = Path(__file__).parent / "models" / "pinaivu-tiny-q8_0.gguf"

EMBEDDED_JSON_GRAMMAR: Final = r"""
root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" space (member ("," space member)*)? "}"
member ::= string ":" space value space
array ::= "[" space (value space ("," space value space)*)? "]"
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
space ::= " "?
"""
"""A JSON object (RFC 8259) in llama.cpp's GBNF, for the embedded model.

Asked by `response_format`, llama.cpp lets a model begin with blanks, which it trims off: this one spends its tokens so.
Models that reason or call tools need llama.cpp's own grammar, which leaves room for that.
"""


class EngineSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator said about the engine.

    `models` maps the names to offer to the engine's own, empty for all it has; `context_length` 0 is no bound; `wishes`
    is what all its models can do beside what is found, and what not.
    """

    choice: EngineChoice
    slots: int
    api_key: str = ""
    models: Mapping[str, str] = {}
    context_length: int = 0
    wishes: Wishes = Wishes()


class Access(msgspec.Struct, frozen=True):
    """Where the engine is. `process` is None for an engine that somebody else runs.

    `json_grammar` is what its models are asked for a JSON object with, empty for `response_format`.
    """

    address: str
    api_key: str
    process: trio.Process | None = None
    json_grammar: str = ""


@asynccontextmanager
async def engine_access(setup: EngineSetup) -> AsyncIterator[Access]:
    """Start the engine where it is ours, and end it with the context. EngineError when it does not start."""
    match setup.choice:
        case UrlChoice(address=address):
            yield Access(address, setup.api_key)
        case EchoChoice(settings=settings):
            arguments = ["--settings", settings, "--exit-with-stdin"]
            async with running_child("pinaivu_node.engines.echo_server", arguments) as child:
                yield Access(child.address, "", child.process)
        case EmbeddedChoice():
            key = secrets.token_hex(32)
            arguments = ["--model", str(_MODEL_FILE), "--alias", EMBEDDED_MODEL, "--slots", str(setup.slots)]
            module = "pinaivu_node.engines.embedded_server"
            async with running_child(module, arguments, first_line=key.encode() + b"\n") as child:
                yield Access(child.address, key, child.process, EMBEDDED_JSON_GRAMMAR)
        case _:
            assert_never(setup.choice)
