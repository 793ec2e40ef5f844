"""The API's errors: one exception, and the one body shape every error has."""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    411: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

MESSAGES = {
    429: "This request would exceed your account's rate limit. Please try again later.",
    500: "Internal server error",
    529: "Overloaded",
}


class ApiError(Exception):
    """An error reply. ``rule`` is a short stable name of what was broken, for tests and records only."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        rule: str,
        code: str = "",
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        diagnosis: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.rule = rule
        self.details = ({"error_code": code} if code else {}) | dict(details or {})
        self.headers = dict(headers or {})
        self.diagnosis = diagnosis

    @property
    def kind(self) -> str:
        return TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")


def bad(message: str, *, rule: str, code: str = "", diagnosis: str = "") -> ApiError:
    """A 400 ``invalid_request_error``, by far the commonest."""
    return ApiError(400, message, rule=rule, code=code, diagnosis=diagnosis)


def body(kind: str, message: str, request_id: str, details: Mapping[str, Any] | None = None) -> bytes:
    """``{"type":"error","error":{"type","message","details"?},"request_id"}`` as JSON bytes."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if details:
        error["details"] = dict(details)
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def new_id(prefix: str) -> str:
    """An identifier as the API makes them: ``msg_01…``, ``toolu_01…``, ``req_01…``."""
    return f"{prefix}_01{secrets.token_hex(11)}"
