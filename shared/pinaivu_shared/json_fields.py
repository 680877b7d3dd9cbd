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
    """An integer from 0 on, also where it is written as 1.0: a negative one would count from an end."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("an index is no integer")
    if value < 0:
        raise ValueError("an index is negative")
    return value


def kind_of(event: Fields) -> str:
    """The `type` of an event, empty where it has none."""
    kind = event.get("type")
    return "" if kind is None else text_of(kind)


def complaint(error: Exception) -> str:
    """What to tell people of an error that reading has raised."""
    return f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
