"""Reading a parsed body: shapes and ranges that endpoints share, and 422 for what does not have them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from pydantic import AllowInfNan, BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from pinaivu_host.gateway.error_table import INVALID_VALUE, MISSING_FIELD, UNSUPPORTED_PARAMETER
from pinaivu_host.gateway.errors import ApiError, Detail
from pinaivu_host.gateway.messages import Shape

DETAILS_MAX: Final = 20
MESSAGE_CHARACTERS_MAX: Final = 600
INTEGER_MAX: Final = 2**53 - 1
"""Of either sign: RFC 8785, in which requests are hashed, has no larger ones."""
_OBJECTS: Final = frozenset({"dict_type", "model_attributes_type", "model_type"})
"""What pydantic says of them names its own classes."""
_Model = TypeVar("_Model", bound=BaseModel)


class _Fault(NamedTuple):
    """Where, what, and its stable type."""

    loc: Sequence[str | int]
    message: str
    kind: str


def _whole(value: object) -> object:
    """JavaScript callers compute integers: 16.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def one_or_many(value: object) -> str:
    """The tag of a field that takes a text or several."""
    return "many" if isinstance(value, list) else "one"


def _text_or_tokens(value: object) -> str:
    if isinstance(value, list):
        return "token_ids"
    return "token_id" if isinstance(value, int) and not isinstance(value, bool) else "a_text"


Whole = BeforeValidator(_whole)
TextOrTokens = Annotated[
    Annotated[str, Tag("a_text")] | Annotated[int, Tag("token_id")] | Annotated[list[Any], Tag("token_ids")],
    Discriminator(_text_or_tokens),
]
"""An item of a list that may hold texts, a text's token ids, or lists of them."""
PositiveInt = Annotated[int, Field(ge=1), Whole]
Seed = Annotated[int, Field(ge=-INTEGER_MAX, le=INTEGER_MAX), Whole]
Number = Annotated[float, AllowInfNan(allow_inf_nan=False)]
Penalty = Annotated[Number, Field(ge=-2, le=2)]
StopText = Annotated[str, Field(min_length=1, max_length=1024)]
Stop = Annotated[
    Annotated[StopText, Tag("one")]
    | Annotated[list[StopText], Field(min_length=1, max_length=4, fail_fast=True), Tag("many")],
    Discriminator(one_or_many),
]


class StreamOptions(Shape):
    """What else the caller wants in the stream."""

    include_usage: bool | None = None


def read_request(shape: type[_Model], body: dict[str, Any]) -> _Model:
    """As `validated`, where null stands for absent."""
    return validated(shape, {name: value for name, value in body.items() if value is not None})


def check_moved(body: Mapping[str, Any], moved: Mapping[str, str]) -> None:
    """Raise ApiError (400) for a parameter of other endpoints that this one calls otherwise, or lacks.

    Ignored, it would change what the answer means or costs. `moved` has what to do instead; null and `[]` are absence.
    """
    for name, instead in moved.items():
        if body.get(name) not in (None, []):
            raise ApiError(UNSUPPORTED_PARAMETER, f"there is no {name} here: {instead}", param=name)


def validated(shape: type[_Model], body: dict[str, Any]) -> _Model:
    """The body as `shape`; ApiError (422) with the first faults as `detail`, their essence as the message."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)[:DETAILS_MAX]
    detail = [_detail(fault, body) for fault in map(_told, faults)]
    first = detail[0]
    kind = MISSING_FIELD if first.type == "missing" else INVALID_VALUE
    message = "; ".join(f"{_dotted(one)}: {one.msg}" for one in detail[:3])
    raise ApiError(kind, message, param=_dotted(first) or None, detail=detail)


def _dotted(detail: Detail) -> str:
    return ".".join(str(step) for step in detail.loc[1:])


def _told(fault: ErrorDetails) -> _Fault:
    """The fault in the caller's words: what tells the members of a union apart is a field like others."""
    loc, kind = fault["loc"], fault["type"]
    if kind in _OBJECTS:
        return _Fault(loc, "Input should be an object", kind)
    if not kind.startswith("union_tag"):
        return _Fault(loc, fault["msg"].removeprefix("Value error, "), kind)
    context = fault["ctx"]
    place = (*loc, context["discriminator"].strip("'"))
    if kind == "union_tag_not_found":
        return _Fault(place, "Field required", "missing")
    return _Fault(place, f"Input should be one of {context['expected_tags']}", "literal_error")


def _detail(fault: _Fault, body: object) -> Detail:
    """The fault with the steps that pydantic's unions add taken out of its path."""
    loc, message, kind = fault
    path: list[str | int] = ["body"]
    here: Any = body
    for position, step in enumerate(loc):
        if _holds(here, step):
            here = here[step]
        elif kind != "missing" or position < len(loc) - 1:
            continue
        path.append(step)
    return Detail(path, _short(message), kind)


def _short(message: str) -> str:
    """Messages on unions repeat what was sent, which may be as long as a body."""
    side = MESSAGE_CHARACTERS_MAX // 2
    return message if len(message) <= MESSAGE_CHARACTERS_MAX else f"{message[:side]} ... {message[-side:]}"


def _holds(value: object, step: str | int) -> bool:
    """Whether this step of a path is one of the body, and not a name that pydantic gave to a union's member."""
    if isinstance(value, dict):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)
