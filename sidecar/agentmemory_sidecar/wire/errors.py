"""Errors of our own, in the API's shape, so that every client shows and treats them as it treats Claude's.

Types, statuses and ``x-should-retry`` follow https://platform.claude.com/docs/en/api/errors and what the SDKs do with
them: without ``x-should-retry: false`` a 409 is sent again up to ten times; a 400 makes Claude Code strip its betas.
"""

import secrets
from dataclasses import dataclass

import msgspec


@dataclass(eq=False)
class ApiError(Exception):
    """What the client gets instead of a reply. ``retry`` None leaves the decision to the client's own rules.

    Not frozen: ``contextlib`` writes the traceback of an exception that passes through its context managers.
    """

    status: int
    type: str
    message: str
    code: str = ""
    retry: bool | None = None

    def __str__(self) -> str:
        return self.message

    def body(self, request_id: str) -> bytes:
        error: dict[str, object] = {"type": self.type, "message": self.message}
        if self.code:
            error["details"] = {"error_code": self.code}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})

    def headers(self, request_id: str) -> dict[str, str]:
        headers = {"content-type": "application/json", "request-id": request_id}
        if self.retry is not None:
            headers["x-should-retry"] = "true" if self.retry else "false"
        return headers

    def event(self, request_id: str) -> bytes:
        """The same inside a stream that has begun."""
        return b"event: error\ndata: " + self.body(request_id) + b"\n\n"


def new_request_id() -> str:
    return "req_" + secrets.token_hex(12)


def busy() -> ApiError:
    return ApiError(409, "conflict_error", "Concurrent process active.", "concurrent_process_active", retry=False)


def fenced() -> ApiError:
    return ApiError(
        409,
        "conflict_error",
        "Another turn of this session was saved while this one ran; nothing of this one was saved. Send it again.",
        "turn_fenced",
        retry=False,
    )


def ambiguous_session(message: str) -> ApiError:
    return ApiError(400, "invalid_request_error", message, "invalid_session", retry=False)


def too_large(limit: int) -> ApiError:
    return ApiError(
        413, "request_too_large", f"Request exceeds the maximum size of {limit // 1_000_000} MB.", retry=False
    )


def bad_encoding(message: str, code: str) -> ApiError:
    return ApiError(400, "invalid_request_error", message, code, retry=False)


def memory_unavailable(tier: str, *, sent: bool = False) -> ApiError:
    """A tier that the resource says must be there is not. ``sent``: Claude was already asked (and paid)."""
    said = "The reply could not be saved" if sent else "Nothing was sent to Claude"
    return ApiError(
        503,
        "api_error",
        f"The {tier} of this session's memory cannot be reached. {said}.",
        "memory_unavailable",
        retry=None if sent else True,
    )


def memory_stale() -> ApiError:
    """The state tier knows less than the session has already seen, and the resource refuses to go on with that."""
    said = "This session's memory is behind what the session has already seen. Nothing was sent to Claude."
    return ApiError(503, "api_error", said, "memory_stale", retry=True)


def upstream_unreachable(reason: str) -> ApiError:
    return ApiError(502, "api_error", f"Claude could not be reached: {reason}.", "upstream_unreachable", retry=True)


def upstream_timeout(seconds: float) -> ApiError:
    return ApiError(504, "timeout_error", f"Claude sent nothing for {seconds:.0f} s.", "upstream_timeout")


def upstream_cut() -> ApiError:
    return ApiError(502, "api_error", "Claude's reply ended before it was complete.", "upstream_cut")


def upstream_said(status: int, body: bytes) -> ApiError:
    """Claude's own error where its bytes cannot go on as they are: in the middle of a reply."""
    try:
        error = msgspec.json.decode(body)["error"]
        kind, message = error["type"], error["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        kind, message = "", ""
    if not isinstance(kind, str) or not isinstance(message, str) or not kind:
        return ApiError(
            502, "api_error", f"Claude answered with status {status} in the middle of a reply.", "upstream_failed"
        )
    return ApiError(status, kind, message)


def too_many_rounds(limit: int) -> ApiError:
    """Claude goes on calling the memory tool though it was asked not to."""
    return ApiError(
        502,
        "api_error",
        f"Claude called the memory tool in more than {limit} exchanges of one reply; nothing of it was saved. "
        "Raise spec.memoryTool.maxRounds or maxBytes if that is meant to happen.",
        "memory_tool_rounds",
        retry=False,
    )


def internal() -> ApiError:
    """A mistake of ours; what it was stands in the log."""
    return ApiError(500, "api_error", "The memory sidecar failed on this request.", "sidecar_failed")


def shutting_down() -> ApiError:
    return ApiError(503, "api_error", "The memory sidecar is shutting down.", "shutting_down", retry=True)
