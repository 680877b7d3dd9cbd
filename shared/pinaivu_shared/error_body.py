"""The body with which the gateway refuses: a caller who saved it in place of an answer is told what it says."""

import msgspec


class _Refusal(msgspec.Struct, frozen=True):
    message: str


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _Refusal


def service_error(raw: bytes) -> str | None:
    """The message of `{"error": {"message": …}, …}`; None for any other bytes."""
    try:
        return msgspec.json.decode(raw, type=_ErrorBody).error.message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
