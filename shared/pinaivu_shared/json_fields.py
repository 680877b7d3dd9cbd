"""JSON of unknown shape, read field by field: TypeError or ValueError for what is of another kind."""

from typing import Any

Fields = dict[str, Any]


def fields_of(value: object) -> Fields:
    """An object."""
    if not isinstance(value, dict):
        raise TypeError("what should be an object is none")
    return value


def list_of(value: object) -> list[Any]:
    """An array."""
    if not isinstance(value, list):
        raise TypeError("what should be a list is none")
    return value


def text_of(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError("what should be a text is none")
    return value


def place_of(value: object) -> int:
    """An integer from 0 on: a negative one would count from an end."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("an index is no integer")
    if value < 0:
        raise ValueError("an index is negative")
    return value
