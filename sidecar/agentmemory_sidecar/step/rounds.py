"""Rounds: Claude's calls of the memory tool are answered here, and what comes of it reaches the client as one reply.

A reply that calls the tool is held back from its first call on; the commands run on the state as this step sees it, the
results go to Claude in a request of their own, and the next reply goes on where the one before stopped. Where the client
has tools of its own to run in the same reply, the results wait for its next request. Nothing of it is true before the
step is committed: the files' changes are part of its patch. What the client was not shown stands in the ledger, frozen
before anything that was made behind it goes out.
"""

from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agentmemory_sidecar.archive.blobs import BlobReader
from agentmemory_sidecar.archive.keys import KeyUnavailable
from agentmemory_sidecar.memory import links
from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.ledger import Entry, Round, next_ordinal, pack, variant_key
from agentmemory_sidecar.memory.scopes import Homes
from agentmemory_sidecar.memory.state import Operation, to_json
from agentmemory_sidecar.memory.tool import MEMBER, NAME, POINTER, serving
from agentmemory_sidecar.memory.tool.commands import Limits, Result, command_of, reads, run
from agentmemory_sidecar.memory.tool.files import Files
from agentmemory_sidecar.resource.agentmemory import OnDisconnect
from agentmemory_sidecar.resource.memorytool import Serve
from agentmemory_sidecar.step.acknowledge import Pings
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.step.build import state_limit
from agentmemory_sidecar.step.exchange import Client, Response, UpstreamFailed
from agentmemory_sidecar.step.forward import Answer, Listener, Prompt, broken, forward, headers_for, whole
from agentmemory_sidecar.step.hydrate import Memory
from agentmemory_sidecar.step.inject import Injection, freeze
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.wire.canonical import block_digests, extend
from agentmemory_sidecar.wire.errors import too_many_rounds, upstream_cut, upstream_said
from agentmemory_sidecar.wire.events import Accumulator, Frames, Reply
from agentmemory_sidecar.wire.headers import to_client
from agentmemory_sidecar.wire.spans import Edit, Span, edited, members
from agentmemory_sidecar.wire.splicing import Splice, ended, is_call, joined, shown

_ROOM = 0.75
"""The share of the state that files may take it to: what else a step has to say must find room as well."""
_KEY = "0" * 120
"""As long as a blob's key."""
_AWAY = Result("The memory directory cannot be reached right now. Go on without it.", is_error=True)
_TOO_LONG = Result(
    "This is more than can be shown in one reply. View a part of the file with view_range, or go on without it.",
    is_error=True,
)
_SMALL_RESULTS = 65_536
"""Bytes by which what is hidden may be over its limit: results that only say what was done."""
_READ_ONLY = Result("You may read this file, but not change it. Go on without it.", is_error=True)
_UNREADABLE = Result("The file cannot be read right now. Try again later.", is_error=True)


def converse(
    services: Services,
    question: Question,
    memory: Memory,
    injection: Injection,
    prompt: Prompt,
    client: Client,
    lease: Lease,
) -> Coroutine[Any, Any, Answer]:
    """Ask Claude, and go on asking for as long as it only calls the memory tool. Raises what ``forward`` raises."""
    if not question.request.names_memory_tool or not _serves(services, question, memory, injection):
        return forward(services, question, prompt, client)
    return _Conversation(services, question, memory, injection, prompt, client, lease).hold()


def _serves(services: Services, question: Question, memory: Memory, injection: Injection) -> bool:
    """Whether the request's memory tool is answered here."""
    config = services.config
    if config.memory_tool.serve is Serve.NEVER or config.shadow or not serving.declared(question.request):
        return False
    injection.own_tool = _is_the_clients(question, memory)
    return not injection.own_tool and question.request.thread is None


def _is_the_clients(question: Question, memory: Memory) -> bool:
    """Whether the agent implements the tool: its SDK says so, or its history did at any time."""
    return (
        memory.item.own_memory_tool
        or serving.runs_tools(question.inbound.headers)
        or serving.has_own_calls(question.request)
    )


@dataclass(slots=True)
class _Conversation:
    """One step's exchanges with Claude."""

    services: Services
    question: Question
    memory: Memory
    injection: Injection
    prompt: Prompt
    client: Client
    lease: Lease
    splice: Splice = field(default_factory=lambda: Splice(NAME))
    replies: list[Reply] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Of the first answer: those that the client gets."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What became of files so far."""
    texts: dict[str, str] = field(default_factory=dict)
    """Files behind links that were read, by their blobs' keys."""
    hidden_bytes: int = 0
    last: bool = False
    """Claude was asked for an answer without any more calls."""

    async def hold(self) -> Answer:
        stays = self.services.config.on_disconnect is OnDisconnect.COMPLETE
        listener = Listener(self.client, stays=stays)
        body = self.prompt.body
        while True:
            pings = Pings(self.client, self.services) if self.client.begun else None
            try:
                answer = await self._ask(body, listener)
            finally:
                if pings is not None:
                    pings.cancel()
            if answer.reply is None:
                return self._failed(answer)
            reply = answer.reply
            self.replies.append(reply)
            self.headers = self.headers or list(answer.headers)
            calls = [block for block in reply.content if is_call(block, NAME)]
            if reply.stop_reason != "tool_use" or not calls:
                return self._together(answer)
            if self.last:
                raise too_many_rounds(self.services.config.memory_tool.max_rounds)
            results = await self._results(calls)
            waiting = any(block.get("type") == "tool_use" for block in shown(reply, NAME) if isinstance(block, dict))
            await self._keep(reply, results, waiting=waiting, streamed=answer.streamed)
            if waiting:
                return self._together(answer)
            body = self._next(body, reply, results)

    # ------------------------------------------------------------------------------------------------ one exchange

    async def _ask(self, body: bytes, listener: Listener) -> Answer:
        question = self.question
        headers = headers_for(question, self.prompt)
        try:
            async with self.services.upstream.send(
                "POST", question.path, question.inbound.query, headers, body, plain=True
            ) as response:
                if response.status == 200 and response.content_type == "text/event-stream":
                    return await self._stream(response, listener)
                return whole(response, await response.read(), self.prompt)
        except UpstreamFailed as error:
            raise broken(error) from error

    async def _stream(self, response: Response, listener: Listener) -> Answer:
        if not self.headers:
            self.headers = [*to_client(response.headers), *self.prompt.receipt.items()]
            await listener.begin(response.status, self.headers)
        frames, copy = Frames(), Accumulator()
        held: list[bytes] = []
        self.splice.begin()
        async for chunk in response.chunks():
            ready: list[bytes] = []
            for frame in frames.feed(chunk):
                kind = copy.read(frame)
                if not copy.tail and kind != "error":
                    ready.append(self.splice.take(frame, kind))
                elif kind != "ping":
                    held.append(frame)
            if passed := b"".join(ready):
                await listener.write(passed)
            if copy.error is not None:
                break
        if copy.error is None and not copy.complete:
            raise upstream_cut()
        reply = copy.reply() if copy.complete else None
        return Answer(response.status, self.headers, reply, held=held, streamed=True)

    def _failed(self, answer: Answer) -> Answer:
        """An answer that is no success, as far as the client can still be given it as it is. Raises ApiError."""
        if self.client.begun and not answer.streamed:
            raise upstream_said(answer.status, answer.body)
        return answer

    def _together(self, answer: Answer) -> Answer:
        """The whole of what the client gets. Now all of it is part of the step."""
        reply = joined(self.replies, NAME)
        self.injection.changes = tuple(
            Operation("remove", ptr.join(POINTER, name)) if value is None else
            Operation("set", ptr.join(POINTER, name), value)
            for name, value in self.changes.items()
        )  # fmt: skip
        for entry in self.injection.rounds:
            self.injection.unsaved.setdefault(entry.key, pack(entry))
        if answer.streamed:
            answer.held = ended(answer.held, self.replies)
        else:
            answer.headers = self.headers
            answer.body = reply.encoded
        answer.reply = reply
        return answer

    # --------------------------------------------------------------------------------------------------- commands

    async def _results(self, calls: list[dict[str, Any]]) -> list[bytes]:
        """Run the commands one after the other; their results as JSON blocks."""
        limit = self.services.config.memory_tool.max_bytes
        self.hidden_bytes += sum(len(msgspec.json.encode(call)) for call in calls)
        results: list[bytes] = []
        for call in calls:
            result = await self._run(call.get("input"))
            block = _block(call, result)
            if self.hidden_bytes + len(block) > limit and not result.changes:
                result = _TOO_LONG
                block = _block(call, result)
            self.hidden_bytes += len(block)
            self.changes |= result.changes
            kind = command_of(call.get("input")) or "unknown"
            self.services.metrics.memory_commands.labels(kind, "error" if result.is_error else "ok").inc()
            results.append(block)
        if self.hidden_bytes > limit + _SMALL_RESULTS:
            raise too_many_rounds(self.services.config.memory_tool.max_rounds)
        return results

    async def _run(self, given: Any) -> Result:
        if not self.memory.remembers:
            return _AWAY
        before = Files(self.memory.state)
        files = Files({MEMBER: before.after(self.changes)}, self.texts)
        if key := reads(files, given):
            reader = BlobReader(
                self.question.identity.tenant, self.services.keys, self.services.blobs, self.services.state
            )
            subject = self.memory.item.subject or self.question.identity.subject
            with suppress(KeyUnavailable):
                homes = self.question.homes
                self.texts |= await reader.read(homes.homes[homes.of(POINTER) or 0].owner, subject, [key])
            if key not in self.texts:
                return _UNREADABLE
        limit = self.services.config.memory_tool.max_file_bytes
        homes = self.question.homes
        if any(not homes.homes[index].owner.is_session for index in _homes_of_files(homes)):
            # A blob is one person's; what several people share must lie in the state itself.
            limit = min(limit, self.services.config.blob_threshold_bytes)
        result = run(files, given, Limits(limit, self._fits))
        return _READ_ONLY if any(not homes.may_write(ptr.join(POINTER, name)) for name in result.changes) else result

    def _fits(self, files: Mapping[str, Any]) -> bool:
        threshold = self.services.config.blob_threshold_bytes
        state = links.extract({**self.memory.state, MEMBER: files}, threshold, lambda _: _KEY)
        return len(to_json(state)) <= _ROOM * state_limit(self.services.config)

    # ---------------------------------------------------------------------------------------------------- what stays

    async def _keep(self, reply: Reply, results: list[bytes], *, waiting: bool, streamed: bool) -> None:
        """Put the exchange into the ledger: at once where the client sees what comes behind it as it comes."""
        after = self.question.request.chain.last
        told = [block for one in self.replies for block in shown(one, NAME)]
        row = extend(after, block_digests("assistant", told))
        calls: list[tuple[int, bytes]] = []
        left = len(shown(reply, NAME))
        for block in reply.content:
            if is_call(block, NAME):
                calls.append((left, msgspec.json.encode(block)))
            else:
                left -= 1
        one = Round(row[-1] if row else after, after, tuple(calls), b",".join(results), open=waiting)
        injection = self.injection
        ledger = self.memory.ledger | {entry.key: entry for entry in injection.made}
        entry = Entry(
            key=variant_key(one.behind, ledger, self.question.step), mark=f"~{one.behind}", ordinal=next_ordinal(ledger),
            step=self.question.step, round=one,
        )  # fmt: skip
        injection.rounds.append(entry)
        if streamed and not waiting:
            await freeze(self.services, self.question, self.memory, injection, entry, self.lease)

    def _next(self, body: bytes, reply: Reply, results: list[bytes]) -> bytes:
        """The request with this reply and its results behind its last message."""
        top = members(body, Span(0, len(body)))
        said = b'{"role":"assistant","content":[' + _packed(reply.content) + b"]}"
        answered = b'{"role":"user","content":[' + b",".join(results) + b"]}"
        end = top["messages"].end - 1
        edits = [Edit(end, end, b"," + said + b"," + answered)]
        choice = self.question.request.fields.get("tool_choice")
        forced = isinstance(choice, dict) and choice.get("type") == "tool" and choice.get("name") == NAME
        limits = self.services.config.memory_tool
        self.last = len(self.replies) >= limits.max_rounds or self.hidden_bytes >= limits.max_bytes
        if self.last:
            edits.append(_chosen(top, "none"))
        elif forced:
            # It was called. To demand it once more would never end.
            edits.append(_chosen(top, "auto"))
        return edited(body, edits)


def _homes_of_files(homes: Homes) -> set[int]:
    """The homes that hold files."""
    whole = homes.of(POINTER)
    return {index for index in (whole, *(inner for inner, _ in homes.inside(POINTER))) if index is not None}


def _block(call: Mapping[str, Any], result: Result) -> bytes:
    block = {"type": "tool_result", "tool_use_id": call.get("id"), "content": result.text}
    return msgspec.json.encode(block | ({"is_error": True} if result.is_error else {}))


def _packed(blocks: list[Any]) -> bytes:
    return b",".join(msgspec.json.encode(block) for block in blocks)


def _chosen(top: Mapping[str, Span], kind: str) -> Edit:
    """Sets ``tool_choice``."""
    value = b'{"type":"' + kind.encode() + b'"}'
    if "tool_choice" in top:
        return Edit(top["tool_choice"].start, top["tool_choice"].end, value)
    return Edit(top["messages"].end, top["messages"].end, b',"tool_choice":' + value)
