"""A plain HTTP client for the tests: what an SDK would not send, it sends."""

import io
from typing import Any

import aiohttp
import msgspec

MODEL = "claude-opus-5-5"
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json"}
Json = dict[str, Any]


def user(*blocks: Any) -> Json:
    """A user message of these blocks (strings are text)."""
    return {"role": "user", "content": [_block(block) for block in blocks]}


def assistant(*blocks: Any) -> Json:
    return {"role": "assistant", "content": [_block(block) for block in blocks]}


def _block(block: Any) -> Json:
    return {"type": "text", "text": block} if isinstance(block, str) else block


def call(identifier: str = "toolu_1", **given: Any) -> Json:
    return {"type": "tool_use", "id": identifier, "name": "look", "input": given}


def result(identifier: str = "toolu_1", content: Any = "found", **rest: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": identifier, "content": content, **rest}


def body(*messages: Json, **rest: Any) -> Json:
    """A good request with these messages."""
    return {"model": MODEL, "max_tokens": 2000, "messages": list(messages) or [user("hello")], **rest}


async def send(url: str, params: Any, path: str = "/v1/messages", **headers: str | None) -> tuple[int, Json]:
    """Status and decoded body of one request. Header names are given with underscores; None takes a header out."""
    given = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    data = params if isinstance(params, bytes) else msgspec.json.encode(params)
    async with aiohttp.ClientSession() as session:
        sent = {"content-length": str(len(data))} | {name: value for name, value in given.items() if value is not None}
        async with session.post(url + path, data=io.BytesIO(data), headers=sent) as response:
            assert response.headers["request-id"].startswith("req_")
            return response.status, msgspec.json.decode(await response.read())
