"""Paths, headers, sizes and encodings, before anyone looks at the conversation."""

import gzip

import aiohttp
import msgspec
import pytest

from tests.claude import StrictClaude
from tests.claude.server import MAX_BODY
from tests.claude.tests.http import HEADERS, body, send, user


@pytest.mark.parametrize("path", ["/messages", "/v1/v1/messages", "/v1/files", "/v1/complete", "/", "/v1/messages/"])
async def test_wrong_path_is_the_api_s_404(claude: StrictClaude, path: str) -> None:
    status, answer = await send(claude.url, body(), path)
    assert status == 404
    assert answer["error"]["type"] == "not_found_error"


async def test_query_does_not_matter(claude: StrictClaude) -> None:
    assert (await send(claude.url, body(), "/v1/messages?beta=true"))[0] == 200
    assert claude.requests[0].is_messages


async def test_preconnect_and_models(claude: StrictClaude) -> None:
    async with aiohttp.ClientSession(claude.url) as session:
        async with session.head("/api/hello") as response:
            assert response.status == 200
        async with session.get("/v1/models/claude-opus-5-5") as response:
            assert (await response.json())["id"] == "claude-opus-5-5"
        async with session.get("/v1/messages") as response:
            assert response.status == 405


async def test_key_is_required_in_either_form(claude: StrictClaude) -> None:
    status, answer = await send(claude.url, body(), x_api_key=None)
    assert (status, answer["error"]["type"]) == (401, "authentication_error")
    assert (await send(claude.url, body(), x_api_key=None, authorization="Bearer k"))[0] == 200


async def test_gzip_body(claude: StrictClaude) -> None:
    packed = gzip.compress(msgspec.json.encode(body(user("[[say: unpacked]]"))))
    status, answer = await send(claude.url, packed, content_encoding="gzip")
    assert (status, answer["content"][0]["text"]) == (200, "unpacked")
    assert claude.requests[0].body == packed


@pytest.mark.parametrize(
    ("data", "encoding", "status", "code"),
    [
        (b"{}", "br", 400, "request_body_encoding_unsupported"),
        (b"{}", "gzip", 400, "request_body_encoding_invalid"),
        (gzip.compress(b" " * (MAX_BODY + 1)), "gzip", 413, "request_body_too_large_after_decoding"),
    ],
)
async def test_bad_encoding(claude: StrictClaude, data: bytes, encoding: str, status: int, code: str) -> None:
    got, answer = await send(claude.url, data, content_encoding=encoding)
    assert (got, answer["error"]["details"]) == (status, {"error_code": code})


async def test_body_of_32_mb_passes_and_one_byte_more_does_not(claude: StrictClaude) -> None:
    data = msgspec.json.encode(body(user("x")))
    padded = data[:-1] + b" " * (MAX_BODY - len(data)) + b"}"
    assert (await send(claude.url, padded))[0] == 200
    async with aiohttp.ClientSession() as session:
        headers = HEADERS | {"content-length": str(MAX_BODY + 1)}
        async with session.post(claude.url + "/v1/messages", data=b"{}", headers=headers) as response:
            assert response.status == 413
            assert (await response.json())["error"]["type"] == "request_too_large"


async def test_body_needs_a_length(claude: StrictClaude) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            claude.url + "/v1/messages", data=msgspec.json.encode(body()), headers=HEADERS, chunked=True
        ) as response,
    ):
        assert response.status == 411


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"a": NaN}', b'{"a": "\xff"}', b'{"a": "\\ud800"}', b'{"model": "a", "model": "b"}', b"{} {}"],
    ids=["empty", "cut", "list", "nan", "not utf-8", "lone surrogate", "key twice", "two values"],
)
async def test_bad_json(claude: StrictClaude, data: bytes) -> None:
    status, answer = await send(claude.url, data)
    assert (status, claude.requests[0].rule) == (400, "json"), answer


async def test_unknown_model(claude: StrictClaude) -> None:
    status, answer = await send(claude.url, body(model="gpt-5"))
    assert (status, answer["error"]) == (404, {"type": "not_found_error", "message": "model: gpt-5"})
    for alias in ("claude-haiku-4-5-20251001", "claude-opus-5-5[1m]", "claude-3-5-haiku-latest"):
        assert (await send(claude.url, body(model=alias)))[0] == 200


async def test_claude_code_may_use_betas_of_its_own(claude: StrictClaude) -> None:
    beta = {"anthropic_beta": "claude-code-20250219,something-new-2026-11-01"}
    assert (await send(claude.url, body(), **beta))[0] == 400
    assert (await send(claude.url, body(), **beta, user_agent="claude-cli/2.1.330 (external, cli)"))[0] == 200
