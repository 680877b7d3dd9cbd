"""The endpoints that ask a model, and how each reads a body."""

from collections.abc import Mapping
from typing import Final

from pinaivu_host.gateway.ask import ReadAsk
from pinaivu_host.gateway.chat import read_chat
from pinaivu_host.gateway.completion import read_completion
from pinaivu_host.gateway.embeddings import read_embeddings
from pinaivu_host.gateway.responses.answer import read_response

READERS: Final[Mapping[str, ReadAsk]] = {
    "/v1/chat/completions": read_chat,
    "/v1/completions": read_completion,
    "/v1/embeddings": read_embeddings,
    "/v1/responses": read_response,
}
