"""Words as they are compared: lower case, without endings, irregular forms brought home, stop words left out."""

import re
from functools import lru_cache

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
"""The same for ASCII in lower case, three times as fast."""
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff]")

STOP = frozenset(
    """
    a about above after again all also am an and any are aren't as at be became because been before being below between both
    but by came can can't cannot come could couldn't did didn't do does doesn't doing don't done down during each else ever
    every few for from further get gets getting go goes going gone got had hadn't has hasn't have haven't having he he'd
    he'll he's her here here's hers herself hey hi him himself his how how's i i'd i'll i'm i've if in into is isn't it it's
    its itself just kind let let's like lot made make many may me might more most much must my myself no nor not of off oh ok
    okay on once one only or other ought our ours ourselves out over own please quite really said same say says she she'd
    she'll she's should shouldn't so some something such than that that's the their theirs them themselves then there
    there's these they they'd they'll they're they've thing things this those though through to too under until up us very
    was wasn't way we we'd we'll we're we've well were weren't what what's when when's where where's which while who who's
    whom whose why why's will with won't would wouldn't wow yeah yes yet you you'd you'll you're you've your yours yourself
    yourselves
    """.split()  # noqa: SIM905
)

_IRREGULAR = {
    form: base
    for base, forms in {
        "bear": "bore born", "begin": "began begun", "bite": "bit bitten", "blow": "blew blown", "break": "broke broken",
        "bring": "brought", "build": "built", "burn": "burnt", "buy": "bought", "catch": "caught", "child": "children",
        "choose": "chose chosen", "deal": "dealt", "dig": "dug", "draw": "drew drawn", "dream": "dreamt",
        "drink": "drank drunk", "drive": "drove driven", "eat": "ate eaten", "fall": "fell fallen", "feed": "fed",
        "feel": "felt", "fight": "fought", "find": "found", "fly": "flew flown", "foot": "feet",
        "forget": "forgot forgotten",
        "freeze": "froze frozen", "give": "gave given", "grow": "grew grown", "hang": "hung", "hear": "heard",
        "hide": "hid hidden", "hold": "held", "keep": "kept", "know": "knew known", "lead": "led", "learn": "learnt",
        "leave": "left", "lend": "lent", "life": "lives", "lose": "lost", "man": "men", "mean": "meant", "meet": "met",
        "mouse": "mice", "pay": "paid", "person": "people", "ride": "rode ridden", "ring": "rang rung", "rise": "rose risen",
        "run": "ran", "see": "saw seen", "sell": "sold", "send": "sent", "sew": "sewn", "shake": "shook shaken",
        "shoot": "shot", "show": "shown", "sing": "sang sung", "sink": "sank sunk", "sit": "sat", "sleep": "slept",
        "speak": "spoke spoken", "spend": "spent", "stand": "stood", "steal": "stole stolen", "stick": "stuck",
        "swim": "swam swum", "swing": "swung", "take": "took taken", "teach": "taught", "tear": "tore torn",
        "tell": "told", "think": "thought", "throw": "threw thrown", "tooth": "teeth",
        "understand": "understood", "use": "used using user users uses",
        "wake": "woke woken", "wear": "wore worn", "wife": "wives", "win": "won",
        "woman": "women", "write": "wrote written", "photo": "photos photograph photographs", "mother": "mom mum moms mums",
        "father": "dad dads", "tv": "television",
    }.items()
    for form in forms.split()
}  # fmt: skip

_NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())  # noqa: SIM905
    if number != 1  # mostly a pronoun
}

_VOWEL = re.compile("[aeiouy]")
_DOUBLE = re.compile(r"([bdfgklmnprt])\1$")
_SHORT = re.compile("[^aeiou]{1,3}[aeiouy][^aeiouwxy]")
"""One vowel between consonants: ``car``, ``mov``."""
_VERBAL = frozenset({"ing", "ings", "ed", "er", "ers", "or", "ors"})
"""Endings in front of which a silent e was dropped."""
_FIXED = frozenset(
    {"always", "lens", "news", "series", "species", "during", "morning", "evening", "wedding", "building"}
)
_ENDINGS = (
    ("izations", "iz"), ("ization", "iz"), ("ational", "ate"), ("fulness", "ful"), ("ousness", "ous"), ("iveness", "ive"),
    ("ations", "at"), ("ation", "at"), ("itions", "it"), ("ition", "it"), ("ments", ""), ("ment", ""), ("nesses", ""),
    ("ness", ""), ("ities", "ity"), ("ingly", ""), ("edly", ""), ("ically", "ic"), ("ally", "al"), ("ings", ""), ("ing", ""),
    ("ies", "y"), ("ied", "y"), ("ions", ""), ("ion", ""), ("ers", ""), ("ors", ""), ("er", ""), ("or", ""), ("ed", ""),
    ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("ly", ""),
)  # fmt: skip
"""Tried in this order; the first that leaves three letters with a vowel among them is taken."""


def words(text: str) -> list[str]:
    """The words of a text in lower case, possessives cut; a run of CJK characters as its pairs."""
    if text.isascii():
        text = text.lower()
        found = _ASCII_WORD.findall(text)
        if "'s" in text:
            found = [word[:-2] if word.endswith("'s") and word not in STOP else word for word in found]
        return found
    found = []
    for word in WORD.findall(text.lower().replace("\u2019", "'")):
        if word.endswith("'s") and word not in STOP:
            word = word[:-2]
        if not word.isascii() and len(word) > 2 and _WIDE.search(word):
            found += [word[at : at + 2] for at in range(len(word) - 1)]
        else:
            found.append(word)
    return found


@lru_cache(maxsize=8_192)
def stem(word: str) -> str:
    """The word's base form, good enough for comparing: ``painting``, ``painted`` and ``paints`` are one."""
    if word in _NUMBERS:
        return _NUMBERS[word]
    word = _IRREGULAR.get(word, word)
    if len(word) <= 3 or not word.isascii() or not word.isalpha() or word in _FIXED:
        return word
    for ending, put in _ENDINGS:
        if word.endswith(ending):
            root = word[: -len(ending)] + put
            if len(root) >= 3 and _VOWEL.search(root):
                return root + "e" if ending in _VERBAL and _SHORT.fullmatch(root) else _tidy(root)
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return _tidy(word)


def _tidy(root: str) -> str:
    """Doubled consonants, silent e and y are written one way. A short root keeps its e, or gets it back: care is no car."""
    if _DOUBLE.search(root):
        return root[:-1]
    if root.endswith("e"):
        return root if _SHORT.fullmatch(root[:-1]) else root[:-1]
    if root.endswith("y") and len(root) > 2 and root[-2] not in "aeiou":
        return root[:-1] + "i"
    return root


@lru_cache(maxsize=8_192)
def _meant(word: str) -> str:
    """The stem of a word that means something; empty for another."""
    return stem(word) if (word not in STOP and len(word) > 1) or word.isdigit() else ""


def content_stems(text: str) -> list[str]:
    """Stems of the words that mean something, in order."""
    return [term for word in words(text) if (term := _meant(word))]


@lru_cache(maxsize=32)
def heard(query: str) -> tuple[str, ...]:
    """A query's words. Remembered, with their stems: one choice asks for them several times."""
    return tuple(words(query))


@lru_cache(maxsize=32)
def asked(query: str) -> tuple[tuple[str, str], ...]:
    """A query's words that mean something, each with its stem."""
    return tuple([(word, term) for word in heard(query) if (term := _meant(word))])
