from agentmemory_sidecar.memory.extraction.unread import (
    AT_ONCE,
    MOST,
    Spent,
    Unread,
    due_at,
    fitting,
    spend,
    spent_today,
    tomorrow,
    with_turn,
)

DAY = 86_400.0


def turns(count: int) -> list[Unread]:
    return [Unread(f"t{number}", float(number), number, number) for number in range(1, count + 1)]


def test_turns_are_due_when_there_are_enough_or_nothing_came_for_a_while() -> None:
    assert due_at([], 2, 60) is None
    assert due_at(turns(1), 2, 60) == 61
    assert due_at(turns(2), 2, 60) == 2


def test_a_turn_that_goes_on_after_its_end_is_still_one() -> None:
    again = with_turn(turns(2), Unread("t1", 9.0, 7, 8))
    assert again == [Unread("t2", 2.0, 2, 2), Unread("t1", 9.0, 1, 8)]


def test_the_oldest_are_let_go() -> None:
    many = with_turn(turns(MOST), Unread("new", 999.0, 999, 999))
    assert len(many) == MOST
    assert (many[0].turn, many[-1].turn) == ("t2", "new")


def test_as_many_as_fit_and_always_one() -> None:
    assert fitting(["short"] * 3) == 3
    assert fitting(["x" * 40_000] * 3) == 1
    assert fitting(["x" * 400_000]) == 1
    assert fitting(["short"] * (AT_ONCE + 5)) == AT_ONCE
    assert fitting([]) == 0


def test_what_was_spent_yesterday_does_not_count_today() -> None:
    spent = spend(Spent(), 5 * DAY + 10, 100)
    spent = spend(spent, 5 * DAY + 20, 50)
    assert spent_today(spent, 5 * DAY + 30) == 150
    assert spent_today(spent, 6 * DAY) == 0
    assert spend(spent, 6 * DAY, 7).tokens == 7
    assert tomorrow(5 * DAY + 30) == 6 * DAY
