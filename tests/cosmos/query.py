"""The little of CosmosDB's SQL that is spoken here. What is not understood, or would need a scan, is refused."""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.cosmos.items import Answered, Item

_QUERY = re.compile(
    r"^SELECT (?:TOP (?P<top>\d+) )?(?P<what>\*|c\.\w+(?:, c\.\w+)*) FROM c"
    r"(?: WHERE (?P<where>.+?))?(?: ORDER BY c\.(?P<order>\w+)(?P<down> DESC| ASC)?)?$"
)
_TERM = re.compile(r"^c\.(\w+) (=|!=|<|<=|>|>=) (@\w+)$")
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ALWAYS_INDEXED = {"id", "_ts"}


@dataclass(frozen=True, slots=True)
class Query:
    top: int | None
    properties: tuple[str, ...]
    """None for all of an item."""
    terms: tuple[tuple[str, str, Any], ...]
    order: str
    descending: bool

    def rows(self, items: Iterable[Item]) -> list[Item]:
        found = [item for item in items if all(self._holds(item, *term) for term in self.terms)]
        if self.order:
            # What lacks the property is not in the result.
            found = [item for item in found if self.order in item]
            found.sort(key=lambda item: item[self.order], reverse=self.descending)
        found = found if self.top is None else found[: self.top]
        if not self.properties:
            return found
        return [{name: item[name] for name in self.properties if name in item} for item in found]

    @staticmethod
    def _holds(item: Item, name: str, sign: str, value: Any) -> bool:
        return name in item and type(item[name]) is type(value) and _COMPARED[sign](item[name], value)


def parsed(body: dict[str, Any], definition: dict[str, Any], *, scan: bool) -> Query:
    """Raises Answered for what is no query here, or needs a scan that was not asked for."""
    match = _QUERY.match(" ".join(str(body.get("query", "")).split()))
    if match is None:
        raise Answered(400, "Syntax error, or a query that is not played here")
    given = {each["name"]: each["value"] for each in body.get("parameters", ())}
    terms = []
    for part in (match["where"] or "").split(" AND ") if match["where"] else ():
        term = _TERM.match(part)
        if term is None or term[3] not in given:
            raise Answered(400, "Syntax error, or a condition that is not played here")
        terms.append((term[1], term[2], given[term[3]]))
    indexed = _ALWAYS_INDEXED | _included(definition)
    used = {name for name, _, _ in terms} | ({match["order"]} if match["order"] else set())
    if "*" not in indexed and not used <= indexed and not scan:
        raise Answered(400, "An invalid query has been specified with filters against path(s) excluded from indexing.")
    what = () if match["what"] == "*" else tuple(each.removeprefix("c.") for each in match["what"].split(", "))
    return Query(
        int(match["top"]) if match["top"] else None,
        what,
        tuple(terms),
        match["order"] or "",
        (match["down"] or "").strip() == "DESC",
    )


def _included(definition: dict[str, Any]) -> set[str]:
    paths = [each["path"] for each in definition.get("indexingPolicy", {}).get("includedPaths", ())]
    return {path.split("/")[1] for path in paths}
