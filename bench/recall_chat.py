"""Long conversations for ``bench.recall``, harder than templates that repeat a question's words.

Two people meet on many days. What happened is told in other words than it is asked for; the answer to a follow-up question names
nothing of its matter; both live through the same kinds of things; a question may need lines of several days, name the wrong person,
or ask when. Lines are as long as people write: a greeting, the matter, how it felt.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

_NAMES = "Mara Theo Lina Omar Greta Felix Priya Joao Ines Viktor Salma Ruben Aiko Dennis Noor Paula".split()  # noqa: SIM905
_PEOPLE = "Hanne Mateo Chidi Svenja Bo Rosa Tariq Elsa Marek Yuki Dora Ivo".split()  # noqa: SIM905
_PLACES = (
    "Lake Brenn",
    "Fern Valley",
    "Oslo",
    "the old harbour",
    "Mount Tirol",
    "Lisbon",
    "Eagle Rock",
    "Tallinn",
    "the Dunes",
)
_WHEN = (
    "yesterday",
    "last week",
    "two days ago",
    "last Friday",
    "last month",
    "last weekend",
    "this morning",
    "a few days ago",
)
_OPEN = (
    "Hey {other}, good to hear from you!", "Hi {other}! It has been a while.", "Guess what, {other}!", "Oh, before I forget:",
    "So much has happened since we last talked.", "I have some news.", "You will not believe this.", "Long time no see!",
)  # fmt: skip
_FELT = (
    "It was such a relief after the month I had.", "I am still smiling about it.", "It really made me think about what matters.",
    "Honestly I needed that more than I knew.", "It did not go as I had planned, but I learned a lot.",
    "I keep telling everybody about it, sorry!", "It felt like a new beginning for me.", "My whole family was proud of me.",
)  # fmt: skip
_SMALL = (
    "That sounds wonderful, {other}! I am really happy for you, you have worked so hard for this.",
    "Wow, I had no idea. You always manage to surprise me with these things!",
    "Thanks, {other}, your support means the world to me. I could not have done it without my friends.",
    "I know what you mean. Life has been so busy that I hardly find the time to sit down and breathe.",
    "Totally agree! Small things make the biggest difference in the end, do they not?",
    "Take care of yourself, {other}, and let us talk again soon. I always enjoy our chats!",
    "How have you been otherwise? Anything fun planned for the weekend with the family?",
    "It is so important to make room for what we love. I try to remind myself of that every day.",
    "Same here, work keeps me on my toes, but I cannot complain. There is always something to look forward to.",
)  # fmt: skip


@dataclass(frozen=True)
class Matter:
    """Something that happens to people."""

    category: str
    """What a question about several of them calls it."""
    told: tuple[str, ...]
    """How it is told: first person, with slots ``place``, ``friend``, ``ago``."""
    asked: tuple[str, ...]
    """The same in other words, behind "When did Ann …" and "… of Ann's"."""
    follow: str
    """What the other asks next."""
    answer: str
    """The answer, which names nothing of the matter."""
    question: str
    """What that answer tells, with the slots ``who``."""


# ruff: noqa: E501 - one matter reads best on few lines
MATTERS = (
    Matter("sports", ("I took the kayak out at {place} {ago} with {friend}.", "{friend} and I paddled across {place} {ago}."),
           ("go out on the water in a boat", "go canoeing"), "Were you not scared?",
           "A little, until the wind calmed down. We ended up sharing sandwiches on a tiny island.", "What did {who} eat during the boat outing?"),
    Matter("sports", ("I ran my first half marathon {ago}, {friend} waited at the finish line.", "{ago} I finished the 21 kilometres around {place}!"),
           ("complete a long-distance race", "compete as a runner"), "How do your legs feel?",
           "Sore, but the medal makes up for it. I hung it over my desk.", "Where does {who} keep the award from the race?"),
    Matter("sports", ("I joined a bouldering gym near {place} {ago}.", "{friend} dragged me to a climbing wall {ago}."),
           ("start climbing", "take up a new workout on walls"), "Is it hard?", "My forearms gave up after an hour. They say chalk helps, so I bought some.",
           "What did {who} purchase to get a better grip?"),
    Matter("arts", ("I sold two watercolours at the market in {place} {ago}.", "{ago} somebody paid real money for my paintings!"),
           ("make money with art", "find a buyer for pictures"), "What will you do with it?", "Half goes to the animal shelter, the rest into better brushes.",
           "Which organisation does {who} support with the income from art?"),
    Matter("arts", ("I started pottery lessons with {friend} {ago}.", "{friend} talked me into a ceramics course {ago}."),
           ("begin to work with clay", "sign up for a craft class"), "Made anything yet?", "A bowl that leans to one side. My nephew says it looks like a sleeping duck.",
           "What animal was the first clay piece of {who} compared to?"),
    Matter("arts", ("Our choir sang in the cathedral of {place} {ago}.", "{ago} we performed a requiem, {friend} sang the solo."),
           ("perform music in public", "take part in a concert"), "Did everything go well?", "Somebody's phone rang in the quietest bar. Our conductor just laughed.",
           "What interrupted the performance {who} sang in?"),
    Matter("animals", ("I adopted a greyhound from the rescue {ago}.", "{ago} a retired racing dog moved in with us."),
           ("get a pet", "take in a dog"), "What is it called?", "Biscuit, because that was the first thing we stole from the table.", "What name did {who} give the new companion?"),
    Matter("animals", ("{ago} I found three kittens behind the shed with {friend}.", "A stray had her litter in our garage {ago}."),
           ("rescue young cats", "discover abandoned animals"), "Will you keep them?", "One of them. The other two go to {friend} when they are old enough.",
           "Who will take the remaining young animals from {who}?"),
    Matter("health", ("The doctor diagnosed me with asthma {ago}.", "{ago} the tests came back: it is asthma after all."),
           ("learn about an illness", "receive a medical finding"), "What now?", "No more dusty attic for me. And I carry a blue inhaler everywhere.",
           "What does {who} have to take along all the time?"),
    Matter("health", ("I broke my wrist on the ice near {place} {ago}.", "{ago} I slipped and ended up in hospital with {friend} holding my hand."),
           ("get injured", "have an accident"), "How long will it take?", "Six weeks in plaster. Typing with my left hand is a comedy.", "How long does the injury of {who} need to heal?"),
    Matter("health", ("I stopped smoking {ago}, {friend} is my witness.", "{ago} I threw my last cigarettes away."),
           ("give up a bad habit", "quit tobacco"), "What helps you?", "Carrots, believe it or not. I chew them like a rabbit whenever the craving comes.",
           "What does {who} snack on against the urge?"),
    Matter("career", ("They promoted me to team lead {ago}.", "{ago} my boss told me that I will run the whole department."),
           ("move up at work", "get a better position"), "Are you nervous?", "Terribly, eleven people look at me now. I bought a book about listening.",
           "How many people does {who} manage?"),
    Matter("career", ("I handed in my notice {ago} and will open a bakery with {friend}.", "{ago} I quit the bank. {friend} and I are going to bake bread for a living."),
           ("leave a job", "decide to found a business"), "Where will it be?", "On the corner opposite the station. The rent is mad, but the oven is included.",
           "Where is the shop {who} is going to run?"),
    Matter("career", ("I failed the bar exam {ago}.", "{ago} the results came, and I did not make it into law."),
           ("miss a professional qualification", "have a setback in studies"), "Will you try again?", "In spring, and this time with a tutor. {friend} knows a retired judge.",
           "Who is going to help {who} prepare for the second attempt?"),
    Matter("travel", ("We drove to {place} in {friend}'s old van {ago}.", "{ago} {friend} and I took the van all the way to {place}."),
           ("make a road trip", "travel by car"), "Did it hold together?", "The exhaust fell off on day two. A farmer fixed it with a bean tin.", "Who repaired the vehicle of {who} on the journey?"),
    Matter("travel", ("I spent a night in a tent at {place} {ago}, it rained all the time.", "{ago} {friend} and I camped at {place}."),
           ("sleep outdoors", "go camping"), "Did you sleep at all?", "Hardly. An owl sat right above us and complained until sunrise.", "Which bird kept {who} awake?"),
    Matter("family", ("My sister had twins {ago}!", "{ago} I became an aunt twice in ten minutes."),
           ("get news of a birth", "welcome new relatives"), "What are their names?", "Nora and Emil, after our grandparents. Emil has the louder voice.", "What are the babies in {who}'s family called?"),
    Matter("family", ("My parents celebrated their golden wedding at {place} {ago}.", "{ago} we had the fiftieth anniversary of mum and dad, {friend} played the piano."),
           ("attend a family celebration", "honour a long marriage"), "Was there dancing?", "Dad insisted on a tango and nearly lost his glasses in the punch.", "What almost happened to the spectacles of {who}'s father?"),
    Matter("home", ("I finally bought a flat in {place} {ago}.", "{ago} I signed for my own four walls, {friend} came along to the notary."),
           ("become a property owner", "purchase an apartment"), "What is it like?", "Tiny, but with a balcony to the south. I have planted tomatoes already.", "What does {who} grow at the new home?"),
    Matter("home", ("The cellar was under water {ago}.", "{ago} a pipe burst and flooded everything downstairs."),
           ("suffer damage in the house", "have a flood"), "What did you lose?", "Two boxes of letters from university. The rest had been on shelves, luckily.", "What was destroyed in {who}'s house?"),
    Matter("volunteering", ("I served soup to homeless people with {friend} {ago}.", "{ago} {friend} took me along to the kitchen for the needy."),
           ("help the poor", "do unpaid community work"), "What was it like?", "A man called Walter taught me a card trick. I am going back every Thursday.", "On which day does {who} give time to others?"),
    Matter("volunteering", ("We planted two hundred trees at {place} {ago}.", "{ago} I dug holes for saplings at {place} until my back hurt."),
           ("do something for the environment", "work on reforestation"), "Who organised that?", "The school of {friend}'s daughter. They want to do it every autumn.", "Who set up the event for nature that {who} joined?"),
)  # fmt: skip


def chat(rng: random.Random, size: int) -> dict[str, Any]:
    """Some twenty lines a day, on as many days as it takes."""
    names = rng.sample(_NAMES, 2)
    day = datetime(2022, 1, 3, 9, 0) + timedelta(days=rng.randrange(300))
    facts: list[dict[str, str]] = []
    queries: list[dict[str, Any]] = []
    lived: dict[tuple[int, str], list[str]] = {}
    left = [(who, matter) for matter in MATTERS for who in (0, 1)]
    rng.shuffle(left)

    def say(who: int, text: str) -> str:
        name = f"D{len(facts)}"
        told = text.replace("{other}", names[1 - who])
        facts.append({"id": name, "text": f"{names[who]}: {told}", "time": day.strftime("%I:%M %p on %d %B, %Y")})
        return name

    def ask(text: str, who: int, *evidence: str) -> None:
        named = names[1 - who] if rng.random() < 0.15 else names[who]
        queries.append({"text": text.replace("{who}", named), "evidence": list(evidence)})

    while len(facts) < size:
        day += timedelta(days=rng.randrange(2, 20), hours=rng.randrange(5))
        starter = rng.randrange(2)
        say(starter, rng.choice(_OPEN) + " " + rng.choice(_SMALL))
        for _ in range(rng.randrange(2, 4)):
            for at in range(rng.randrange(1, 5)):
                say((starter + at + 1) % 2, rng.choice(_SMALL))
            if not left:
                continue
            who, matter = left.pop()
            slots = {"place": rng.choice(_PLACES), "friend": rng.choice(_PEOPLE), "ago": rng.choice(_WHEN)}
            mention = rng.choice(matter.told).format(**slots)
            line = say(who, f"{rng.choice(_OPEN)} {mention[0].upper()}{mention[1:]} {rng.choice(_FELT)}")
            say(1 - who, f"{rng.choice(_SMALL)} {matter.follow}")
            answer = say(who, matter.answer.format(**slots))
            lived.setdefault((who, matter.category), []).append(line)
            ask(matter.question, who, answer)
            ask(f"When did {{who}} {rng.choice(matter.asked)}?", who, line)
            if "{place}" in matter.told[0] and slots["place"] in mention:
                ask(f"What did {{who}} do at {slots['place']}?", who, line)
    for (who, category), lines in lived.items():
        if len(lines) > 1:
            ask(f"What has {{who}} told about {category}?", who, *lines)
    return {"name": "chat", "facts": facts, "queries": queries}
