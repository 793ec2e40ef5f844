"""What every backend of a store protocol must do, told once and run against real servers.

``state.py`` (with ``state_items.py`` and ``state_locks.py``) and ``objects.py`` hold the cases as classes, ``backends.py``
the backends by name. A backend joins by one entry there and one class beside its own tests::

    class TestConformance(StateConformance):
        backend = "postgres"
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("state", "state_items", "state_locks", "objects")))
