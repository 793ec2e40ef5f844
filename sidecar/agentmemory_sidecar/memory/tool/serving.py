"""Whether a request's memory tool is ours to serve: declared, and not implemented by the agent itself."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from agentmemory_sidecar.memory.tool import NAME
from agentmemory_sidecar.wire.request import MEMORY_TOOL, MessagesRequest, role
from agentmemory_sidecar.wire.splicing import is_call

HELPER = "x-stainless-helper"
RUNNER = "toolrunner"
"""What the SDKs' tool runners say of themselves there (in lower case): they run the tools they declare."""
_TYPE = MEMORY_TOOL.decode()
_NAMED = re.compile(rb'"name"\s*:\s*"' + NAME.encode() + rb'"')


def declared(request: MessagesRequest) -> bool:
    """Whether the request has the memory tool, for Claude itself to call."""
    return request.names_memory_tool and _declares(request.sides[1])


@lru_cache(maxsize=16)
def _declares(tools: bytes) -> bool:
    for tool in msgspec.json.decode(tools):
        if isinstance(tool, dict) and tool.get("type") == _TYPE:
            # A call from within Claude's code execution is answered there, in its container.
            return all(caller == "direct" for caller in tool.get("allowed_callers") or ())
    return False


def runs_tools(headers: Mapping[str, str]) -> bool:
    """Whether the client is an SDK's tool runner."""
    return RUNNER in headers.get(HELPER, "").lower()


def has_own_calls(request: MessagesRequest) -> bool:
    """Whether the client's history shows calls of the memory tool. It is never shown one that was answered here."""
    if not request.sizes or not _NAMED.search(request.body, request.starts[0], request.end):
        return False
    return any(
        is_call(block, NAME)
        for message in request.messages()
        if role(message) == "assistant"
        for block in _blocks(message)
    )


def _blocks(message: Any) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []
