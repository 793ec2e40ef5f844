"""Conflicts as people look at them."""

from agentmemory_sidecar.memory.conflicts import listed, settle
from agentmemory_sidecar.memory.item import Conflict, Item


def test_settling_one_leaves_all_others() -> None:
    """Two patches that one conversation left at once are listed under one id."""
    item = Item(conflicts=[Conflict("a", 3, b"1"), Conflict("a", 3, b"2"), Conflict("b", 4, b"3")])
    assert settle(item, "main", {"main.4:b"}) == set()
    assert [conflict["operations"] for conflict in listed(item, "main")] == [1, 2]
    assert settle(item, "main", {"main.9:c"}) == {"main.9:c"}
    assert len(item.conflicts) == 2
