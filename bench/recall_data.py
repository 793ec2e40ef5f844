"""Seeded cases for ``bench.recall``, of four kinds: ``python -m bench.recall_data --seed 1 --cases 8 -o FILE``.

- ``talk``: two people over many days. What a question needs may stand in the answer to a question that has its words, in the
  turn behind the one that names the matter, or in several conversations; questions use other forms of the words.
- ``work``: notes of a project, one sentence each, with names, numbers, paths and versions; no speakers.
- ``chat``: two people again, told in other words than asked for (``recall_chat.py``); the hardest.
- ``profile``: short facts about people, many alike, some of them replaced by newer ones.

Made of templates: good for finding out whether a change helps at all and in which kind, not for absolute numbers.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from bench.recall_chat import chat

Case = dict[str, Any]

_NAMES = "Mara Theo Lina Omar Greta Felix Priya Joao Ines Viktor Salma Ruben Aiko Dennis Noor Paula".split()  # noqa: SIM905
_SMALL = (
    "That sounds lovely, {other}! How did it go?", "Wow, I am so happy for you!", "Thanks, {other}, that means a lot.",
    "Absolutely. It is the small things that count.", "Ha, I know what you mean.", "How have you been since we last talked?",
    "I really needed to hear that today.", "Same here, it has been a busy week.", "You always know what to say, {other}.",
    "Cool! What made you think of that?", "It was great to catch up. Talk to you soon!", "Take care, {other}!",
    "Long day, but a good one.", "I totally get that. What do you want to do next?", "That must have been quite something!",
)  # fmt: skip

# (opening by the other, answer, more, question, evidence: a = answer, m = more)
# ruff: noqa: E501 - one matter reads best on few lines
_MATTERS: tuple[tuple[str, str, str, str, str], ...] = (
    ("Did you hear back about the {job} position?", "Yes! They offered it to me {ago} and I start in {month}.",
     "The salary is {number} percent higher than before.", "When will {who} begin working as a {job}?", "a"),
    ("How is the {craft} going?", "I finished {number} pieces {ago} and sold two of them at the {place} market.",
     "People kept asking who taught me.", "How many pieces of {craft} did {who} complete?", "a"),
    ("What did you do at the weekend?", "We hiked up to {place} with my {kin} and camped there for {number} nights.",
     "A fox stole our bread while we were sleeping.", "Which animal took food during {who}'s camping trip?", "m"),
    ("Any news from your {kin}?", "She is moving to {city} {soon}, the boxes are all packed.",
     "I will miss the Sunday dinners the most.", "Where is {who}'s {kin} relocating to?", "a"),
    ("I got a {pet} from the shelter {ago}!", "What is it called?", "{petname}. It sleeps on my keyboard.",
     "What is the name of {who}'s {pet}?", "m"),
    ("I signed up for a {class_} class {ago}.", "Nice, is it hard?", "The teacher says my progress is unusual. I go every {day}.",
     "On which day does {who} attend {class_} lessons?", "m"),
    ("What are you reading at the moment?", "A novel by {author}, I bought it in {city}. It made me cry twice.",
     "The chapter about the lighthouse is the best.", "Which author's book did {who} buy?", "a"),
    ("You look tired. Is everything all right?", "I was diagnosed with {illness} {ago}. The doctor put me on a diet without {food}.",
     "It is annoying but I feel better.", "What food must {who} avoid because of the {illness} diagnosis?", "a"),
    ("We are planning the {party} party. Are you coming?", "Of course, I will bake my {food} cake for it.",
     "The recipe comes from my grandmother in {city}.", "Whose recipe does {who} use for baking the {food} cake?", "m"),
    ("How did the {sport} race end?", "I came in number {number}, my knee hurt from the start.",
     "Next time I will train with {friend}.", "With whom does {who} want to practise {sport}?", "m"),
    ("Why did you quit {club}?", "They raised the fee to {number} euros and the rooms were always cold.",
     "I am looking for something closer to home.", "Why did {who} leave {club}?", "a"),
    ("What happened to your car?", "It broke down near {place} {ago}; the repair costs {number} euros.",
     "Until then I take the tram.", "How does {who} travel while the car is being repaired?", "m"),
    ("Did the charity event bring in anything?", "We raised {number} hundred euros for {cause}!",
     "{friend} matched every donation.", "Who doubled the donations collected for {cause}?", "m"),
    ("Are you still painting?", "I painted a view of {place} {ago}, mostly in {colour}.",
     "It hangs in the kitchen now.", "What colour dominates {who}'s painting of {place}?", "a"),
)  # fmt: skip

_SLOTS: dict[str, tuple[str, ...]] = {
    "job": ("nurse", "gardener", "data analyst", "teacher", "translator", "carpenter", "pilot"),
    "ago": ("yesterday", "last week", "two days ago", "last Friday", "last month", "a few days ago"),
    "soon": ("next month", "next week", "in two weeks"),
    "month": ("June", "September", "January", "April"),
    "number": ("two", "three", "4", "12", "seven", "25", "30", "eighteen"),
    "place": ("Eagle Rock", "the old harbour", "Lake Brenn", "Mount Tirol", "the Dunes", "Fern Valley"),
    "city": ("Lisbon", "Oslo", "Kyoto", "Denver", "Tallinn", "Porto", "Leeds", "Quito"),
    "kin": ("sister", "cousin", "aunt", "daughter", "neighbour", "mother"),
    "craft": ("pottery", "woodwork", "knitting", "jewellery", "embroidery"),
    "pet": ("kitten", "puppy", "parrot", "rabbit", "turtle"),
    "petname": ("Biscuit", "Pixel", "Mochi", "Captain", "Juniper", "Waffles"),
    "class_": ("Spanish", "salsa", "piano", "climbing", "photography", "cooking"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday"),
    "author": ("Le Guin", "Murakami", "Atwood", "Calvino", "Achebe"),
    "illness": ("gastritis", "an allergy", "anaemia", "diabetes"),
    "food": ("gluten", "dairy", "lemon", "walnut", "carrot", "chocolate"),
    "party": ("graduation", "housewarming", "retirement", "birthday"),
    "sport": ("cycling", "rowing", "ski", "running", "swimming"),
    "friend": ("Hanne", "Mateo", "Chidi", "Svenja", "Bo", "Rosa"),
    "club": ("the chess club", "the choir", "the gym", "the book club"),
    "cause": ("the animal shelter", "the flood victims", "the children's hospital"),
    "colour": ("green", "violet", "orange", "deep blue"),
}

_NOTES: tuple[tuple[str, str, str], ...] = (
    ("The {service} service stores its sessions in {store} with a TTL of {number} minutes.", "How long do {service} sessions live?", "x"),
    ("{friend} owns the {service} deployment; ask before changing its replicas.", "Who is responsible for deploying {service}?", "x"),
    ("Migration {file} failed on {store} because of a missing index.", "What broke migration {file}?", "x"),
    ("Decision: {service} will be rewritten in {language}; the old code is frozen from {month} on.",
     "Which language was decided on for rewriting {service}?", "x"),
    ("Tests of {service} need {store} running locally, else they hang for {number} seconds.", "Why do the {service} tests hang?", "x"),
    ("{service} returned {code} errors after upgrade to version {version}.", "Which version caused the {code} errors in {service}?", "x"),
    ("The configuration of {service} lives in {file}, not in the environment.", "Where is {service} configured?", "x"),
    ("Rate limit for {service} was raised to {number} requests a second on request of {friend}.",
     "What is the request limit of {service}?", "x"),
)  # fmt: skip
_WORK: dict[str, tuple[str, ...]] = {
    "service": (
        "billing",
        "search",
        "gateway",
        "mailer",
        "auth",
        "ledger",
        "importer",
        "scheduler",
        "catalog",
        "metrics",
    ),
    "store": ("Redis", "PostgreSQL", "DynamoDB", "SQLite", "S3"),
    "number": ("5", "15", "30", "60", "90", "120"),
    "file": ("0042_orders.sql", "config/app.toml", "deploy/values.yaml", "0107_users.sql", "src/settings.py"),
    "language": ("Rust", "Go", "Python", "Kotlin"),
    "month": ("March", "July", "October"),
    "code": ("502", "429", "500", "504"),
    "version": ("2.4.1", "3.0.0", "1.18.2", "0.9.7"),
    "friend": _SLOTS["friend"],
}
_TRAITS: tuple[tuple[str, str], ...] = (
    (
        "{name} prefers {food} over everything else for breakfast",
        "What does {name} like to eat in the morning, breakfast?",
    ),
    ("{name} lives in {city}", "In which city is {name} living now?"),
    ("{name}'s birthday is on {number} {month}", "When is {name}'s birthday?"),
    ("{name} is afraid of flying and takes the train to {city}", "How does {name} travel, given the fear of flights?"),
    ("{name} plays {sport} with {friend} every {day}", "Who is {name}'s {sport} partner?"),
    ("{name} has been working as a {job} since {month}", "What is {name}'s job, what work?"),
    ("{name} is learning {class_} and finds it hard", "What is {name} studying, which lessons?"),
    ("{name} wants replies short and without greetings", "How should answers to {name} be written?"),
)


def talk(rng: random.Random, size: int) -> Case:
    """Two people, some twenty turns a day."""
    names = rng.sample(_NAMES, 2)
    day = datetime(2022, 1, 3, 9, 0) + timedelta(days=rng.randrange(300))
    facts: list[dict[str, str]] = []
    queries = []

    def say(who: int, text: str) -> str:
        name = f"D{len(facts)}"
        told = text.format(other=names[1 - who]) if "{" in text else text
        facts.append({"id": name, "text": f"{names[who]}: {told}", "time": day.strftime("%I:%M %p on %d %B, %Y")})
        return name

    used: set[str] = set()
    while len(facts) < size:
        day += timedelta(days=rng.randrange(2, 20), hours=rng.randrange(5))
        for _ in range(rng.randrange(3, 6)):
            for _ in range(rng.randrange(0, 4)):
                say(rng.randrange(2), rng.choice(_SMALL))
            opening, answer, more, question, need = rng.choice(_MATTERS)
            slots = {name: rng.choice(values) for name, values in _SLOTS.items()}
            about = rng.randrange(2)
            starts = about if opening.startswith("I ") else 1 - about
            asked = question.format(who=names[about], **slots)
            say(starts, opening.format(**slots))
            ids = {"a": say(1 - starts, answer.format(**slots))}
            if rng.random() < 0.4:
                say(starts, rng.choice(_SMALL))
            ids["m"] = say(about, more.format(**slots))
            if asked not in used:
                used.add(asked)
                queries.append({"text": asked, "evidence": [ids[need]]})
            if rng.random() < 0.3:
                words = answer.format(**slots).split()
                queries.append({"text": f"What did {names[about]} tell about {' '.join(words[-4:]).strip('.!')} in {day:%B %Y}?",
                                "evidence": sorted({ids["a"], ids["m"]})})  # fmt: skip
    return {"name": "talk", "facts": facts, "queries": queries}


def work(rng: random.Random, size: int) -> Case:
    """Notes of a project."""
    return _listed("work", rng, size, lambda: _note(rng))


def profile(rng: random.Random, size: int) -> Case:
    """Facts about people; the newest of one kind is the one that counts."""
    return _listed("profile", rng, size, lambda: _trait(rng))


def _note(rng: random.Random) -> tuple[str, str]:
    text, question, _ = rng.choice(_NOTES)
    slots = {name: rng.choice(values) for name, values in _WORK.items()}
    return text.format(**slots), question.format(**slots)


def _trait(rng: random.Random) -> tuple[str, str]:
    text, question = rng.choice(_TRAITS)
    slots = {name: rng.choice(values) for name, values in _SLOTS.items()} | {"name": rng.choice(_NAMES)}
    return text.format(**slots), question.format(**slots)


def _listed(name: str, rng: random.Random, size: int, make: Callable[[], tuple[str, str]]) -> Case:
    day = datetime(2024, 1, 1)
    facts, answers = [], {}
    for at in range(size):
        day += timedelta(hours=rng.randrange(30))
        text, question = make()
        facts.append({"id": f"F{at}", "text": text, "time": day.isoformat()})
        answers[question] = f"F{at}"
    return {
        "name": name,
        "facts": facts,
        "queries": [{"text": text, "evidence": [one]} for text, one in answers.items()],
    }


KINDS = {"talk": talk, "work": work, "profile": profile, "chat": chat}


def generate(seed: int, cases: int, size: int) -> list[Case]:
    """``cases`` cases of about ``size`` facts, the kinds in turn. The same numbers give the same cases."""
    rng = random.Random(seed)
    return [_decidable(list(KINDS.values())[at % len(KINDS)](rng, size)) for at in range(cases)]


def _decidable(case: Case) -> Case:
    """Without the questions whose evidence stands in the case more than once: no answer could be called right."""
    counts = Counter(fact["text"] for fact in case["facts"])
    texts = {fact["id"]: fact["text"] for fact in case["facts"]}
    unique = [query for query in case["queries"] if all(counts[texts[one]] == 1 for one in query["evidence"])]
    return {**case, "queries": unique}


@click.command(help=__doc__)
@click.option("--seed", default=1, show_default=True)
@click.option("--cases", default=8, show_default=True)
@click.option("--size", default=600, show_default=True, help="Facts a case.")
@click.option("-o", "out", required=True, type=click.Path(dir_okay=False, writable=True, path_type=Path))
def main(seed: int, cases: int, size: int, out: Path) -> None:
    out.write_text("".join(json.dumps(case) + "\n" for case in generate(seed, cases, size)), "utf-8")


if __name__ == "__main__":
    main()
