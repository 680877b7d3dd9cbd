"""The one shape of every error."""

from typing import Any

import httpx


def check_shape(response: httpx.Response, status: int, kind: str, code: str) -> dict[str, Any]:
    """The body, which is the envelope and nothing else."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) == {"error", "request_id"} | ({"detail"} if status == 422 else set())
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert (body["error"]["type"], body["error"]["code"]) == (kind, code)
    assert body["request_id"] == response.headers["x-request-id"]
    if status == 422:
        assert body["detail"]
        assert all(set(one) == {"loc", "msg", "type"} and one["loc"][0] == "body" for one in body["detail"])
    return body
