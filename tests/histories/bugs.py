"""Mistakes put into the product on purpose: each takes one condition out of one function. The histories are worth as much as
they catch of these."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

from agentmemory_sidecar.memory import heads, scopes
from agentmemory_sidecar.step import commit, compose, hydrate, patches
from tests.histories import hot


@dataclass(frozen=True)
class Bug:
    """``old`` occurs once in the source of ``where``, and becomes ``new``."""

    name: str
    home: ModuleType | type
    where: str
    old: str
    new: str

    def broken(self) -> Callable[..., Any]:
        """The function with the mistake in it."""
        function = getattr(self.home, self.where)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, (
            f"{self.where} does not say {self.old!r} any more: put the mistake elsewhere"
        )
        found: dict[str, Any] = {}
        exec(compile(source.replace(self.old, self.new), f"<{self.name}>", "exec"), function.__globals__, found)
        changed: Callable[..., Any] = found[self.where]
        return changed

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """The product is wrong inside."""
        with mock.patch.object(self.home, self.where, self.broken()):
            yield


BUGS = (
    Bug(
        "version check removed",
        commit, "_save",
        "expect=versions,",
        "expect=await services.state.versions(question.conversation),",
    ),
    Bug("fence removed", commit, "_save", "if stored.versions.turn != versions.turn:", "if False:"),
    Bug("lost answer taken for a refusal", commit, "_save", "if question.step in found.steps:", "if False:"),
    Bug(
        "merge drops a side",
        heads, "missing",
        "if logged.seq > base.vector.get(region, 0)",
        "if logged.seq > base.vector.get(region, 0) and region == max(heads)",
    ),
    Bug(
        "merge raises its own component",
        heads, "write",
        "vector=_known(seen, region, own),",
        "vector=_known(seen, region, own + 1),",
    ),
    Bug(
        "hot copy trusted blindly",
        hydrate, "_own",
        "if known is not None and known.versions == versions and not heads.behind(known.versions, versions):",
        "if known is not None:",
    ),
    Bug("lock token not compared", hot.ModelRedis, "holds", " and kept.lock[0] == token", ""),
    Bug(
        "outbox of records skipped",
        commit, "next_item",
        "item.outbox = [record for record in item.outbox if record.seq > archived or not record.data]",
        "item.outbox = []",
    ),
    Bug(
        "a user's share of a patch left out",
        compose, "_apply_patch",
        "build.send_patch(",
        "'user' in owner.owner or build.send_patch(",
    ),
    Bug("every place at home in one scope", scopes.Homes, "of", "return index", "return self.rest"),
    Bug("outbox of patches skipped", patches.Patches, "_carry", "await self._to(target, source, up_to)", "True"),
)  # fmt: skip
"""The scripts of the lock are Lua: there the mistake is in the model of them."""
