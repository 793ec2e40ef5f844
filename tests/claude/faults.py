"""The ways in which the stand-in misbehaves when asked."""

import shlex

import msgspec

BEFORE_REPLY = frozenset({"status", "hang"})
IN_STREAM = frozenset({"error_event", "fin", "rst", "cut_frame", "no_message_delta", "no_message_stop", "stall"})
IN_BODY = frozenset({"fin", "rst", "json_cut"})
KINDS = BEFORE_REPLY | IN_STREAM | IN_BODY | {"slow_first_byte", "slow_events"}


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault.

    ``kind`` is one of: ``status`` (an error reply with ``status``), ``hang`` (never answers), ``error_event`` (an SSE
    error after ``after`` events), ``fin`` and ``rst`` (the connection closed or reset inside the body), ``cut_frame``
    (half a frame, then a clean end), ``no_message_delta`` and ``no_message_stop`` (a clean end without them), ``stall``
    (silence after ``after`` events, connection open), ``json_cut`` (a JSON body cut short), ``slow_first_byte`` and
    ``slow_events`` (``ms`` of waiting). JSON replies take ``fin``, ``rst``, ``cut_frame`` and ``error_event`` as
    ``json_cut``, ``rst``, ``json_cut`` and a 529; the rest of the stream's faults do not apply to them.
    """

    kind: str
    after: int = 3
    """Events sent before it happens."""
    status: int = 529
    error: str = ""
    """Error type; empty for the one that belongs to the status."""
    message: str = ""
    retry_after: float | None = None
    """Seconds for the ``retry-after`` header; None sends no such header."""
    should_retry: bool | None = None
    """Value of ``x-should-retry``; None sends none."""
    ms: float = 200
    times: int = 0
    """How often it happens to identical requests before they are served; 0 is always."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(sorted(KINDS))}")


def parse(text: str) -> Fault:
    """A fault from ``KIND [FIELD=VALUE]…``, such as ``status status=529 retry_after=1`` or ``error_event after=0``.

    A number stands for a status: ``529 retry_after=1``. Raises ValueError saying what was not understood.
    """
    words = shlex.split(text)
    if not words:
        raise ValueError("empty fault")
    kind, fields = words[0], dict(word.partition("=")[::2] for word in words[1:])
    if kind.isdigit():
        kind, fields = "status", {"status": kind} | fields
    try:
        return msgspec.convert({"kind": kind, **fields}, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"fault {text!r}: {error}") from None
