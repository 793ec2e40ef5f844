"""Against a stand-in for Claude that others wrote, so that sidecar and strict Claude do not just agree with each other.

aimock checks less than ours, and its usage is always zero: here it counts that clients get along with its replies
through the sidecar, that nothing is sent twice, and that memory arrives.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.claude_code import ClaudeCode
from tests.clients.conftest import new_home
from tests.clients.driving import Scenario, drive
from tests.clients.servers import Aimock
from tests.clients.sidecar import Sidecar

pytestmark = [pytest.mark.client, pytest.mark.xdist_group("clients")]

NOTE = "Meet at platform nine."
TURNS = ("Where do we start?", "Where do we sleep?")


def _fixtures(note: Path) -> list[dict[str, Any]]:
    """Replies by the last user message or the tool result it holds."""
    todo = {"content": "Book the night train", "status": "pending", "activeForm": "Booking the night train"}
    return [
        _answer({"toolCallId": "call_lookup"}, content="We start in Oslo.", reasoning="It was looked up."),
        _answer({"toolCallId": "call_read"}, toolCalls=[_call("call_todo", "TodoWrite", todos=[todo])]),
        _answer({"toolCallId": "call_todo"}, content=NOTE),
        _answer({"userMessage": "Where do we start"}, toolCalls=[_call("call_lookup", "lookup", key="Oslo")]),
        _answer({"userMessage": "Where do we sleep"}, content="On the night train.", reasoning="There is one."),
        _answer({"userMessage": "Where do we meet"}, toolCalls=[_call("call_read", "Read", file_path=str(note))]),
        _answer({"userMessage": "And the night train"}, content="It is booked."),
    ]


def _answer(match: dict[str, str], **response: Any) -> dict[str, Any]:
    return {"match": match, "response": response}


def _call(call: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": call, "name": name, "arguments": arguments}


@pytest.fixture(scope="module")
def aimock(space: Path) -> Iterator[Aimock]:
    directory = space / "aimock"
    directory.mkdir()
    (directory / "note.txt").write_text(NOTE)
    fixtures = directory / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": _fixtures(directory / "note.txt")}))
    with Aimock(directory, fixtures) as started:
        yield started


@pytest.fixture(scope="module")
def before_aimock(space: Path, aimock: Aimock) -> Iterator[Sidecar]:
    """A sidecar whose Claude is aimock."""
    directory = space / "before-aimock"
    directory.mkdir()
    with Sidecar(directory, aimock.url) as started:
        yield started


def requests_since(aimock: Aimock, start: int) -> list[dict[str, Any]]:
    """The bodies of the messages requests that came after the first ``start`` requests of any kind."""
    return [row["body"] for row in aimock.journal()[start:] if row["path"].startswith("/v1/messages")]


@pytest.mark.parametrize("client", ["anthropic-2", "typescript"])
def test_sdk(client: str, aimock: Aimock, before_aimock: Sidecar, space: Path) -> None:
    scenarios = [Scenario(str(uuid.uuid4()), TURNS, way=way) for way in ("json", "stream")]

    before = len(aimock.journal())
    direct = drive(client, aimock.url, new_home(space), *scenarios)
    between = len(aimock.journal())
    through = drive(client, before_aimock.url, new_home(space), *scenarios)

    assert [reply["text"] for reply in direct[0].replies] == ["", "We start in Oslo.", "On the night train."]
    for one, other in zip(direct, through, strict=True):
        assert one.errors == other.errors == []
        assert one.replies == other.replies
    sent = requests_since(aimock, between)
    assert len(sent) == len(requests_since(aimock, before)) - len(sent) == 6
    question = sent[2]["messages"][-1]
    assert TURNS[1] in str(question)
    assert "Oslo" in str(question), "what was looked up in the first turn was not injected into the second"


def test_claude_code(aimock: Aimock, before_aimock: Sidecar, space: Path) -> None:
    session = str(uuid.uuid4())
    results = []
    counts = []
    for base_url in (aimock.url, before_aimock.url):
        before = len(aimock.journal())
        home = new_home(space)
        claude = ClaudeCode(base_url, home, home / "work")
        results.append(
            [
                claude.ask("Where do we meet?", "--session-id", session),
                claude.ask("And the night train?", "--resume", session),
            ]
        )
        counts.append(len(requests_since(aimock, before)))

    texts = [[result.text for result in one] for one in results]
    assert texts == [[NOTE, "It is booked."]] * 2
    assert not any(result.error or result.denials for one in results for result in one)
    assert counts == [4, 4]
    assert "Book the night train" in str(aimock.journal()[-1]["body"]["messages"][-2:])
