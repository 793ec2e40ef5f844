"""A model that picks facts, asked over HTTP from the strict Claude."""

import json

import pytest
from pydantic import SecretStr

from agentmemory_sidecar.memory.filter import Fact
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.models.picker import ClaudePicker, exact_tokens, listing
from agentmemory_sidecar.resource.config import SubAgentConfig
from agentmemory_sidecar.step.selector import NoPick
from tests.claude import Reply, StrictClaude

FACTS = [Fact(f"/notes/{at}", f"note number {at} about the harbour") for at in range(130)]


@pytest.fixture
async def make(claude: StrictClaude):
    made = []

    async def picker(url: str = "", deadline_s: float = 10, **more):
        config = SubAgentConfig(
            model="claude-haiku-5-5", api_key=SecretStr("sk-ant-its-own"), url=url or claude.url, deadline_s=deadline_s,
            max_tokens=1024, **more,
        )  # fmt: skip
        made.append(ClaudePicker(config, Metrics()))
        await made[-1].open()
        return made[-1]

    yield picker
    for each in made:
        await each.close()


def answering(*pointers: str, **more) -> Reply:
    return Reply(blocks=json.dumps({"pointers": pointers}), think=False, **more)


async def test_it_gives_the_pointers_that_were_offered_in_its_order(make, claude: StrictClaude, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-the-agents")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "the-agents-token")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Team: the-agents-team\nx-api-key: the-agents-other")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    claude.script(answering("/notes/7", "/secrets/1", "/notes/3", "/notes/7"))
    assert await (await make()).pick(FACTS, "What about the harbour?") == ("/notes/7", "/notes/3")
    sent = claude.requests[-1]
    assert "sk-ant-its-own" in sent.headers.get("authorization", "") + sent.headers.get("x-api-key", "")
    assert "the-agents" not in str(sent.headers)
    assert sent.parsed["output_config"]["format"]["schema"]["additionalProperties"] is False
    question = sent.messages[-1]["content"][-1]
    assert "What about the harbour?" in question["text"]
    assert "cache_control" not in question


async def test_what_was_listed_before_is_read_from_the_cache_though_the_list_has_grown(make, claude: StrictClaude):
    picker = await make()
    claude.script(answering(), answering())
    await picker.pick(FACTS[:-1], "One?")
    await picker.pick(FACTS, "Another?")
    first, second = (request.usage for request in claude.requests[-2:])
    assert first["cache_read_input_tokens"] == 0
    assert second["cache_read_input_tokens"] > 0.9 * first["cache_creation_input_tokens"] * 128 / 130


def test_a_list_has_at_most_two_breakpoints():
    for count in (0, 1, 64, 65, 128, 1_000):
        marked = [at for at, block in enumerate(listing(FACTS[:1] * count)) if "cache_control" in block]
        assert len(marked) <= 2
        assert not count or marked[-1] == (count - 1) // 64


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(blocks="no JSON", think=False, off_schema=True), "unreadable"),
        (Reply(blocks='{"other": 1}', think=False, off_schema=True), "unreadable"),
        (answering("/notes/1", stop_reason="max_tokens"), "unreadable"),
        (answering("/notes/1", stop_reason="refusal"), "unreadable"),
        (Reply(fault="529"), "refused"),
        (Reply(fault="401"), "refused"),
        (Reply(fault="hang"), "deadline"),
    ],
)
async def test_an_answer_that_is_none_says_why(make, claude: StrictClaude, reply: Reply, reason: str):
    claude.script(reply)
    picker = await make(deadline_s=3 if reason == "deadline" else 30)
    with pytest.raises(NoPick, match=rf"^{reason}$"):
        await picker.pick(FACTS, "What about the harbour?")
    assert len(claude.requests) == 1, "one try: a second would come too late"


async def test_nobody_there(make):
    picker = await make(url="http://127.0.0.1:9")
    with pytest.raises(NoPick, match=r"^unreachable$"):
        await picker.pick(FACTS, "What?")


async def test_an_exact_count_is_what_the_text_adds(claude_process):
    import anthropic

    with anthropic.Anthropic(api_key="sk-ant-x", base_url=claude_process.url) as client:
        assert exact_tokens(client, "claude-haiku-5-5", "What?", "") == 0
        one, two = (exact_tokens(client, "claude-haiku-5-5", "What?", "word " * n) for n in (100, 200))
    assert 100 < one < two < 300
