"""Who answers a request in a pod: the engine in use, with the Claude of the container it comes from; or nobody yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from agentmemory_sidecar.engine import Engine
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.wire.errors import ApiError

CONTAINER = "/u/"
"""A path that begins so names the container it comes from: ``/u/<container>/v1/messages``."""


class Serving:
    """Gives each request to the engine that is in use when it comes; those of before end where they began."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.unconfigured = "its configuration has not been read yet"
        """Why there is none."""

    @contextmanager
    def __call__(self, path: str) -> Iterator[tuple[Services, str]]:
        """For :class:`~agentmemory_sidecar.http.server.Proxy`. Raises ApiError."""
        engine = self.engine
        if engine is None:
            raise not_configured(self.unconfigured)
        container, path = container_of(path)
        services = view(engine, container)
        with engine.used():
            yield services, path


def container_of(path: str) -> tuple[str, str]:
    """The container that a path names (empty for none), and the path without it. Works on raw, percent-encoded paths."""
    if not path.startswith(CONTAINER):
        return "", path
    container, slash, rest = path[len(CONTAINER) :].partition("/")
    return (unquote(container), slash + rest or "/") if container else ("", path)


def view(engine: Engine, container: str) -> Services:
    """What answers this container's requests. Raises ApiError for one that nobody knows."""
    if not container:
        return engine.services
    if (found := engine.views.get(container)) is None:
        known = ", ".join(sorted(engine.views)) or "none"
        raise ApiError(
            404,
            "not_found_error",
            f"The memory sidecar knows no base URL of a container {container[:63]!r} (AGENTMEMORY_UPSTREAMS has: {known}). "
            "Take /u/… out of ANTHROPIC_BASE_URL, or start the pod anew.",
            "unknown_container",
            retry=False,
        )
    return found


def not_configured(reason: str) -> ApiError:
    """503: nothing is wrong with the request, and it can be sent again once the reason is gone."""
    said = f"The memory sidecar has no configuration: {reason}. Nothing was sent to Claude."
    return ApiError(503, "api_error", said, "memory_not_configured", retry=True)
