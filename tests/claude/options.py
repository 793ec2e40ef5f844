"""What a strict Claude can be told when it is made."""

import time
from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_KEY = b"strict-claude-signing-key"
"""Fixed, so that thinking signed before a restart still verifies after it, as the real one's does."""


@dataclass
class Options:
    """Every field may be changed while the server runs; it is read anew for each request."""

    signing_key: bytes = DEFAULT_KEY
    """HMAC key for thinking signatures."""
    clock: Callable[[], float] = time.time
    """Seconds; decides the lifetime of cache entries and threads."""
    minimum_cache_tokens: int | None = 32
    """The shortest prefix the cache keeps, in tokens; None takes the model's own number (512 to 4096)."""
    pace_ms: float = 0
    """Pause before each event of a stream."""
    first_byte_ms: float = 0
    """Pause before the first byte of any reply to a messages request."""
    chunk_bytes: int = 0
    """Write a stream in pieces of this size, wherever that cuts; 0 writes each event by itself."""
    pings: bool = True
    """Send a ping after ``message_start``, as the API does."""
    thinking_text: str = "Let me think about what was asked and what I was told."
    """What a thinking block says if nobody scripted it."""
    enforce_thinking: bool = True
    """Refuse thinking blocks whose prefix changed; when False they are only counted."""
    thread_idle_s: float = 300
    """How long a message thread is kept after its last use."""
    keep: int = 10_000
    """How many requests are kept in the record; older ones are forgotten, the counters are not."""
    keep_bodies: bool = True
    """Keep the raw bodies too; a benchmark turns it off."""
