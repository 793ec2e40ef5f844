"""What real clients are remembered by: agent, sidecar and Valkey killed, and another device on the same session."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.claude_code import ClaudeCode
from tests.clients.conftest import new_home
from tests.clients.driving import SESSION_HEADER, Scenario, drive, living
from tests.clients.servers import Claude
from tests.clients.sidecar import Sidecar

pytestmark = [pytest.mark.client, pytest.mark.xdist_group("clients")]

FACT = "The code word for the launch is heliotrope. [[say: Noted.]]"
QUESTION = "What is the code word for the launch?"
WORD = "heliotrope"


@pytest.fixture(scope="module")
def killable(space: Path, upstream: Claude) -> Iterator[Sidecar]:
    """A sidecar of these tests' own, so that one which does not come back takes no other test with it."""
    directory = space / "killable"
    directory.mkdir()
    with Sidecar(directory, upstream.url) as started:
        yield started


def asks(client: str, sidecar: Sidecar, space: Path, session: str) -> str:
    """What a fresh client, on a machine it was never on, is answered to the question."""
    if client == "claude-code":
        home = new_home(space)
        claude = ClaudeCode(sidecar.url, home, home / "work", headers={SESSION_HEADER: session})
        return claude.ask(QUESTION).text
    (summary,) = drive(client, sidecar.url, new_home(space), Scenario(session, (QUESTION,)))
    assert summary.errors == []
    return summary.text


@pytest.mark.parametrize("client", ["anthropic-2", "typescript"])
def test_fact_outlives_agent_sidecar_and_valkey(client: str, killable: Sidecar, space: Path, session_id: str) -> None:
    with living(client, killable.url, new_home(space)) as agent:
        assert agent.hold(Scenario(session_id, (FACT,))).text == "Noted."
        agent.kill()
    killable.kill()
    killable.start()

    assert WORD in asks(client, killable, space, session_id)
    assert WORD not in asks(client, killable, space, str(uuid.uuid4()))


def test_claude_code_knows_after_kill_on_another_machine(killable: Sidecar, space: Path, session_id: str) -> None:
    laptop, phone = (ClaudeCode(killable.url, home, home / "work") for home in (new_home(space), new_home(space)))
    assert laptop.ask(FACT, "--session-id", session_id).text == "Noted."
    killable.kill()
    killable.start()

    assert WORD in phone.ask(QUESTION, "--session-id", session_id).text
    assert WORD not in phone.ask(QUESTION, "--session-id", str(uuid.uuid4())).text


@pytest.mark.parametrize(
    ("teller", "asker"),
    [("anthropic-2", "claude-code"), ("anthropic-0", "typescript"), ("typescript", "langchain")],
)
def test_another_client_on_the_session_is_hydrated(
    teller: str, asker: str, sidecar: Sidecar, space: Path, session_id: str
) -> None:
    (told,) = drive(teller, sidecar.url, new_home(space), Scenario(session_id, (FACT,)))
    assert told.text == "Noted."

    assert WORD in asks(asker, sidecar, space, session_id)


def test_state_outlives_the_window(sidecar: Sidecar, upstream: Claude, space: Path, session_id: str) -> None:
    looked_up = 'Where do we start? [[tool: lookup {"key": "Flåm railway"}]] [[then]] [[say: By train.]]'
    later = tuple(f"Thank you, number {number}. [[say: You are welcome.]]" for number in range(6))
    (told,) = drive("anthropic-2", sidecar.url, new_home(space), Scenario(session_id, (looked_up, *later)))
    assert told.errors == []

    (asked,) = drive("anthropic-2", sidecar.url, new_home(space), Scenario(session_id, ("Go on. [[say: Gladly.]]",)))

    assert asked.errors == []
    prompt = str(upstream.requests(session_id)[-1]["parsed"]["messages"])
    assert "Thank you, number 5" in prompt
    assert "Where do we start?" not in prompt  # older than the five turns that are kept
    assert "Flåm railway" in prompt  # known from the state alone
