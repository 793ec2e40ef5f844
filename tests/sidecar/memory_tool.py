"""What tests of Claude's memory tool script, and what they look at."""

from tests.sidecar.agents import Answer
from tests.sidecar.stand import Json, Stand

MEMORY: Json = {"type": "memory_20250818", "name": "memory"}
CREATED = "File created successfully at: /memories/notes.md"
LISTED = (
    "Here're the files and directories up to 2 levels deep in /memories, excluding hidden items:\n"
    "4K\t/memories\n12B\t/memories/notes.md"
)


def memory(command: str, **given: object) -> Json:
    """A scripted call of the memory tool."""
    return {"type": "tool_use", "name": "memory", "input": {"command": command, **given}}


def create(text: str = "likes coffee", path: str = "/memories/notes.md") -> Json:
    return memory("create", path=path, file_text=text)


VIEW = memory("view", path="/memories")


def hidden(messages: list[Json]) -> list[tuple[str, object]]:
    """The tool's calls and results in a prompt, in order: ``("create", "File created…")`` for each call."""
    results = {
        block["tool_use_id"]: block["content"]
        for message in messages
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if block["type"] == "tool_result"
    }
    return [
        (block["input"]["command"], results.get(block["id"]))
        for message in messages
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if block["type"] == "tool_use" and block["name"] == "memory"
    ]


def well_formed(answer: Answer) -> None:
    """One message: begun once, ended once, blocks numbered without a gap and each closed before the next."""
    kinds = [event["type"] for event in answer.events if event["type"] != "ping"]
    assert [kind for kind in kinds if kind.startswith("message")] == ["message_start", "message_delta", "message_stop"]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    opened = -1
    inside = False
    for event in answer.events:
        match event["type"]:
            case "content_block_start":
                assert not inside
                inside, opened = True, opened + 1
                assert event["index"] == opened
            case "content_block_delta":
                assert inside
                assert event["index"] == opened
            case "content_block_stop":
                assert inside
                assert event["index"] == opened
                inside = False
    assert not inside


async def files(stand: Stand, session: str) -> Json:
    found: Json = (await stand.state(session)).get("memories", {})
    return found
