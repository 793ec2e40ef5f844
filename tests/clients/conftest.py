"""Fixtures of the tests with real clients: two strict Claudes, and a sidecar in front of the second.

All are processes that serve the whole session, because starting Postgres costs more than most tests here. Each
conversation has a session id of its own, by which the Claudes tell its requests from others.
"""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.clients.comparing import Run
from tests.clients.servers import Claude
from tests.clients.sidecar import Sidecar

Held = Callable[[str, Path], Any]
"""Holds conversations against a base URL, with a home directory of their own; returns what the client saw."""


@dataclass(frozen=True, slots=True)
class Way:
    """What came of going one of the two ways."""

    seen: Any
    """What the held conversations returned."""
    claude: Claude
    own: Sequence[str]
    """Strings that belong to this way alone: directories and addresses."""

    def run(self, session: str, seen: Any, billed: Mapping[str, int] | None = None) -> Run:
        """One session's conversation, to be compared."""
        return Run(seen, self.claude.requests(session), billed or {}, self.own)


class Twice(Protocol):
    """See :func:`twice`."""

    def __call__(self, held: Held, *replies: Mapping[str, Any]) -> list[Way]: ...


@pytest.fixture(scope="session")
def space() -> Iterator[Path]:
    """A directory that other users may enter, which pytest's own is not: under root, Postgres runs as another user."""
    directory = Path(tempfile.mkdtemp(prefix="agentmemory-clients-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def new_home(space: Path) -> Path:
    """A home directory whose name has only letters and digits: Claude Code writes paths with all else replaced."""
    return _made(space / f"home{uuid.uuid4().hex}")


@pytest.fixture
def home(space: Path) -> Path:
    """A fresh home directory for a client."""
    return new_home(space)


@pytest.fixture
def session_id() -> str:
    """A session id no other test has; a UUID, because Claude Code takes nothing else."""
    return str(uuid.uuid4())


@pytest.fixture(scope="session")
def direct(space: Path) -> Iterator[Claude]:
    """The strict Claude that clients talk to without a sidecar."""
    with Claude(_made(space / "direct")) as claude:
        yield claude


@pytest.fixture(scope="session")
def upstream(space: Path) -> Iterator[Claude]:
    """The strict Claude behind the sidecar. Of its own, so that the runs share no prompt cache."""
    with Claude(_made(space / "upstream")) as claude:
        yield claude


@pytest.fixture(scope="session")
def sidecar(space: Path, upstream: Claude) -> Iterator[Sidecar]:
    """The sidecar in front of ``upstream``."""
    with Sidecar(_made(space / "sidecar"), upstream.url) as started:
        yield started


@pytest.fixture
def twice(direct: Claude, upstream: Claude, sidecar: Sidecar, space: Path) -> Twice:
    """Does something twice at once: straight to Claude, and through the sidecar. The direct way comes first.

    Further arguments are replies to script in both Claudes before.
    """

    def run(held: Held, *replies: Mapping[str, Any]) -> list[Way]:
        def once(claude: Claude, base_url: str) -> Way:
            claude.script(*replies)
            home = new_home(space)
            # The whole path first: the home's name alone may be part of a longer one.
            own = (str(home), home.name, base_url, base_url.removeprefix("http://"))
            return Way(held(base_url, home), claude, own)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(once, (direct, upstream), (direct.url, sidecar.url)))

    return run


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
