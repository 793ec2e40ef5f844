import pytest

from agentmemory_sidecar.memory.filter.times import When, asks_number, asks_when, closeness, dates, may_say, tells_when
from agentmemory_sidecar.memory.filter.words import words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2023-05-08T13:56:00Z", [When(2023, 5, 8)]),
        ("1:56 pm on 8 May, 2023", [When(2023, 5, 8)]),
        ("on May 8th, 2023", [When(2023, 5, 8)]),
        ("June 2022 and December 3", [When(2022, 6, 0), When(0, 12, 3)]),
        ("in August", [When(0, 8, 0)]),
        ("back in 1999", [When(1999, 0, 0)]),
        ("you may march 5 miles, june bug", []),
        ("9999-99-99", [When(9999, 99, 99)]),
    ],
)
def test_dates_are_found(text, found):
    assert list(dates(text)) == found


def test_what_is_told_soon_after_is_close():
    asked = When(2023, 5, 7)
    assert closeness(When(2023, 5, 7), asked) == 1
    assert 1 > closeness(When(2023, 5, 8), asked) > closeness(When(2023, 5, 28), asked) > 0
    assert closeness(When(2022, 5, 7), asked) == 0
    assert closeness(When(2023, 6, 2), When(2023, 5, 0)) > 0
    assert closeness(When(2023, 9, 2), When(2023, 0, 0)) == 1
    assert closeness(When(2023, 9, 2), When(0, 9, 0)) == 1
    assert closeness(When(9999, 99, 99), When(9999, 99, 98)) >= 0


def test_questions_and_tellings_of_time():
    assert asks_when(words("When did she leave?"))
    assert asks_when(words("what year was it"))
    assert asks_when(words("How long did it take, and when's the next?"))
    assert not asks_when(words("Where is it? How far?"))
    assert asks_number(words("How many are there?"))
    assert not asks_number(words("many ask how"))
    assert tells_when("We met last Tuesday")
    assert tells_when("since two years")
    assert not tells_when("We may march on")


@pytest.mark.parametrize("text", ["in May", "Sept. 3", "2023-05-08", "on 8 May, 2023", "back in 1999"])
def test_words_tell_whether_to_look_for_a_date(text):
    assert list(dates(text))
    assert may_say(words(text))


def test_most_questions_hold_no_date():
    assert not may_say(words("Step 3: how far is the login, and what is left to do there?"))
