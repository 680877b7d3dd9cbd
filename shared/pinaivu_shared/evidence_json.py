"""Reading evidence that came over HTTP: JSON with each key once, and not the service's word that there is none."""

from typing import Any

from pinaivu_shared.canonical import DuplicateKeyError, parse_json
from pinaivu_shared.error_body import service_error
from pinaivu_shared.errors import UnreadableError, VerificationError


def parse_evidence(raw: bytes, *, what: str, check: str) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value of `what`. UnreadableError for what is none, the service's error body among it.

    VerificationError(check) for an object that names one key twice: its readers could see different things.
    """
    if refusal := service_error(raw):
        raise UnreadableError(f"{what}: this is the service's error: {refusal}")
    try:
        return parse_json(raw)
    except DuplicateKeyError as error:
        raise VerificationError(check, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{what}: not JSON: {error}") from error
