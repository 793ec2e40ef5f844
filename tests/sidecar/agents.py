"""An agent as its wire shows it: it keeps its history, sends it whole each time, and looks closely at what comes back."""

import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from tests.claude import Reply, StrictClaude
from tests.sidecar.stand import SESSION_HEADER, Json

MODEL = "claude-opus-5-5"
"""Binds its thinking to the exact prefix, and takes system messages in mid-conversation."""
SYSTEM = "You are a careful assistant."
TOOLS: list[Json] = [
    {"name": name, "description": f"The tool {name}.", "input_schema": {"type": "object"}}
    for name in ("TodoWrite", "TaskCreate", "look")
]


@dataclass
class Answer:
    """What came back, whole or broken off."""

    status: int
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes = b""
    cut: bool = False
    """The connection ended before the body did."""

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def frames(self) -> list[bytes]:
        """A stream's frames, each with its blank line."""
        return [frame + b"\n\n" for frame in self.body.split(b"\n\n") if frame]

    @property
    def passed(self) -> bytes:
        """The body without the sidecar's own comment."""
        return b"".join(frame for frame in self.frames if not frame.startswith(b": agentmemory"))

    @property
    def events(self) -> list[Json]:
        return [
            msgspec.json.decode(line.removeprefix(b"data:"))
            for frame in self.frames
            for line in frame.splitlines()
            if line.startswith(b"data:")
        ]

    @property
    def types(self) -> list[str]:
        """The streamed events' types, repeated ones once."""
        found: list[str] = []
        for event in self.events:
            if not found or found[-1] != event["type"]:
                found.append(event["type"])
        return found

    @property
    def error(self) -> Json:
        """The error, whether it is the body or the stream's last event."""
        whole = self.events[-1] if self.streamed else msgspec.json.decode(self.body)
        assert whole["type"] == "error", whole
        found: Json = whole["error"]
        return found

    @property
    def code(self) -> str:
        return str(self.error.get("details", {}).get("error_code", ""))

    @property
    def message(self) -> Json:
        """The reply; of a stream what its events spell."""
        if not self.streamed:
            whole: Json = msgspec.json.decode(self.body)
            return whole
        return spelled(self.events)

    @property
    def content(self) -> list[Json]:
        blocks: list[Json] = self.message.get("content", [])
        return blocks

    @property
    def text(self) -> str:
        return "".join(block["text"] for block in self.content if block["type"] == "text")

    @property
    def receipt(self) -> dict[str, str]:
        """Everything the receipt says, from headers and the stream's comment."""
        found = {
            name.removeprefix("x-agentmemory-"): value
            for name, value in self.headers.items()
            if name.startswith("x-agentmemory-")
        }
        for frame in self.frames if self.streamed else ():
            if frame.startswith(b": agentmemory"):
                found |= dict(word.split("=", 1) for word in frame.decode().split()[2:])
        return found

    @property
    def commit(self) -> str:
        return self.receipt.get("commit", "")

    @property
    def flags(self) -> set[str]:
        return set(self.receipt.get("flags", "").split(",")) - {""}


def spelled(events: list[Json]) -> Json:
    """The message that a stream's events spell."""
    message: Json = {}
    blocks: dict[int, Json] = {}
    inputs: dict[int, str] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = dict(event["message"])
            case "content_block_start":
                blocks[event["index"]] = dict(event["content_block"])
            case "content_block_delta":
                delta, block = event["delta"], blocks[event["index"]]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case "input_json_delta":
                        inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
            case "message_delta":
                message |= event["delta"]
                message["usage"] = {**message["usage"], **event["usage"]}
    for index, text in inputs.items():
        blocks[index]["input"] = msgspec.json.decode(text or "{}")
    message["content"] = [blocks[index] for index in sorted(blocks)]
    return message


@dataclass
class Agent:
    """One client and one conversation. ``extra`` goes into every request's body, ``headers`` with every request."""

    url: str
    session: str = field(default_factory=lambda: f"s-{uuid.uuid4().hex[:12]}")
    stream: bool = True
    thinking: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Json = field(default_factory=dict)
    messages: list[Json] = field(default_factory=list)
    path: str = "/v1/messages"
    http: aiohttp.ClientSession = field(default_factory=lambda: aiohttp.ClientSession(auto_decompress=False))

    def fresh(self, **changes: Any) -> "Agent":
        """Another client on the same session that knows nothing of this one's history."""
        known: Json = {
            "url": self.url, "session": self.session, "stream": self.stream, "thinking": self.thinking,
            "headers": self.headers, "extra": self.extra, "http": self.http,
        }  # fmt: skip
        return Agent(**(known | changes))

    # ------------------------------------------------------------------------------------------------------ requests

    def body(self, **changes: Any) -> Json:
        """The request as the SDK would write it now. A change to None takes the member out."""
        whole: Json = {
            "model": MODEL,
            "max_tokens": 2000,
            "system": SYSTEM,
            "tools": TOOLS,
            "messages": self.messages,
            "stream": self.stream,
            "thinking": {"type": "adaptive"} if self.thinking else None,
            **self.extra,
            **changes,
        }
        return {name: value for name, value in whole.items() if value is not None}

    @property
    def sent_headers(self) -> dict[str, str]:
        standing = {
            "x-api-key": "key-of-the-agent",
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
            SESSION_HEADER: self.session,
        }
        return {name: value for name, value in (standing | dict(self.headers)).items() if value}

    @asynccontextmanager
    async def opened(self, data: bytes | None = None, **changes: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """The request under way. Leaving early closes the connection, as a client that goes away does."""
        data = msgspec.json.encode(self.body(**changes)) if data is None else data
        async with self.http.post(
            URL(self.url + self.path, encoded=True), data=io.BytesIO(data), headers=self.sent_headers
        ) as response:
            yield response

    async def send(self, data: bytes | None = None, **changes: Any) -> Answer:
        """One request and its answer, without a change of the history."""
        async with self.opened(data, **changes) as response:
            answer = Answer(response.status, {name.lower(): value for name, value in response.headers.items()})
            try:
                async for chunk in response.content.iter_any():
                    answer.body += chunk
            except aiohttp.ClientPayloadError:
                answer.cut = True
        return answer

    async def say(self, content: Any, **changes: Any) -> Answer:
        """Ask, and keep question and answer if there is one; else the history is as it was."""
        self.messages = [*self.messages, {"role": "user", "content": content}]
        answer = await self.send(**changes)
        if answer.status == 200 and not answer.cut and answer.message.get("stop_reason"):
            self.messages = [*self.messages, {"role": "assistant", "content": answer.content}]
        else:
            self.messages = self.messages[:-1]
        return answer

    async def good(self, content: Any, **changes: Any) -> Answer:
        """:meth:`say`, which must succeed and be committed."""
        answer = await self.say(content, **changes)
        assert answer.status == 200, answer.body
        assert not answer.cut, answer.events[-1]
        assert answer.commit == "committed", answer.receipt
        return answer

    async def results(self, answer: Answer, content: Any = "done", **rest: Any) -> Answer:
        """Give the results of all tool calls of the answer."""
        return await self.good(tool_results(answer, content, **rest))


def tool_results(answer: Answer, content: Any = "done", **rest: Any) -> list[Json]:
    return [
        {"type": "tool_result", "tool_use_id": block["id"], "content": content, **rest}
        for block in answer.content
        if block["type"] == "tool_use"
    ]


def todos(*lines: str) -> Json:
    """A scripted call of ``TodoWrite``."""
    given = {"todos": [{"content": line, "status": "pending", "activeForm": line} for line in lines]}
    return {"type": "tool_use", "name": "TodoWrite", "input": given}


def texts(message: Json) -> list[str]:
    """The texts of a message's content."""
    content = message["content"]
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block.get("type") == "text"]


def injections(messages: list[Json]) -> list[str]:
    """The blocks in a prompt that a sidecar put there."""
    return [text for message in messages for text in texts(message) if text.startswith("<agentmemory-")]


@asynccontextmanager
async def busy(agent: Agent, claude: StrictClaude, **changes: Any) -> AsyncIterator[None]:
    """Within the block a step of the agent's session is under way: Claude has its request and does not answer. It ends
    with the block, as its client leaves."""
    claude.script(Reply(fault="hang"))
    before = len(claude.requests)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.send(**changes))
        await claude.received(before + 1)
        yield
        asking.cancel()


def unharmed(claude: StrictClaude) -> bool:
    """Whether Claude took every request: no thinking block whose prefix had changed, nothing refused."""
    found = {
        name: count for name, count in claude.counters.items() if count and name.startswith(("refused", "thinking"))
    }
    assert not found, (found, [request.diagnosis or request.message for request in claude.requests if request.rule])
    return True
