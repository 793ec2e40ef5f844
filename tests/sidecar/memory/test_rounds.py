"""A reply that the client knows as one message is taken apart again where exchanges were hidden in it."""

from typing import Any

import msgspec
import pytest

from agentmemory_sidecar.memory.ledger import Entry, Made, Replay, Round, assemble, pack, replayed, unpack
from agentmemory_sidecar.wire.canonical import block_digests, extend
from agentmemory_sidecar.wire.request import MessagesRequest, parse
from tests.sidecar.memory.test_ledger import assistant, ledger, request, user

Json = dict[str, Any]
QUESTION = user("Q")


def call(name: str) -> Json:
    return {"type": "tool_use", "id": name, "name": "memory", "input": {}}


def result(name: str) -> Json:
    return {"type": "tool_result", "tool_use_id": name, "content": "done"}


def text(said: str) -> Json:
    return {"type": "text", "text": said}


def mark(*shown: Json, before: MessagesRequest | None = None) -> str:
    """The mark behind these blocks of an answer to the question."""
    after = (before or request(QUESTION)).chain.last
    row = extend(after, block_digests("assistant", list(shown)))
    return row[-1] if row else after


def hidden(*shown: Json, names: tuple[tuple[int, str], ...], ordinal: int, step: str = "s", **rest: Any) -> Entry:
    """An exchange with these blocks shown so far, and calls by how many of the shown stand behind each."""
    calls = tuple((back, msgspec.json.encode(call(name))) for back, name in names)
    results = b",".join(msgspec.json.encode(result(name)) for _, name in names)
    one = Round(mark(*shown), request(QUESTION).chain.last, calls, results, **rest)
    return Entry(f"k{ordinal}", f"~{one.behind}", ordinal, step, round=one)


def said(asked: MessagesRequest, *entries: Entry, made: tuple[Made, ...] = ()) -> list[Json]:
    body = assemble(asked, replayed(asked, ledger(*entries), made).entries)
    messages: list[Json] = msgspec.json.decode(body)["messages"]
    return messages


A, B, C = text("a"), text("b"), text("c")


def test_each_exchange_becomes_messages_of_its_own() -> None:
    first, second = hidden(A, names=((0, "m1"),), ordinal=1), hidden(A, B, names=((0, "m2"), (0, "m3")), ordinal=2)
    assert said(request(QUESTION, assistant([A, B, C]), user("And?")), first, second) == [
        QUESTION,
        assistant([A, call("m1")]), user([result("m1")]),
        assistant([B, call("m2"), call("m3")]), user([result("m2"), result("m3")]),
        assistant([C]), user("And?"),
    ]  # fmt: skip


def test_exchanges_without_a_word_stand_in_their_order() -> None:
    first, second = hidden(names=((0, "m1"),), ordinal=1), hidden(names=((0, "m2"),), ordinal=2)
    assert said(request(QUESTION, assistant("c"), user("And?")), second, first) == [
        QUESTION, assistant([call("m1")]), user([result("m1")]), assistant([call("m2")]), user([result("m2")]),
        assistant([C]), user("And?"),
    ]  # fmt: skip


def test_calls_stand_where_they_stood_among_shown_blocks() -> None:
    own = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
    entry = hidden(A, own, B, names=((3, "m0"), (2, "m1"), (0, "m2")), ordinal=1, open=True)
    asked = request(QUESTION, assistant([A, own, B]), user([result("c1"), text("here")]))
    assert said(asked, entry) == [
        QUESTION, assistant([call("m0"), A, call("m1"), own, B, call("m2")]),
        user([result("m0"), result("m1"), result("m2"), result("c1"), text("here")]),
    ]  # fmt: skip


def test_blank_blocks_do_not_count() -> None:
    entry = hidden(A, B, names=((1, "m1"), (0, "m2")), ordinal=1)
    asked = request(QUESTION, assistant([A, text(" \n"), B, text(" "), C]), user("And?"))
    assert said(asked, entry)[1:4] == [
        assistant([A, call("m1"), text(" \n"), B, call("m2")]), user([result("m1"), result("m2")]),
        assistant([text(" "), C]),
    ]  # fmt: skip


@pytest.mark.parametrize("order", [("content", "role"), ("role", "content")])
def test_messages_are_whole_whatever_their_members_order(order: tuple[str, str]) -> None:
    message = assistant([A, C])
    body = msgspec.json.encode({"messages": [QUESTION, {name: message[name] for name in order}, user("And?")]})
    assert said(parse(body), hidden(A, names=((0, "m1"),), ordinal=1))[1:4] == [
        assistant([A, call("m1")]), user([result("m1")]), assistant([C]),
    ]  # fmt: skip


def test_the_clients_bytes_stay() -> None:
    body = b'{"messages": [ {"role":"user","content":"Q"} , {"role":"assistant","content": [ {"text" : "a","type":"text"}, '
    body += b'{"type":"text", "text":"\\u0063" } ]} , {"role":"user","content":"And?"}], "x" : 1}'
    done = assemble(parse(body), [hidden(A, names=((0, "m1"),), ordinal=1)])
    for piece in (b'{"text" : "a","type":"text"}', b'{"type":"text", "text":"\\u0063" }', b'], "x" : 1}'):
        assert piece in done


def test_nothing_where_the_client_shows_nothing_behind_it() -> None:
    before, behind = hidden(names=((0, "m1"),), ordinal=1), hidden(A, names=((0, "m2"),), ordinal=2)
    for asked in (
        request(QUESTION),
        request(QUESTION, assistant([A]), user("Go on")),
        request(QUESTION, user("Well?")),
    ):
        assert "m2" not in str(said(asked, before, behind))
    assert "m1" not in str(said(request(QUESTION), before))
    assert "m1" not in str(said(request(QUESTION, user("Well?")), before))


def test_open_results_need_the_clients_own() -> None:
    own = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
    entry = hidden(own, names=((0, "m1"),), ordinal=1, open=True)
    for rest in ((), (user("no result"),)):
        assert "m1" not in str(said(request(QUESTION, assistant([own]), *rest), entry))


def test_committed_reply_tells_which_exchanges_were_its_own() -> None:
    failed, kept = hidden(names=((0, "m1"),), ordinal=1, step="s1"), hidden(names=((0, "m2"),), ordinal=2, step="s2")
    asked = request(QUESTION, assistant("c"), user("And?"))
    after = request(QUESTION).chain.last

    def with_rounds(*keys: str) -> str:
        return str(said(asked, failed, kept, made=(Made("msg", mark(C), after, rounds=keys),)))

    assert ("m1" in with_rounds("k1"), "m2" in with_rounds("k1")) == (True, False)
    assert ("m1" in with_rounds("k2"), "m2" in with_rounds("k2")) == (False, True)
    assert "m1" not in with_rounds()
    assert "m2" not in with_rounds()
    # Without it the newest attempt counts.
    assert ("m1" in str(said(asked, failed, kept)), "m2" in str(said(asked, failed, kept))) == (False, True)


def test_committed_reply_may_end_without_a_word() -> None:
    entry = hidden(A, names=((0, "m1"),), ordinal=1)
    made = Made("msg", mark(A), request(QUESTION).chain.last, rounds=("k1",))
    assert said(request(QUESTION, assistant([A]), user("And?")), entry, made=(made,)) == [
        QUESTION, assistant([A, call("m1")]), user([result("m1")]), user("And?"),
    ]  # fmt: skip


def test_beside_what_was_injected() -> None:
    injected = Entry(mark(), mark(), 1, "s", b'{"type":"text","text":"recalled"}')
    history = Entry("h", mark(), 2, "s", history=b'{"role":"user","content":"old"}')
    entry = hidden(names=((0, "m1"),), ordinal=3)
    asked = request(QUESTION, assistant("c"), user("And?"))
    body = assemble(asked, [injected, history, entry])
    assert msgspec.json.decode(body)["messages"] == [
        user("old"), user([text("Q"), text("recalled")]), assistant([call("m1")]), user([result("m1")]), assistant([C]),
        user("And?"),
    ]  # fmt: skip


def test_thread_holds_its_history_itself() -> None:
    asked = request(user("And?"), thread={"type": "continue", "previous_message_id": "msg"})
    assert replayed(asked, ledger(hidden(names=((0, "m1"),), ordinal=1)), ()) == Replay()


def test_is_kept_as_it_is() -> None:
    entry = hidden(A, names=((0, "m1"), (1, "m2")), ordinal=1, open=True)
    assert unpack(pack(entry)) == entry
    assert entry.mark != entry.place == mark(A)
