"""What KMS answers when it refuses: AWS's codes and shapes (JSON 1.1; nitro.md D.4)."""

from typing import Final

import msgspec

_CAPITAL_MESSAGE: Final = frozenset(("AccessDeniedException",))


class KmsFault(Exception):  # noqa: N818  AWS's word for an answer that is an error
    """One refusal. `code` is AWS's, `message` for people; `status` is 400 except where KMS itself is at fault."""

    def __init__(self, code: str, message: str = "", *, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status

    @property
    def body(self) -> bytes:
        """The answer's JSON. AWS leaves an empty message out, and writes that of AccessDenied with a capital."""
        name = "Message" if self.code in _CAPITAL_MESSAGE else "message"
        return msgspec.json.encode({"__type": self.code} | ({name: self.message} if self.message else {}))


def throttled() -> KmsFault:
    """Too many calls; the same one may work later."""
    message = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."
    return KmsFault("ThrottlingException", message)


def internal() -> KmsFault:
    """KMS is at fault; the same call may work later."""
    return KmsFault("KMSInternalException", "The request was rejected because of an internal exception.", status=500)


def dependency_timeout() -> KmsFault:
    """KMS waited too long for itself; the same call may work later."""
    message = "The system timed out while trying to fulfill the request."
    return KmsFault("DependencyTimeoutException", message, status=503)
