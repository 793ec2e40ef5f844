import json
from collections import Counter

import pytest

from bench import canned
from bench.conversation import STEPS, WORKLOADS, Agent, Workload


def drive(agent: Agent, steps: int) -> list[tuple[str, bool, bytes]]:
    """Session, whether a plan is due, and body of each request."""
    seen = []
    for number in range(steps):
        seen.append((agent.session, agent.planning, agent.request()))
        agent.take(canned.content(canned.message_id(number), plan=agent.planning))
    return seen


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each.name)
def test_requests_are_valid_differ_and_have_about_20_kb(workload: Workload) -> None:
    requests = [body for _, _, body in drive(Agent("a", workload), 3 * STEPS)]
    assert len(set(requests)) == len(requests)
    assert 19_000 < sum(map(len, requests)) / len(requests) < 22_000
    for body in requests:
        request = json.loads(body)
        assert request.get("stream", False) is workload.stream
        assert (canned.PACED in body) is workload.paced
        assert [message["role"] for message in request["messages"]] == ["user", "assistant"] * (
            len(request["messages"]) // 2
        ) + ["user"]


def test_tool_calls_and_results_are_paired() -> None:
    for _, _, body in drive(Agent("a", WORKLOADS[0]), STEPS):
        blocks = [
            block
            for message in json.loads(body)["messages"]
            if isinstance(message["content"], list)
            for block in message["content"]
        ]
        calls = Counter(block["id"] for block in blocks if block["type"] == "tool_use")
        results = Counter(block["tool_use_id"] for block in blocks if block["type"] == "tool_result")
        assert calls == results
        assert max(calls.values()) == 1


def test_each_request_extends_the_one_before_within_its_session() -> None:
    before: tuple[str, list[object]] = ("", [])
    for session, _, body in drive(Agent("a", WORKLOADS[0]), STEPS):
        messages = json.loads(body)["messages"]
        if session == before[0]:
            assert messages[: len(before[1])] == before[1]
            assert len(messages) == len(before[1]) + 2
        before = (session, messages)


def test_a_session_begins_with_the_plan_and_the_upstream_can_tell() -> None:
    for number, (session, planning, body) in enumerate(drive(Agent("a", WORKLOADS[0], first_length=3), 3 + STEPS + 1)):
        assert session == f"bench-a-{0 if number < 3 else 1 if number < 3 + STEPS else 2}"
        assert planning is (number in (0, 3, 3 + STEPS))
        assert (canned.PLAN in body and canned.PLANNED not in body) is planning


def test_agents_have_sessions_of_their_own() -> None:
    assert Agent("a", WORKLOADS[0]).session != Agent("b", WORKLOADS[0]).session
    assert Agent("a", WORKLOADS[0]).request() != Agent("b", WORKLOADS[0]).request()
