"""Which headers travel on, in either direction."""

from collections.abc import Iterable, Mapping

_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "host", "content-length", "expect", "proxy-connection",
    }
)  # fmt: skip
"""RFC 9110 section 7.6.1, and what each hop computes for itself."""


def _travelling(headers: Iterable[tuple[str, str]], without: frozenset[str]) -> list[tuple[str, str]]:
    pairs = list(headers)
    named = {name.strip().lower() for key, value in pairs if key.lower() == "connection" for name in value.split(",")}
    return [(k, v) for k, v in pairs if (low := k.lower()) not in without and low not in named]


def to_upstream(headers: Iterable[tuple[str, str]], *, decoded: bool, read: bool) -> list[tuple[str, str]]:
    """The client's headers for Claude. ``decoded``: the body goes out without its content encoding. ``read``: we read the
    reply, so it must come unencoded."""
    without = _HOP_BY_HOP | ({"content-encoding"} if decoded else set()) | ({"accept-encoding"} if read else set())
    kept = _travelling(headers, without)
    return [*kept, ("accept-encoding", "identity")] if read else kept


def to_client(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Claude's headers for the client."""
    return _travelling(headers, _HOP_BY_HOP)


def with_beta(headers: list[tuple[str, str]], beta: str) -> list[tuple[str, str]]:
    """The same headers with one beta more in ``anthropic-beta``."""
    betas = [value for name, value in headers if name.lower() == "anthropic-beta"]
    if any(beta in (one.strip() for one in value.split(",")) for value in betas):
        return headers
    others = [(name, value) for name, value in headers if name.lower() != "anthropic-beta"]
    return [*others, ("anthropic-beta", ",".join([*betas, beta]))]


def receipt(values: Mapping[str, str]) -> dict[str, str]:
    """The receipt as headers: ``x-agentmemory-<name>``."""
    return {f"x-agentmemory-{name}": value for name, value in values.items()}
