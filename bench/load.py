"""The load generator: a process that drives one proxy at a time and checks every reply whole.

It reads commands, one JSON object a line, from stdin, and answers each twice: ``{"ready": true}`` once its workers are
connected, and, after the line ``go``, the window's :class:`Result`. In between its caller reads the CPU clocks, so that
connecting is not part of what is measured. The workers of one (proxy, workload) keep their conversations over windows.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import uvloop

from bench import canned
from bench.conversation import STEPS, WORKLOADS, Agent, Workload
from bench.http1 import BadMessage, Reader

TIMEOUT = 60.0
"""Seconds a reply may take before it counts as an error."""
_SLEEP_AFTER_ERROR = 0.05


@dataclass(slots=True)
class Result:
    """What a window saw. Times in seconds."""

    totals: list[float] = field(default_factory=list)
    """From the first byte of each request sent to the last byte of its reply."""
    firsts: list[float] = field(default_factory=list)
    """The same to the first event of each stream; empty for JSON replies."""
    errors: dict[str, int] = field(default_factory=dict)
    """Replies that were refused, cut or not what the upstream sent, by reason."""
    wall: float = 0.0
    """From the start to the end of the last reply."""
    bytes_sent: int = 0
    """Bodies of the requests, good and bad."""


class BadReply(Exception):
    """A reply that is not what the upstream sent; the message is the reason it is counted under."""


def read_events(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream in order, pings and comments left out. Raises :class:`BadReply`."""
    events = []
    for frame in body.split(b"\n\n"):
        name, data = b"", b""
        for line in frame.split(b"\n"):
            if line.startswith(b"event:"):
                name = line[6:].strip()
            elif line.startswith(b"data:"):
                data = line[5:].strip()
        if not data:
            continue
        event = json.loads(data)
        if event["type"] != name.decode():
            raise BadReply(f"frame named {name.decode()} holds {event['type']}")
        if event["type"] == "error":
            raise BadReply(f"error event {event['error']['type']}")
        if event["type"] != "ping":
            events.append(event)
    return events


def assemble(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a stream's events make. Raises :class:`BadReply` where one is missing or out of order."""
    names = [event["type"] for event in events]
    block_events = ["content_block_start", *["content_block_delta"] * canned.DELTAS, "content_block_stop"]
    if names != ["message_start", *block_events, "message_delta", "message_stop"]:
        raise BadReply(f"{len(names)} events, not the {canned.DELTAS + 5} that were sent")
    message: dict[str, Any] = events[0]["message"]
    block: dict[str, Any] = events[1]["content_block"]
    if block["type"] == "tool_use":
        block["input"] = json.loads("".join(event["delta"]["partial_json"] for event in events[2:-3]))
    else:
        block["text"] += "".join(event["delta"]["text"] for event in events[2:-3])
    end: dict[str, Any] = events[-2]
    return {**message, **end["delta"], "content": [block], "usage": message["usage"] | end["usage"]}


def verbatim_id(body: bytes, *, plan: bool) -> str:
    """The message id, if the stream is what the upstream sent but for comments and pings; "" if it must be parsed.

    Most replies are, and comparing bytes keeps the generator far cheaper than the proxies.
    """
    at = body.find(b'"id":"msg_') + 6
    identifier = body[at : body.find(b'"', at)].decode("latin-1")
    frames = [frame for frame in body.split(b"\n\n") if frame and not frame.startswith((b":", b"event: ping\n"))]
    sent = [frame[:-2] for frame in canned.as_frames(identifier, plan=plan) if not frame.startswith(b"event: ping\n")]
    return identifier if frames == sent else ""


def compare(body: bytes, *, stream: bool, plan: bool) -> str:
    """The id of a reply whose message means what the upstream's means. Raises :class:`BadReply`."""
    try:
        message = assemble(read_events(body)) if stream else json.loads(body)
        identifier: str = message["id"]
        if message["stop_reason"] != canned.stop_reason(plan=plan):
            raise BadReply(f"stop reason {message['stop_reason']}")
        if message["usage"]["output_tokens"] != canned.OUTPUT_TOKENS:
            raise BadReply("usage differs")
        if message["content"] != canned.content(identifier, plan=plan):
            raise BadReply("content differs")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadReply(f"malformed reply ({type(error).__name__})") from None
    return identifier


def check(status: int, body: bytes, *, stream: bool, plan: bool, seen: set[str]) -> list[dict[str, Any]]:
    """The reply's content blocks, after comparing it with what the upstream sends. Raises :class:`BadReply`.

    ``seen`` holds the message ids of the run; the reply's is added, and one that is there already is an error.
    """
    if status != 200:
        raise BadReply(f"HTTP {status}")
    identifier = verbatim_id(body, plan=plan) if stream else ""
    if not identifier:
        identifier = compare(body, stream=stream, plan=plan)
    if identifier in seen:
        raise BadReply("a reply given before")
    seen.add(identifier)
    return canned.content(identifier, plan=plan)


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.first = 0.0
        """When the current reply's first event was there; 0 before."""
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self.reader.feed(data)
        except BadMessage:
            self._finish(BadReply("broken framing"))
            self.close()
            return
        if not self.first and b"data:" in self.reader.body:
            self.first = time.perf_counter()
        if self.reader.done:
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish(BadReply("connection cut"))

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._transport is not None:
            self._transport.close()

    def _finish(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and wait for the whole reply: its status and body. Raises :class:`BadReply`."""
        assert self._transport is not None
        self.reader.next()
        self.first = 0.0
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._done
        except TimeoutError:
            self.close()
            raise BadReply(f"no reply within {TIMEOUT:.0f} s") from None
        return int(self.reader.start.split(b" ")[1]), bytes(self.reader.body)


class Worker:
    """An agent with a connection to the proxy."""

    def __init__(self, agent: Agent, workload: Workload) -> None:
        self._agent = agent
        self._workload = workload
        self._connection = Connection()
        self._port = 0

    async def connect(self, port: int) -> None:
        """Open the connection, unless one to this port is usable."""
        if not self._connection.usable or self._port != port:
            loop = asyncio.get_running_loop()
            _, self._connection = await loop.create_connection(Connection, "127.0.0.1", port)
            self._port = port

    def close(self) -> None:
        """Close the connection; the agent stays."""
        self._connection.close()

    async def run(self, until: float, seen: set[str], result: Result) -> None:
        """Send request after request until the clock reads ``until``; at least one."""
        while True:
            body = self._agent.request()
            result.bytes_sent += len(body)
            head = (
                "POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: agentmemory-bench\r\n"
                "content-type: application/json\r\naccept: application/json\r\nx-api-key: sk-bench\r\n"
                f"anthropic-version: 2023-06-01\r\nx-agent-session: {self._agent.session}\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            ).encode()
            try:
                await self.connect(self._port)
                sent = time.perf_counter()
                status, reply = await self._connection.ask(head + body)
                ended = time.perf_counter()
                stream, plan = self._workload.stream, self._agent.planning
                content = check(status, reply, stream=stream, plan=plan, seen=seen)
            except (BadReply, OSError) as error:
                reason = str(error) if isinstance(error, BadReply) else f"connect: {type(error).__name__}"
                result.errors[reason] = result.errors.get(reason, 0) + 1
                self._agent.restart()
                await asyncio.sleep(_SLEEP_AFTER_ERROR)
            else:
                result.totals.append(ended - sent)
                if stream:
                    result.firsts.append(self._connection.first - sent)
                self._agent.take(content)
            if time.perf_counter() >= until:
                return


class Generator:
    """The workers of all proxies and workloads, kept between windows."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, str], list[Worker]] = {}
        self._seen: set[str] = set()

    def workers(self, proxy: str, workload: Workload, count: int) -> list[Worker]:
        """The first ``count`` workers of this proxy and workload, made where there are fewer."""
        pool = self._workers.setdefault((proxy, workload.name), [])
        for number in range(len(pool), count):
            agent = Agent(f"{proxy}-{workload.name}-{number}", workload, 2 + (number * 5) % (STEPS - 1))
            pool.append(Worker(agent, workload))
        return pool[:count]

    async def connect(self, workers: list[Worker], port: int) -> None:
        """Connect all workers."""
        for worker in workers:
            await worker.connect(port)

    async def window(self, workers: list[Worker], seconds: float) -> Result:
        """Let all workers run for ``seconds`` and until their last replies are there."""
        result = Result()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run(began + seconds, self._seen, result))
        result.wall = time.perf_counter() - began
        for worker in workers:
            worker.close()
        return result


def main() -> None:
    """Serve commands until stdin ends."""
    generator = Generator()
    workloads = {workload.name: workload for workload in WORKLOADS}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            command = json.loads(line)
            workers = generator.workers(command["proxy"], workloads[command["workload"]], command["concurrency"])
            try:
                runner.run(generator.connect(workers, command["port"]))
            except OSError as error:
                print(json.dumps({"error": str(error)}), flush=True)
                continue
            print(json.dumps({"ready": True}), flush=True)
            sys.stdin.readline()
            result = runner.run(generator.window(workers, command["seconds"]))
            print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
