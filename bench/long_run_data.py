"""What an agent of ``bench.long_run`` knows, is asked and does: seeded, so that two runs are alike.

The state is a project's: a mission with its tasks, and beneath ``/extracted_context`` notes of the work, what is known of
people, and what was said in conversations, of the kinds that ``bench.recall_data`` makes. Among them stand the planted
facts, each of them said once. Every other turn asks for one of them, in its own words; the turns between are work, with
tools, and need nothing of the state.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import recall_data

Json = dict[str, Any]

_KINDS = {"work": "notes", "profile": "people", "talk": "conversations"}
"""The kinds of ``recall_data``, and where in the state they lie."""
_PLANTED = (
    ("The staging database of {name} listens on port {number}.", "Which port does {name}'s staging database use?"),
    ("{name} pays {number} euros a month for support.", "How much do we charge {name} for support every month?"),
    ("Do not deploy for {name} before {person} has signed the checklist.", "May I deploy what {name} is waiting for?"),
    ("The signing key for {name} lies in the vault under keys/{number}.", "Where do I find the key to sign {name}'s build?"),
    ("{name} reported that invoices with umlauts break in build {number}.", "What was wrong with the invoices {name} got?"),
    ("{person} is the contact at {name}; write to her in French.", "Draft a mail to our contact person at {name}."),
    ("{name} wants CSV files with semicolons, encoded as Latin-1.", "Write the CSV export that {name} wanted."),
    ("The contract with {name} ends in {month}; {person} negotiates it.", "Until when does the contract with {name} run?"),
    ("Webhooks to {name} must be retried {number} times, then parked.", "How often are webhooks retried for {name}?"),
    ("{name}'s tenant runs on cluster c{number}, not on the shared one.", "On which cluster is the tenant of {name}?"),
)  # fmt: skip
_SYLLABLES = "bran cor del fin gal hes jor kel lum mer nor pav quil ros sten tar ulm ver wex zan".split()  # noqa: SIM905
_ENDINGS = ("co", "tec", "works", "ware", "ix", "ona", "ery", "and")
_PEOPLE = "Adele Birgit Carmen Dora Elin Fatima Gudrun Hatice Imke Jolanda".split()  # noqa: SIM905
_MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905
_AREAS = "checkout invoices search login export webhooks uploads reports audit catalogue".split()  # noqa: SIM905
_ERRANDS = (
    "Now run the tests of {area} again and fix what fails.",
    "Go on.",
    "Rename the helper in {area} as we said, nothing else.",
    "Thanks. Show me the diff before you commit it.",
    "Why is that slow? Measure {area} first, then change one thing.",
    "Add a test for {area} that fails without the change.",
    "Good. Next task, please.",
    "Undo the last edit, it broke the build of {area}.",
)
_FILLER = "value row cursor batch retry buffer offset token header stream index commit lock field schema".split()  # noqa: SIM905
_STEP = 10
"""Facts by which the lists of the state grow until it is large enough."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says, the fact it needs (empty for none), and how many tool calls Claude makes before it answers."""

    text: str
    needs: str
    calls: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. ``state`` is what is remembered before it begins."""

    state: Json
    turns: Sequence[Turn]

    @property
    def planted(self) -> int:
        """How many facts its questions need."""
        return len({turn.needs for turn in self.turns} - {""})


def plan(seed: int, turns: int, tokens: int, cost: Callable[[Json], int], *, every: int = 2) -> Plan:
    """A run of so many turns, each ``every``-th of which asks for a planted fact, with a state of about ``tokens`` as
    ``cost`` counts them."""
    rng = random.Random(seed)
    planted = _planted(rng, -(-turns // every))
    made = []
    for number in range(turns):
        if number % every == 0:
            fact, question = planted[number // every]
            made.append(Turn(question, fact, rng.choice((0, 0, 1))))
        else:
            made.append(Turn(rng.choice(_ERRANDS).format(area=rng.choice(_AREAS)), "", rng.choice((1, 2, 3))))
    cases = {case["name"]: case for case in recall_data.generate(seed, len(recall_data.KINDS), tokens // 30)}
    size = 0
    while cost(state := _state(random.Random(seed), cases, size, planted)) < tokens:
        size += _STEP
    return Plan(state, made)


def output(rng: random.Random, call: int) -> str:
    """What a tool returns: some lines of code."""
    lines = (f"{number:4d}  {' '.join(rng.choices(_FILLER, k=6))}" for number in range(rng.randrange(5, 40)))
    return f"exit code 0, run {call}\n" + "\n".join(lines)


def _planted(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Facts and their questions, each about a name of its own."""
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(rng.sample(_SYLLABLES, 2)).capitalize() + rng.choice(_ENDINGS)] = None
    made = []
    for at, name in enumerate(names):
        fact, question = _PLANTED[at % len(_PLANTED)]
        slots = {"name": name, "number": rng.randrange(1000, 9999), "person": rng.choice(_PEOPLE)}
        made.append((fact.format(**slots, month=rng.choice(_MONTHS)), question.format(**slots)))
    return made


def _state(
    rng: random.Random, cases: Mapping[str, Mapping[str, Any]], size: int, planted: Sequence[tuple[str, str]]
) -> Json:
    known: dict[str, list[Json]] = {
        name: [{"text": fact["text"], "time": fact.get("time") or ""} for fact in cases[kind]["facts"][:size]]
        for kind, name in _KINDS.items()
    }
    for text, _ in planted:
        there = known[rng.choice(list(known))]
        there.insert(rng.randrange(len(there) + 1), {"text": text})
    tasks = [f"[pending] {errand} the {area} path" for area in _AREAS for errand in ("measure", "document")]
    mission = {"goal": "Move the web shop to the new platform by March", "sub_tasks": tasks, "blocked_by": None}
    return {"active_mission": mission, "extracted_context": known}
