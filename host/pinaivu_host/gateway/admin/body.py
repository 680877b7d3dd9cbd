"""What the operator sends to `/admin/v1`: its fields, and the reading of them under the admin key."""

import unicodedata
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field
from starlette.types import Receive, Scope

from pinaivu_host.gateway.authentication import authenticate_operator
from pinaivu_host.gateway.body import parse_object, read_body
from pinaivu_host.gateway.error_table import INVALID_VALUE
from pinaivu_host.gateway.errors import ApiError, Detail
from pinaivu_host.gateway.messages import Shape
from pinaivu_host.gateway.validation import validated
from pinaivu_shared.money import AMOUNT_MAX, parse_usdc

ADMIN_BODY_BYTES_MAX: Final = 16 * 1024

Amount = Annotated[str, Field(max_length=40)]


def _plain(text: str) -> str:
    """Names go into one line of a list; PostgreSQL has no NUL either."""
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("must not have control characters")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
Reference = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]


class OperatorShape(Shape):
    """Base of everything the operator sends. Unknown fields are refused: a misspelt reference would count twice."""

    model_config = ConfigDict(extra="forbid")


async def read_admin_body(scope: Scope, receive: Receive, shape: Any, admin_key: str | None) -> Any:  # noqa: ANN401 - a model and its instance
    """The operator's body as `shape`; ApiError (401, 422, …) for anybody or anything else."""
    authenticate_operator(scope, admin_key)
    return validated(shape, parse_object(await read_body(scope, receive, max_bytes=ADMIN_BODY_BYTES_MAX)))


def parse_amount(text: str, name: str, *, at_least: int = 1) -> int:
    """Micro-USDC from a decimal text; ApiError (422) for anything else, too little or too much."""
    try:
        amount = parse_usdc(text)
    except ValueError as error:
        raise wrong_value(name, str(error)) from None
    if not at_least <= amount <= AMOUNT_MAX:
        raise wrong_value(name, "more than an account can hold" if amount else "nothing at all is no order")
    return amount


def wrong_value(name: str, reason: str) -> ApiError:
    """The error for one field of an operator's body."""
    return ApiError(
        INVALID_VALUE, f"{name}: {reason}", param=name, detail=(Detail(("body", name), reason, "value_error"),)
    )
