"""The ways in which a document is handed around: as it is, in text, or inside the gateway's answer."""

import base64
import binascii

import msgspec

from pinaivu_shared.error_body import service_error
from pinaivu_shared.errors import UnreadableError


def document_bytes(content: bytes) -> bytes:
    """The document, whether `content` is binary, base64, hex or the gateway's answer; its form is not looked at.

    UnreadableError for a JSON object that is no such answer.
    """
    if content.lstrip().startswith(b"{"):
        content = _answered_document(content)
    try:
        text = b"".join(content.split()).decode("ascii")
    except UnicodeDecodeError:
        return content
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return content


def _answered_document(content: bytes) -> bytes:
    if refusal := service_error(content):
        raise UnreadableError(f"attestation: this is the service's error: {refusal}")
    try:
        return str(msgspec.json.decode(content)["document"]).encode()
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise UnreadableError(f"document: neither one nor the gateway's answer that holds one: {error!r}") from error
