"""Message Threads: Claude holds the history, the request carries its tail."""

from collections.abc import Callable

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, unharmed
from tests.sidecar.stand import Json, Stand


def threaded(agent: Agent) -> Agent:
    return agent.fresh(headers={"anthropic-beta": "message-threads-2026-08-12"})


async def test_thread_gets_new_text_at_its_tail_and_nothing_again(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = threaded(connect(stand))
    await stand.remember(agent.session, {"extracted_context": {"key": "Hugo keeps the key"}})
    question: Json = {"role": "user", "content": "Who keeps the key?"}
    answer = await agent.send(messages=[question], thread={"type": "create"})
    agent.messages = [question, {"role": "assistant", "content": answer.content}]
    for number in range(3):
        await stand.remember(agent.session, {"extracted_context": {"key": f"Hugo keeps the key {number}"}})
        question = {"role": "user", "content": f"Who keeps the key, {number}?"}
        goes_on = {"type": "continue", "previous_message_id": answer.message["id"]}
        answer = await agent.send(messages=[question], thread=goes_on, system=None, tools=None)
        assert answer.commit == "committed", answer.body
        assert injections(claude.requests[-1].messages) == injections([claude.requests[-1].messages[-1]])
        assert len(injections(claude.requests[-1].messages)) == 1
        agent.messages += [question, {"role": "assistant", "content": answer.content}]

    # The thread expires: the client falls back to its full history, which carries all four.
    agent.messages.append({"role": "user", "content": "And the bell?"})
    answer = await agent.send()

    assert answer.commit == "committed"
    assert len(injections(claude.requests[-1].messages)) == 4
    assert unharmed(claude)


async def test_lost_thread_is_the_clients_to_mend(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = threaded(connect(stand))

    answer = await agent.send(
        messages=[{"role": "user", "content": "Go on."}],
        thread={"type": "continue", "previous_message_id": "msg_unknown"}, system=None, tools=None,
    )  # fmt: skip

    assert (answer.status, answer.code) == (404, "thread_not_found")
    assert await stand.locks(agent.session) == []


async def test_tool_use_in_a_thread_changes_the_state(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = threaded(connect(stand))
    create = {"type": "tool_use", "name": "TaskCreate", "input": {"subject": "Book the hall"}}
    claude.script(Reply(blocks=[create]))
    asked = await agent.send(messages=[{"role": "user", "content": "Plan."}], thread={"type": "create"})
    calls = [block for block in asked.content if block["type"] == "tool_use"]
    result = {
        "type": "tool_result",
        "tool_use_id": calls[0]["id"],
        "content": "Task #1 created successfully: Book the hall",
    }

    # Only the result comes: the call is known from the window.
    answer = await agent.send(
        messages=[{"role": "user", "content": [result]}],
        thread={"type": "continue", "previous_message_id": asked.message["id"]}, system=None, tools=None,
    )  # fmt: skip

    assert answer.commit == "committed", answer.body
    assert await stand.sub_tasks(agent.session) == ["Book the hall"]
