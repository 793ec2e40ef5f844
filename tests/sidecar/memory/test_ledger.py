"""Where entries stand, which of them a request carries, and what of its bytes stays."""

from typing import Any

import msgspec
import pytest

from agentmemory_sidecar.memory.ledger import (
    Entry,
    Made,
    Replay,
    assemble,
    is_known,
    next_ordinal,
    pack,
    replayed,
    unpack,
    variant_key,
)
from agentmemory_sidecar.wire.request import MessagesRequest, parse

BLOCK = b'{"type":"text","text":"recalled"}'
Json = dict[str, Any]


def request(*messages: Json, **rest: Any) -> MessagesRequest:
    return parse(msgspec.json.encode({"model": "m", "messages": list(messages), **rest}))


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def assistant(content: Any) -> Json:
    return {"role": "assistant", "content": content}


def entry(mark: str, ordinal: int = 1, *, key: str = "", **rest: Any) -> Entry:
    return Entry(key or mark, mark, ordinal, f"step{ordinal}", **({"text": BLOCK} | rest))


def ledger(*entries: Entry) -> dict[str, Entry]:
    return {one.key: one for one in entries}


# ------------------------------------------------------------------------------------------------------------- assembling


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hi", [{"type": "text", "text": "Hi"}, "recalled"]),
        ('with "quotes" and \n ü', [{"type": "text", "text": 'with "quotes" and \n ü'}, "recalled"]),
        ([{"type": "text", "text": "Hi"}], [{"type": "text", "text": "Hi"}, "recalled"]),
        (
            [{"type": "tool_result", "tool_use_id": "t", "content": "x"}, {"type": "text", "text": "and"}],
            [{"type": "tool_result", "tool_use_id": "t", "content": "x"}, {"type": "text", "text": "and"}, "recalled"],
        ),
        (
            [{"type": "text", "text": "Hi"}, {"type": "text", "text": " \n"}],
            [{"type": "text", "text": "Hi"}, {"type": "text", "text": " \n"}, "recalled"],
        ),
    ],
    ids=["string", "escapes", "block", "tool-result", "blank"],
)
def test_entry_stands_behind_the_last_block(content: Any, expected: list[Any]) -> None:
    asked = request(user(content), assistant("Yes."), user("More."))

    body = assemble(asked, [entry(asked.chain.end(0))])

    told = [{"type": "text", "text": "recalled"} if one == "recalled" else one for one in expected]
    assert msgspec.json.decode(body)["messages"] == [user(told), assistant("Yes."), user("More.")]
    assert BLOCK in body


def test_every_other_byte_is_the_clients() -> None:
    body = (
        b'{ "x" : 1.50,\n "messages":[ {"content" : [ {"text":"\\u00fc","type":"text"} ] ,"role":"user"} ] , "a":{} }'
    )
    asked = parse(body)

    changed = assemble(asked, [entry(asked.chain.last)])

    assert changed == body.replace(b'"type":"text"} ]', b'"type":"text"},' + BLOCK + b" ]")
    assert assemble(asked, []) is asked.body


def test_entries_stand_in_their_own_places_with_history_before_all() -> None:
    asked = request(user("one"), assistant("1"), user("two"), assistant("2"), user("three"))
    history = b'{"role":"user","content":"before"},{"role":"assistant","content":"yes"}'
    entries = [
        entry(asked.chain.end(0), 1, text=b'{"type":"text","text":"first"}', history=history),
        entry(asked.chain.end(2), 2, system=True),
        entry(asked.chain.end(4), 3, text=b'{"type":"text","text":"third"}'),
    ]

    messages = msgspec.json.decode(assemble(asked, entries))["messages"]

    assert [message["role"] for message in messages] == [
        "user", "assistant", "user", "assistant", "user", "system", "assistant", "user",
    ]  # fmt: skip
    assert messages[0]["content"] == "before"
    assert messages[2]["content"][1]["text"] == "first"
    assert messages[5]["content"] == [{"type": "text", "text": "recalled"}]
    assert messages[7]["content"][1]["text"] == "third"


def test_entry_that_belongs_elsewhere_is_left_out() -> None:
    asked = request(user("one"))

    assert assemble(asked, [entry("f" * 40)]) == asked.body


# --------------------------------------------------------------------------------------------------------------- replaying


def test_entries_of_the_prefix_are_found_in_their_order() -> None:
    asked = request(user("one"), assistant("1"), user("two"))
    first, second, other = entry(asked.chain.end(0), 1), entry(asked.chain.end(2), 2), entry("e" * 40, 3)

    assert replayed(asked, ledger(second, other, first), []).entries == (first, second)


def test_other_branch_carries_none_of_it() -> None:
    asked = request(user("one"), assistant("1"), user("two"))
    rewound = request(user("one"), assistant("other"), user("two"))
    found = replayed(rewound, ledger(entry(asked.chain.end(0), 1), entry(asked.chain.end(2), 2)), [])

    assert [one.ordinal for one in found.entries] == [1]


def test_thread_carries_none() -> None:
    asked = request(user("one"), thread={"type": "continue", "previous_message_id": "msg_1"})

    assert replayed(asked, ledger(entry(asked.chain.end(0))), []) == Replay()


def test_reply_tells_which_variant_stood_there() -> None:
    old = request(user("one"), assistant("old"), user("more"))
    new = request(user("one"), assistant("new"), user("more"))
    unknown = request(user("one"))
    mark = old.chain.end(0)
    first, second = entry(mark, 1), entry(mark, 2, key=f"{mark}.2")
    made = [
        Made("m1", old.chain.end(1), mark, first.key),
        Made("m2", new.chain.end(1), mark, second.key),
    ]

    entries = ledger(first, second)
    assert replayed(old, entries, made).entries == (first,)
    assert replayed(new, entries, made).entries == (second,)
    assert replayed(unknown, entries, made).entries == (second,)


def test_reply_may_tell_that_nothing_stood_there() -> None:
    asked = request(user("one"), assistant("bare"), user("more"))
    mark = asked.chain.end(0)

    assert replayed(asked, ledger(entry(mark)), [Made("m", asked.chain.end(1), mark)]).entries == ()


def test_known_is_what_goes_on_from_an_entry_or_a_reply() -> None:
    asked = request(user("one"), assistant("1"), user("two"))
    entries = ledger(entry(asked.chain.end(0)))
    made = [Made("m", asked.chain.end(1), asked.chain.end(0))]

    assert is_known(asked, entries, [])
    assert is_known(asked, {}, made)
    assert not is_known(request(user("other")), entries, made)


def test_claims_of_later_entries_win_and_tokens_add_up() -> None:
    replay = Replay((
        entry("a", 1, tokens=3, claims=(("/x", "1"), ("/y", "1"))),
        entry("b", 2, tokens=4, claims=(("/x", "2"),)),
    ))  # fmt: skip

    assert replay.claims == {"/x": "2", "/y": "1"}
    assert replay.tokens == 7


def test_keys_and_ordinals_are_never_used_twice() -> None:
    entries = ledger(entry("a", 1), entry("a", 4, key="a.2"))

    assert variant_key("a", entries) == "a.3"
    assert variant_key("b", entries) == "b"
    assert next_ordinal(entries) == 5
    assert next_ordinal({}) == 1


def test_two_makers_that_know_nothing_of_each_other_take_different_keys() -> None:
    assert len({variant_key("a", {}, maker) for maker in ("", "step1", "step2")}) == 3


def test_packed_entry_is_the_same() -> None:
    whole = entry("a", 3, system=True, history=b"{}", tokens=9, claims=(("/x", "h"),))

    assert unpack(pack(whole)) == whole
    assert unpack(pack(entry("a"))) == entry("a")
