"""A server that answers what a test tells it to."""

from collections.abc import Iterator

import pytest

from tests.sidecar.stores.answers import Answers


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers().running() as running:
        yield running
