"""One random conversation, from a seed: what a client may do to its history, and how Claude may answer.

A plan is made of moves that do not depend on what Claude says, so that the same plan can be played to Claude directly and
through a sidecar. What Claude answers with (thinking, tool calls, where it stops) stands in the questions, as directives to
the strict Claude; thinking is signed, so each side sends back its own.
"""

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

Json = dict[str, Any]
TOOLS = [
    {"name": name, "description": f"The tool {name}.", "input_schema": {"type": "object"}}
    for name in ("TodoWrite", "look", "write")
]
THINKS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-opus-4-8")
"""Bind their thinking to the prefix and take system messages among the others."""
PLAIN = ("claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-6")
PREFILLS = frozenset({"claude-sonnet-4-5", "claude-haiku-4-5"})
PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
    )
).decode()
IMAGE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
MARKER = {"type": "ephemeral"}
WORDS = [
    *(
        "harbour",
        "lantern",
        "ledger",
        "violet",
        "copper",
        "Tuesday",
        "1984",
        "Łódź",
        "naïve",
        "Zürich",
        "東京",
        "left-pad",
    ),
    *("/etc/hosts", "O'Neill", "budget", "cathedral", "quartz", "seventeen", "otter", "ministry"),
]


@dataclass(frozen=True)
class Move:
    """Something the client does. ``do`` changes the history; ``send`` says whether it asks Claude then."""

    name: str
    do: Callable[["Talk"], None]
    send: bool = True
    headers: Json = field(default_factory=dict)
    path: str = "/v1/messages"
    changes: Json = field(default_factory=dict)
    learnt: Json | None = None
    """What an administrator puts into the state before it; only a sidecar has one."""


@dataclass
class Talk:
    """A client's history on one side, and how it asks."""

    model: str
    thinking: Json | None
    stream: bool
    tools: list[Json]
    messages: list[Json] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)
    """Tool calls of the last reply that wait for results."""

    def body(self, move: Move) -> bytes:
        whole: Json = {
            "model": self.model, "max_tokens": 4000, "system": "Be brief.", "messages": self.messages,
            "tools": self.tools, "stream": self.stream, "thinking": self.thinking, **move.changes,
        }  # fmt: skip
        if move.path.endswith("count_tokens"):
            whole = {name: value for name, value in whole.items() if name not in ("max_tokens", "stream")}
        return msgspec.json.encode({name: value for name, value in whole.items() if value is not None})

    def took(self, content: list[Json]) -> None:
        """Keep a reply, as SDKs do."""
        self.messages = [*self.messages, {"role": "assistant", "content": content}]
        self.calls = [block for block in content if block["type"] == "tool_use"]

    def user(self, content: Any) -> None:
        self.messages = [*self.messages, {"role": "user", "content": content}]
        self.calls = []

    def back(self) -> None:
        """Back to before a question: the history ends with a reply or is empty. Nothing where there is none."""
        asked = [n for n, one in enumerate(self.messages) if one["role"] == "user" and not _is_results(one)]
        if asked:
            self.messages, self.calls = self.messages[: asked[-1]], []


def _is_results(message: Json) -> bool:
    content = message["content"]
    return isinstance(content, list) and any(block["type"] == "tool_result" for block in content)


class Plan:
    """The moves of one conversation, and how it begins. The same seed makes the same plan."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        thinks = self._rng.random() < 0.75
        model = self._rng.choice(THINKS if thinks else PLAIN)
        self.model = model
        self.thinking = {"type": "adaptive"} if thinks else None
        self.moves = [self._move(number) for number in range(self._rng.randrange(4, 13))]

    def talk(self) -> Talk:
        return Talk(self.model, self.thinking, stream=True, tools=TOOLS)

    def _words(self, count: int) -> str:
        return " ".join(self._rng.choices(WORDS, k=count))

    def _move(self, number: int) -> Move:
        makers: list[tuple[int, Callable[[int], Move]]] = [
            (10, self._ask), (3, self._rewind), (2, self._compact), (2, self._again), (2, self._fresh), (2, self._count),
            (2, self._fault), (2, self._system), (1, self._wrong), (1, self._prefill), (1, self._reshape),
        ]  # fmt: skip
        maker = self._rng.choices([make for _, make in makers], [weight for weight, _ in makers])[0]
        move = (self._ask if number == 0 else maker)(number)
        learnt = None
        if self._rng.random() < 0.5:
            words = self._words(self._rng.randrange(2, 30))
            learnt = {"active_mission": {"goal": words}, "extracted_context": {f"fact{number}": words[::-1]}}
        stream = self._rng.random() < 0.6
        return Move(
            move.name,
            move.do,
            move.send,
            move.headers,
            move.path,
            {"stream": stream, **move.changes},
            learnt or move.learnt,
        )

    # ------------------------------------------------------------------------------------------------- what Claude says

    def _directives(self) -> str:
        """How the reply to a question goes, step by step."""
        steps = []
        for _ in range(self._rng.choice((1, 1, 2, 3))):
            said = self._rng.choice(("", "[[think]]", "[[think: hm.]]", "[[redacted]]")) if self.thinking else ""
            said += self._rng.choice(("", "[[say: So.]]", "[[long: 40]]"))
            calls = self._rng.choice((0, 1, 1, 2))
            for _ in range(calls):
                name = self._rng.choice(("look", "write", "TodoWrite"))
                given = {"q": self._words(2)} if name != "TodoWrite" else {
                    "todos": [{"content": self._words(3), "status": "pending", "activeForm": "x"}]
                }  # fmt: skip
                said += f"[[tool:{name} {msgspec.json.encode(given).decode()}]]"
            steps.append(said if calls else said + "[[say: Well.]]")
            if not calls:
                break
        else:
            steps.append("[[say: Done.]]")
        return "[[then]]".join(steps)

    # ---------------------------------------------------------------------------------------------- what the client does

    def _content(self) -> Any:
        text = f"{self._words(self._rng.randrange(1, 25))}? {self._directives()}"
        marker = {"cache_control": MARKER} if self._rng.random() < 0.4 else {}
        return self._rng.choice([
            text,
            [{"type": "text", "text": text, **marker}],
            [IMAGE, {"type": "text", "text": text, **marker}],
            [{"type": "text", "text": text}, {"type": "text", "text": " \n"}],
            [{"type": "text", "text": "Look at this."}, IMAGE, {"type": "text", "text": text}, {**IMAGE, **marker}],
            [{"type": "text", "text": f"<system-reminder>{self._words(4)}"}, {"type": "text", "text": text}],
        ])  # fmt: skip

    def _results(self) -> Callable[[Talk], bool]:
        """Answers open calls; says whether there were any."""
        rng = random.Random(self._rng.random())
        after = [{"type": "text", "text": self._words(3)}] if rng.random() < 0.3 else []

        def answer(talk: Talk) -> bool:
            if not talk.calls:
                return False
            blocks: list[Json] = []
            for call in talk.calls:
                content = rng.choice(("ok", "", [{"type": "text", "text": "seen"}], [IMAGE], "x" * 30_000))
                failed = {"is_error": True} if rng.random() < 0.2 and content else {}
                blocks.append({"type": "tool_result", "tool_use_id": call["id"], "content": content, **failed})
            rng.shuffle(blocks)
            talk.user([*blocks, *after])
            return True

        return answer

    def _ask(self, _: int) -> Move:
        content, answer = self._content(), self._results()

        def ask(talk: Talk) -> None:
            if not answer(talk):
                talk.user(content)

        return Move("ask", ask)

    def _rewind(self, _: int) -> Move:
        content, times = self._content(), self._rng.randrange(1, 4)

        def rewind(talk: Talk) -> None:
            for _ in range(times):
                talk.back()
            talk.user(content)

        return Move("rewind", rewind)

    def _compact(self, _: int) -> Move:
        content, summary = self._content(), self._words(20)

        def compact(talk: Talk) -> None:
            talk.messages, talk.calls = [], []
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            talk.user([{"type": "text", "text": f"This session goes on. Summary: {summary}"}, *blocks])

        return Move("compact", compact)

    def _again(self, _: int) -> Move:
        """The last question once more: a retry, or "regenerate"."""

        def again(talk: Talk) -> None:
            while talk.messages and talk.messages[-1]["role"] == "assistant":
                talk.messages = talk.messages[:-1]
            talk.calls = []
            if not talk.messages:
                talk.user("Again?")

        return Move("again", again)

    def _fresh(self, _: int) -> Move:
        content = self._content()

        def fresh(talk: Talk) -> None:
            talk.messages, talk.calls = [], []
            talk.user(content)

        return Move("fresh", fresh)

    def _count(self, number: int) -> Move:
        asked = self._ask(number)
        return Move("count", asked.do, path="/v1/messages/count_tokens", changes={"stream": None})

    def _fault(self, number: int) -> Move:
        kind = self._rng.choice(("529", "500", "error_event after=2", "error_event after=7", "json_cut", "429"))
        return Move("fault", self._ask(number).do, headers={"x-claude-fault": kind})

    def _system(self, number: int) -> Move:
        asked, said = self._ask(number), self._words(5)

        def ask(talk: Talk) -> None:
            asked.do(talk)
            talk.messages = [*talk.messages, {"role": "system", "content": [{"type": "text", "text": said}]}]

        return Move("system", ask)

    def _prefill(self, number: int) -> Move:
        asked = self._ask(number)

        def ask(talk: Talk) -> None:
            asked.do(talk)
            if talk.model in PREFILLS:
                talk.messages = [*talk.messages, {"role": "assistant", "content": "Well,"}]

        return Move("prefill", ask)

    def _reshape(self, number: int) -> Move:
        """The same history in another form: strings as blocks, markers moved, as SDKs and gateways do."""
        asked = self._ask(number)

        def ask(talk: Talk) -> None:
            talk.messages = [
                {**one, "content": [{"type": "text", "text": one["content"]}]}
                if isinstance(one["content"], str)
                else one
                for one in talk.messages
            ]
            asked.do(talk)

        return Move("reshape", ask)

    def _wrong(self, number: int) -> Move:
        asked = self._ask(number)
        orphan = {"type": "tool_result", "tool_use_id": "toolu_nobody", "content": "?"}
        wrong: Any = self._rng.choice(([orphan], [{"type": "text", "text": ""}], [], [{"type": "text", "text": "  "}]))

        def ask(talk: Talk) -> None:
            asked.do(talk)
            talk.messages = [*talk.messages[:-1], {"role": "user", "content": wrong}]

        return Move("wrong", ask)
