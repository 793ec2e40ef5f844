"""Which headers travel on, in either direction."""

from collections.abc import Iterable, Mapping

_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "host", "content-length", "expect", "proxy-connection",
    }
)  # fmt: skip
"""RFC 9110 section 7.6.1, and what each hop computes for itself."""
_USUAL = frozenset({"keep-alive", "close", "te", "upgrade"})
"""What a ``connection`` header names that is never a header of the message, or never travels anyway."""
_WITHOUT = {
    (decoded, read): _HOP_BY_HOP
    | (frozenset({"content-encoding"}) if decoded else frozenset())
    | (frozenset({"accept-encoding"}) if read else frozenset())
    for decoded in (False, True)
    for read in (False, True)
}


def _travelling(headers: Iterable[tuple[str, str]], without: frozenset[str]) -> list[tuple[str, str]]:
    named: set[str] = set()
    kept = []
    for pair in headers:
        low = pair[0].lower()
        if low not in without:
            kept.append(pair)
        elif low == "connection":
            named.update(name.strip().lower() for name in pair[1].split(","))
    return [pair for pair in kept if pair[0].lower() not in named] if named - _USUAL else kept


def to_upstream(headers: Iterable[tuple[str, str]], *, decoded: bool, read: bool) -> list[tuple[str, str]]:
    """The client's headers for Claude. ``decoded``: the body goes out without its content encoding. ``read``: we read the
    reply, so it must come unencoded."""
    kept = _travelling(headers, _WITHOUT[decoded, read])
    if read:
        kept.append(("accept-encoding", "identity"))
    return kept


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
