"""What the clients are told of one function, one schema and one conversation."""

from typing import Any, Final

from pydantic import BaseModel

ARGUMENTS: Final = '{"city": "Zürich"}'


class City(BaseModel):
    """A city, as arguments of a function and as a structured answer."""

    city: str


SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city", "parameters": SCHEMA},
}
HISTORY: Final[list[dict[str, Any]]] = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "one two"},
    {"role": "assistant", "content": "three"},
    {"role": "user", "content": [{"type": "text", "text": "four five"}, {"type": "text", "text": " six"}]},
]
