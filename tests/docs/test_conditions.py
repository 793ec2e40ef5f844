"""docs/conditions.md explains every condition and reason, and no other."""

import re
from pathlib import Path

import pytest

from agentmemory_operator.conditions import ConditionType, Reason

PAGE = (Path(__file__).parents[2] / "docs" / "conditions.md").read_text()


def rows(section: str) -> list[str]:
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize(("section", "known"), [("Types", ConditionType), ("Reasons", Reason)])
def test_the_page_has_each_once(section: str, known: type[ConditionType | Reason]) -> None:
    found = rows(section)
    assert sorted(found) == sorted(set(found))
    assert set(found) == {member.value for member in known}
