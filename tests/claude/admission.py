"""What happens to a request before anyone looks at the conversation: size, headers, encoding, JSON."""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from anthropic.types.anthropic_beta_param import AnthropicBetaParam

from tests.claude import models, rules, schema
from tests.claude.errors import ApiError, bad
from tests.claude.prompt import Prompt, blocks_of
from tests.claude.threads import BETA as THREADS
from tests.claude.threads import Threads

VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
_BETAS = frozenset(value for arg in get_args(AnthropicBetaParam) for value in get_args(arg)) | {
    "advanced-tool-use-2025-11-20",
    "claude-code-20250219",
    "effort-2025-11-24",
    "fine-grained-tool-streaming-2025-05-14",
    "max-tokens-3-5-sonnet-2024-07-15",
    "oauth-2025-04-20",
    "prompt-caching-scope-2026-01-05",
    "web-fetch-2025-09-10",
}
_CLAUDE_CODE_BETA = re.compile(r"[a-z0-9-]+-20\d{2}-?\d{2}-?\d{2}")


@dataclass(frozen=True)
class Admitted:
    """A request whose envelope is in order."""

    params: dict[str, Any]
    version: str
    betas: frozenset[str]
    workspace: str


def length(headers: Mapping[str, str], limit: int) -> None:
    """Refuse by ``Content-Length`` (bytes), before the body is read."""
    given = headers.get("content-length")
    if given is None:
        raise ApiError(411, "Content-Length is required", rule="content_length")
    if int(given) > limit:
        raise ApiError(413, "Request exceeds the maximum size", rule="too_large")


def admit(headers: Mapping[str, str], raw: bytes, limit: int) -> Admitted:
    """Check headers and decode the body. Raises 400, 401 or 413 as the API does."""
    key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ").strip()
    if not key:
        raise ApiError(401, "x-api-key header is required", rule="authentication")
    version = headers.get("anthropic-version")
    if not version:
        raise bad("anthropic-version: header is required", rule="version_missing")
    if version not in VERSIONS:
        raise bad(f"anthropic-version: `{version}` is not a valid version", rule="version_unknown")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise bad("Content-Type must be application/json", rule="content_type")
    betas = _betas(headers)
    return Admitted(
        _decoded(_plain(headers, raw, limit)), version, betas, hashlib.sha256(key.encode()).hexdigest()[:12]
    )


def _betas(headers: Mapping[str, str]) -> frozenset[str]:
    given = [one.strip() for one in headers.get("anthropic-beta", "").split(",") if one.strip()]
    claude_code = headers.get("user-agent", "").startswith("claude-cli/")
    unknown = [one for one in given if one not in _BETAS and not (claude_code and _CLAUDE_CODE_BETA.fullmatch(one))]
    if unknown:
        names = ", ".join(f"`{one}`" for one in unknown)
        raise bad(f"Unexpected value(s) {names} for the `anthropic-beta` header.", rule="unknown_beta")
    return frozenset(given)


def _plain(headers: Mapping[str, str], raw: bytes, limit: int) -> bytes:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return raw
    if encoding != "gzip":
        code = "request_body_encoding_unsupported"
        raise bad(f"Content-Encoding `{encoding}` is not supported", rule=code, code=code)
    try:
        plain = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error):
        code = "request_body_encoding_invalid"
        raise bad("The request body is not valid gzip", rule=code, code=code) from None
    if len(plain) > limit:
        code = "request_body_too_large_after_decoding"
        raise ApiError(413, "Request exceeds the maximum size after decoding", rule=code, code=code)
    return plain


def _decoded(plain: bytes) -> dict[str, Any]:
    """The body as a dict. A key given twice is refused too: nothing that edits a request well makes one."""
    try:
        params = msgspec.json.decode(plain)
        json.loads(plain, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise bad(f"The request body is not valid JSON: {error}", rule="json") from None
    if not isinstance(params, dict):
        raise bad("Input should be a valid dictionary", rule="json")
    return params


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key given twice: {next(name for name in names if names.count(name) > 1)}")
    return found


def understand(admitted: Admitted, threads: Threads, *, counting: bool) -> Prompt:
    """The prompt of a request that passed every check but that of its thinking."""
    params = admitted.params
    schema.check(params, admitted.betas, admitted.version, counting=counting)
    prompt = Prompt(
        model=models.find(params["model"]),
        params=params,
        system=blocks_of(params.get("system")),
        tools=params.get("tools") or [],
        messages=[{"content": [], **message} for message in params["messages"]],
        betas=admitted.betas,
        version=admitted.version,
        workspace=admitted.workspace,
    )
    thread = params.get("thread")
    if thread:
        _continue(prompt, thread, threads)
    rules.check(prompt)
    return prompt


def _continue(prompt: Prompt, thread: dict[str, Any], threads: Threads) -> None:
    """Put the history that a thread holds in front of what was sent."""
    if THREADS not in prompt.betas:
        raise bad("thread: Extra inputs are not permitted", rule="beta_field")
    if thread["type"] != "continue":
        return
    for name in ("system", "tools"):
        if name in prompt.params:
            raise bad(f'{name}: not permitted with `thread.type` "continue"', rule="thread_forbidden_field")
    held = threads.find(thread["previous_message_id"], prompt.params)
    prompt.system, prompt.tools = held.system, held.tools
    prompt.held = len(held.messages)
    prompt.messages = [*held.messages, *prompt.messages]
    prompt.previous = thread["previous_message_id"]
