"""Dates in text, as far as comparing needs them."""

import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<{0}>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_DATE = re.compile(
    r"\b(?P<iso_y>\d{4})-(?P<iso_m>\d\d)(?:-(?P<iso_d>\d\d))?"
    r"|\b(?P<d1>\d{1,2})(?:st|nd|rd|th)?(?:\s+of)?\s+" + _MONTH.format("m1") + r"(?:,?\s+(?P<y1>\d{4}))?"
    r"|\b" + _MONTH.format("m2") + r"\s+(?P<d2>\d{1,2})(?:st|nd|rd|th)?\b(?!:)(?:,?\s+(?P<y2>\d{4}))?"
    r"|\b" + _MONTH.format("m3") + r"(?:,?\s+(?:of\s+)?(?P<y3>\d{4}))"
    r"|\b(?:[Ii]n|[Ss]ince|[Oo]f|[Bb]y|[Ll]ast|[Tt]his|[Nn]ext|[Dd]uring|[Uu]ntil)\s+" + _MONTH.format("m4")
    + r"(?:,?\s+(?P<y4>\d{4}))?"
    r"|\b(?P<y5>(?:19|20)\d\d)\b"
)  # fmt: skip
_MAY_DATE = re.compile(r"\d{4}|[A-Z](?:an|eb|ar|pr|ay|un|ul|ug|ep|ct|ov|ec)")
"""What every date has, a year or a month. Most texts have none, and this is found out quickly."""
_MONTH_NAMES = "january february march april may june july august september october november december".split()  # noqa: SIM905
_MONTH_WORDS = frozenset([*_MONTHS, *_MONTH_NAMES, "sept"])
_WHEN = frozenset({"when", "when's"})
_ASKS_WHEN = frozenset(
    [(word, unit) for word in ("what", "which") for unit in ("day", "date", "month", "year")]
    + [("what", "time"), ("how", "long"), ("how", "recently")]
)
_ASKS_NUMBER = frozenset(("how", size) for size in "many much often old big large far tall".split())  # noqa: SIM905
_DAYS = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_TELLS_WHEN = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|ago|recently|\d{4}|(?:last|next|this|past|previous|coming) (?:few |couple )?"
    rf"(?:night|weekend|week|month|year|summer|winter|spring|fall|autumn|{_DAYS})s?|{_DAYS}"
    r"|(?:for|since) .{0,20}(?:years?|months?|weeks?|days?)"
    r"|january|february|april|june|july|august|september|october|november|december)\b",
    re.I,
)


class When(NamedTuple):
    """A day, a month or a year; 0 where it is not said."""

    year: int
    month: int
    day: int

    def ordinal(self) -> int:
        """Days since the year 1 of its first day; 0 where that is not known."""
        try:
            return date(self.year, self.month or 1, self.day or 1).toordinal()
        except ValueError:
            return 0


@lru_cache(maxsize=8_192)
def when(text: str) -> When | None:
    """The first date in a text."""
    return next(dates(text), None)


def dates(text: str) -> Iterator[When]:
    """All dates in a text: ISO, ``8 May 2023``, ``May 8th``, ``May 2023``, ``in May``, ``2023``."""
    if _MAY_DATE.search(text) is None:
        return
    for match in _DATE.finditer(text):
        part = match.groupdict()
        if part["iso_y"]:
            yield When(int(part["iso_y"]), int(part["iso_m"]), int(part["iso_d"] or 0))
            continue
        month = next((part[name] for name in ("m1", "m2", "m3", "m4") if part[name]), "")
        year = next((part[name] for name in ("y1", "y2", "y3", "y4", "y5") if part[name]), "0")
        number = _MONTHS.index(month[:3].lower()) + 1 if month else 0
        yield When(int(year), number, int(part["d1"] or part["d2"] or 0))


def closeness(told: When, asked: When) -> float:
    """How well a fact of that time fits a question about this one: 1 inside it, less for days and weeks after, because
    what happened is told a little later; 0 for elsewhere."""
    if asked.year and told.year:
        if not asked.month:
            return 1.0 if told.year == asked.year else 0.0
        gap = told.ordinal() - asked.ordinal()
        if not asked.day:
            if (told.year, told.month) == (asked.year, asked.month):
                return 1.0
            return 0.4 if 0 < gap <= 45 else 0.0
        if gap == 0:
            return 1.0
        if -1 <= gap <= 8:
            return 0.7
        return 0.3 if 0 < gap <= 31 else 0.0
    if asked.month and told.month == asked.month:
        return 1.0 if not asked.day or asked.day == told.day else 0.5
    return 0.0


def may_say(words: Sequence[str]) -> bool:
    """Whether a text of these words (lower case) can hold a date."""
    return not _MONTH_WORDS.isdisjoint(words) or any(word[:4].isdecimal() for word in words if len(word) >= 4)


def asks_when(words: Sequence[str]) -> bool:
    """Whether a question of these words wants a time."""
    return not _WHEN.isdisjoint(words) or not _ASKS_WHEN.isdisjoint(pairwise(words))


def asks_number(words: Sequence[str]) -> bool:
    """Whether a question of these words wants a number."""
    return not _ASKS_NUMBER.isdisjoint(pairwise(words))


def tells_when(text: str) -> bool:
    """Whether a text says a time, in figures or like ``last week``."""
    return _TELLS_WHEN.search(text) is not None
