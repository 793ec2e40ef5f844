"""``python -m tests.claude``: serve the stand-in until SIGTERM or SIGINT."""

import argparse
import asyncio
import base64
import signal
import sys

from tests.claude.options import DEFAULT_KEY, Options
from tests.claude.server import StrictClaude


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.claude", description="A strict stand-in for the Claude API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (default) takes a free one")
    parser.add_argument("--base64-key", type=base64.b64decode, default=DEFAULT_KEY, help="key of thinking signatures")
    parser.add_argument("--pace-ms", type=float, default=0, help="pause before each event of a stream")
    parser.add_argument("--first-byte-ms", type=float, default=0, help="pause before each reply")
    parser.add_argument("--chunk-bytes", type=int, default=0, help="write streams in pieces of this size")
    parser.add_argument(
        "--cache-minimum", type=int, default=32, help="shortest cached prefix in tokens; 0: the model's"
    )
    parser.add_argument("--keep", type=int, default=1_000, help="how many requests to remember")
    parser.add_argument("--no-bodies", action="store_true", help="do not remember raw bodies")
    return parser.parse_args(argv)


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until a signal; prints the address once it accepts connections."""
    options = Options(
        signing_key=arguments.base64_key,
        minimum_cache_tokens=arguments.cache_minimum or None,
        pace_ms=arguments.pace_ms,
        first_byte_ms=arguments.first_byte_ms,
        chunk_bytes=arguments.chunk_bytes,
        keep=arguments.keep,
        keep_bodies=not arguments.no_bodies,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with StrictClaude(options, host=arguments.host, port=arguments.port) as claude:
        print(f"strict Claude on {claude.url}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(_arguments(sys.argv[1:])))
