from typing import Any

import pytest

from agentmemory_operator.inject.baseurl import (
    Current,
    Found,
    base_url,
    current,
    proxied,
    read_upstreams,
    written_upstreams,
)


def container(*env: dict[str, Any]) -> dict[str, Any]:
    return {"name": "agent", "env": list(env)}


def with_url(**entry: Any) -> dict[str, Any]:
    return container({"name": "ANTHROPIC_BASE_URL", **entry})


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"value": "https://gateway.example"}, Found.LITERAL),
        ({"value": "http://10.0.0.1:4000/claude/"}, Found.LITERAL),
        ({"value": "http://127.0.0.1:4000"}, Found.LITERAL),
        ({"value": "http://127.0.0.1:83770"}, Found.LITERAL),
        ({"value": "http://127.0.0.1:8377"}, Found.OURS),
        ({"value": "http://127.0.0.1:8377/s/x"}, Found.OURS),
        ({"value": "http://localhost:8377"}, Found.OURS),
        ({"value": ""}, Found.NONE),
        ({}, Found.NONE),
        ({"valueFrom": {"secretKeyRef": {}}}, Found.LEFT),
        ({"value": "http://$(HOST):80"}, Found.LEFT),
        ({"value": "http://a$$b"}, Found.LEFT),
        ({"value": "gateway.example"}, Found.LEFT),
        ({"value": "https://gateway.example?key=1"}, Found.LEFT),
    ],
)
def test_what_a_container_has_is_told_apart(entry: dict[str, Any], found: Found) -> None:
    assert current(with_url(**entry), 8377).found is found


def test_the_last_of_two_entries_counts() -> None:
    twice = container(
        {"name": "ANTHROPIC_BASE_URL", "valueFrom": {}}, {"name": "ANTHROPIC_BASE_URL", "value": "http://gateway"}
    )
    assert current(twice, 8377) == Current(Found.LITERAL, 1, "http://gateway")


def test_base_urls_are_built_from_the_outside_in() -> None:
    assert base_url(8377) == "http://127.0.0.1:8377"
    assert base_url(8377, "agent", "x%2Fy") == "http://127.0.0.1:8377/u/agent/s/x%2Fy"


@pytest.mark.parametrize(
    "upstreams", [{}, {"a": "https://x"}, {"b": "http://x/$(A)$$", "a": "http://$/ü"}, {"a": "$(A)"}]
)
def test_upstreams_survive_kubernetes_expansion(upstreams: dict[str, str]) -> None:
    written = written_upstreams(upstreams)
    assert "$(" not in written.replace("$$", "")
    assert read_upstreams(written) == upstreams


@pytest.mark.parametrize("text", ["[]", "{", "1"])
def test_upstreams_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_upstreams(text)


PROXY = {"name": "HTTP_PROXY", "value": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("env", "caught_by"),
    [
        ([], ""),
        ([PROXY], "HTTP_PROXY"),
        ([{"name": "all_proxy", "valueFrom": {}}], "all_proxy"),
        ([{"name": "HTTPS_PROXY", "value": "http://proxy"}], ""),
        ([PROXY, {"name": "NO_PROXY", "value": ".svc, 127.0.0.1"}], ""),
        ([PROXY, {"name": "no_proxy", "value": "localhost"}], "HTTP_PROXY"),
        ([PROXY, {"name": "NO_PROXY", "value": "*"}], ""),
        ([PROXY, {"name": "NO_PROXY", "valueFrom": {"configMapKeyRef": {}}}], ""),
        ([PROXY, {"name": "NO_PROXY", "value": ".svc"}], "HTTP_PROXY"),
    ],
)
def test_a_proxy_in_the_way_is_found(env: list[dict[str, Any]], caught_by: str) -> None:
    assert proxied(container(*env)) == caught_by
