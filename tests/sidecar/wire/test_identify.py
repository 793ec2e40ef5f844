import json

import pytest
from multidict import CIMultiDict

from agentmemory_sidecar.wire.errors import ApiError
from agentmemory_sidecar.wire.identify import Endpoint, IdentityRules, RequestClass, identify, route

RULES = IdentityRules("acme", ("x-agent-session", "x-other"), ("x-user",), ("x-project",))
CLAUDE_CODE = {"User-Agent": "claude-cli/2.1.330 (external, cli)", "X-Claude-Code-Session-Id": "cc-1"}


def who(headers=None, fields=None, path="/v1/messages", method="POST", rules=RULES, **shape):
    shape = {"has_tools": True, "single_user_message": False} | shape
    return identify(rules, method, route(path), CIMultiDict(headers or {}), fields or {"max_tokens": 100}, **shape)


def user_id(value):
    return {"max_tokens": 9, "metadata": {"user_id": value}}


@pytest.mark.parametrize(
    ("path", "endpoint", "upstream", "session"),
    [
        ("/v1/messages", Endpoint.MESSAGES, "/v1/messages", ""),
        ("/messages", Endpoint.MESSAGES, "/v1/messages", ""),
        ("/v1/v1/messages", Endpoint.MESSAGES, "/v1/messages", ""),
        ("/v1/messages/count_tokens", Endpoint.COUNT_TOKENS, "/v1/messages/count_tokens", ""),
        ("/messages/count_tokens", Endpoint.COUNT_TOKENS, "/v1/messages/count_tokens", ""),
        ("/s/a%2Fb%20c/v1/messages", Endpoint.MESSAGES, "/v1/messages", "a/b c"),
        ("/s/x/v1/models", Endpoint.OTHER, "/v1/models", "x"),
        ("/s/x", Endpoint.OTHER, "/", "x"),
        ("/v1/messages/batches", Endpoint.OTHER, "/v1/messages/batches", ""),
        ("/v1/files/a%2Fb", Endpoint.OTHER, "/v1/files/a%2Fb", ""),
    ],
)
def test_paths(path, endpoint, upstream, session):
    found = route(path)
    assert (found.endpoint, found.path, found.session) == (endpoint, upstream, session)


def test_the_resources_headers_come_first_in_their_order():
    headers = CLAUDE_CODE | {"X-Other": "second", "X-Agent-Session": "first"}
    assert who(headers, path="/s/path/v1/messages").session == "first"
    del headers["X-Agent-Session"]
    assert who(headers).session == "second"
    del headers["X-Other"]
    assert who(headers, user_id('{"session_id":"json"}'), "/s/path/v1/messages").session == "cc-1"


@pytest.mark.parametrize(
    ("value", "session"),
    [
        (json.dumps({"device_id": "d", "account_uuid": "", "session_id": "0b9"}), "0b9"),
        ("user_ab12_account_77_session_3f0c9a2e-1111-4222-8333-444455556666", "3f0c9a2e-1111-4222-8333-444455556666"),
        ("user_ab12", "path"),
        ("{broken", "path"),
        ('{"session_id": 7}', "path"),
    ],
)
def test_metadata_comes_before_the_path(value, session):
    assert who(fields=user_id(value), path="/s/path/v1/messages").session == session


def test_the_pods_annotation_is_the_last_resort():
    assert who(rules=IdentityRules("acme", session="pod-0")).session == "pod-0"
    assert who(path="/s/path/v1/messages", rules=IdentityRules("acme", session="pod-0")).session == "path"


def test_nobody_passes_through():
    assert who().request_class is RequestClass.PASSTHROUGH


@pytest.mark.parametrize(
    ("headers", "fields", "shape", "expected"),
    [
        ({}, {}, {}, RequestClass.MAIN),
        ({}, {}, {"has_tools": False, "single_user_message": True}, RequestClass.MAIN),  # any client but Claude Code
        (CLAUDE_CODE, {}, {}, RequestClass.MAIN),
        (CLAUDE_CODE, {}, {"has_tools": False, "single_user_message": True}, RequestClass.AUXILIARY),
        (CLAUDE_CODE, {"output_config": {"format": {}}}, {"has_tools": False}, RequestClass.AUXILIARY),
        (CLAUDE_CODE, {}, {"has_tools": False}, RequestClass.MAIN),
        (CLAUDE_CODE | {"x-claude-code-agent-id": "a1"}, {}, {}, RequestClass.SUBAGENT),
        (CLAUDE_CODE | {"x-claude-code-request-class": "subagent", "x-claude-code-agent-id": "a1"}, {}, {},
         RequestClass.SUBAGENT),
        (CLAUDE_CODE | {"x-claude-code-request-class": "main"}, {}, {"has_tools": False, "single_user_message": True},
         RequestClass.MAIN),
        (CLAUDE_CODE | {"x-claude-code-request-class": "side_reply"}, {}, {}, RequestClass.AUXILIARY),
        (CLAUDE_CODE | {"x-claude-code-request-class": "of the future"}, {}, {}, RequestClass.AUXILIARY),
        (CLAUDE_CODE | {"x-claude-code-compaction": "manual"}, {}, {}, RequestClass.AUXILIARY),
        ({}, {"max_tokens": 1}, {}, RequestClass.AUXILIARY),
        ({}, {"max_tokens": 0}, {}, RequestClass.AUXILIARY),
        ({}, {"compaction": {"type": "summarize"}}, {}, RequestClass.AUXILIARY),
    ],
)  # fmt: skip
def test_classes(headers, fields, shape, expected):
    found = who({"X-Agent-Session": "s"} | headers, {"max_tokens": 100} | fields, **shape)
    assert found.request_class is expected


def test_counting_tokens_is_no_turn():
    assert who({"X-Agent-Session": "s"}, path="/v1/messages/count_tokens").request_class is RequestClass.AUXILIARY


def test_a_compaction_is_marked():
    assert who(CLAUDE_CODE | {"x-claude-code-compaction": "auto"}).compaction


def test_a_subagent_has_a_conversation_of_its_own():
    found = who(CLAUDE_CODE | {"x-claude-code-agent-id": "a1"})
    assert (found.session, found.agent) == ("cc-1", "a1")
    assert who(CLAUDE_CODE).agent == "root"


def test_the_user_is_the_subject_where_one_is_known():
    assert who({"X-Agent-Session": "s", "X-User": "ada"}).subject == "user:ada"
    assert who({"X-Agent-Session": "s"}).subject == "session:s"


@pytest.mark.parametrize("bad", ["x" * 300, "a\x01b", "名" * 120])
def test_an_id_that_cannot_be_one_is_refused(bad):
    with pytest.raises(ApiError) as refused:
        who({"X-Agent-Session": bad})
    assert refused.value.status == 400
    assert "session id" in refused.value.message
    assert bad not in refused.value.message
