"""What every command that serves until it is told to stop has in common."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import click

LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]


def log_to_stderr(level: str) -> None:
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def address(
    text: str, default_port: int = 8377, *, everywhere: bool = False, option: str = "--listen"
) -> tuple[str, int]:
    """HOST:PORT, [HOST]:PORT, HOST or :PORT. Without a host: this machine only, or with ``everywhere`` all addresses."""
    host, _, port = text.rpartition(":") if ":" in text else (text, "", str(default_port))
    if not port.isdigit() or int(port) > 65535:
        raise click.UsageError(f"{option} must be HOST:PORT with a port from 0 to 65535, not {text!r}")
    return host.strip("[]") or ("" if everywhere else "127.0.0.1"), int(port)


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where it exists: a fifth less CPU for each request."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(main)
    return uvloop.run(main)


def told_to_stop() -> asyncio.Event:
    """Set at the first SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


_TRIM_THRESHOLD, _TOP_PAD, _ARENA_MAX = -1, -2, -8
"""glibc's mallopt: give memory back early, take little ahead, and keep no heap for each thread."""


def settle() -> None:
    """What start-up made stays for good: the collector need not look at it again and again while requests come."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)
    with contextlib.suppress(OSError, AttributeError):  # another C library has none of this, and needs none of it
        libc = ctypes.CDLL(None)
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_TRIM_THRESHOLD, 65_536)
        libc.mallopt(_TOP_PAD, 65_536)
        libc.malloc_trim(0)
