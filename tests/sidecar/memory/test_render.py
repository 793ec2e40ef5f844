from agentmemory_sidecar.memory.filter.base import NOTHING, Fact, Selection
from agentmemory_sidecar.memory.render import claims, is_injected, render


def test_entries_stand_under_their_parents():
    facts = (
        Fact("/active_mission/goal", "ship", "h1", pinned=True),
        Fact("/notes/0", "one", "h2"),
        Fact("/notes/3", "two\nlines", "h3"),
        Fact("/k/a~1b", "v", "h4"),
    )
    text = render(Selection(facts))
    assert text.split("\n")[2:-1] == [
        "/active_mission:",
        "goal: ship",
        "/notes:",
        "- one",
        "- two ⏎ lines",
        "/k:",
        "a~1b: v",
    ]
    assert is_injected(text)
    assert claims(Selection(facts)) == tuple((fact.pointer, fact.hash) for fact in facts)


def test_a_name_cannot_pass_for_a_pointer():
    assert "\n/active_mission:" not in render(Selection((Fact("/x/~1active_mission:", "evil"),)))


def test_nothing_selected_is_no_text():
    assert render(NOTHING) == ""
    assert claims(NOTHING) == ()


def test_the_label_names_the_session():
    assert render(Selection((Fact("/a", "b"),)), "s-1").split("\n")[0].endswith(" session=s-1>")
