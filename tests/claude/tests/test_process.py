"""The stand-in in a process of its own, and its control paths."""

import base64

import aiohttp
import msgspec

from tests.claude import StrictClaude
from tests.claude.fixtures import ClaudeProcess
from tests.claude.tests.http import Json, body, send, user


async def test_scripted_asked_and_reset_over_http(claude_process: ClaudeProcess) -> None:
    await claude_process.script("scripted", {"fault": "529"}, {"blocks": ["x"], "match": {"session": "never"}})
    params = body(user("x"))
    status, answer = await send(claude_process.url, params, x_agent_session="s1")
    assert (status, answer["content"][0]["text"]) == (200, "scripted")
    assert (await send(claude_process.url, params))[0] == 529
    assert (await send(claude_process.url, body(user(""))))[0] == 400

    rows = await claude_process.requests()
    assert [(row["verdict"], row["status"], row["session"]) for row in rows] == [
        ("ok", 200, "s1"),
        ("fault", 529, ""),
        ("refused", 400, ""),
    ]
    assert base64.b64decode(rows[0]["body"]) == msgspec.json.encode(params)
    assert rows[0]["parsed"] == params
    assert rows[0]["headers"]["x-agent-session"] == "s1"
    assert rows[2]["rule"] == "empty_text"
    counters = await claude_process.counters()
    assert (counters["messages"], counters["refused"], counters["faults"]) == (3, 1, 1)

    await claude_process.reset()
    assert await claude_process.requests() == []
    assert await claude_process.counters() == {}


BAD: list[Json] = [
    {"blockz": []},
    {"fault": "nonsense"},
    {"blocks": [{"no": "type"}]},
    {"blocks": [{"type": "tool_use"}]},
]


async def test_bad_script_is_refused(claude: StrictClaude) -> None:
    async with aiohttp.ClientSession(claude.url) as session:
        for bad in BAD:
            async with session.post("/__claude/script", json=bad) as response:
                assert response.status == 400, bad
                assert (await response.json())["error"]
    assert claude.unused == []
