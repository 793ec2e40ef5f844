"""``python -m tests.aws --regions us-east-1,us-west-2 --host 0.0.0.0 --port 4566``: the front and its processes."""

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path

from tests.aws.front import Front
from tests.aws.process import Ministack


async def serve(regions: list[str], host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. What was stored is gone then."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with tempfile.TemporaryDirectory(prefix="aws-") as directory:
        processes = {region: Ministack(Path(directory) / region) for region in regions}
        try:
            await asyncio.gather(*(asyncio.to_thread(process.start) for process in processes.values()))
            urls = {region: process.url for region, process in processes.items()}
            async with Front(urls, host=host, port=port) as front:
                print(f"{', '.join(regions)}: {front.url}", flush=True)
                await ended.wait()
        finally:
            for process in processes.values():
                process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.aws", description=__doc__)
    parser.add_argument("--regions", default="us-east-1,us-west-2,us-east-2", help="regions, with commas between")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=0, help="the port; 0 takes a free one")
    options = parser.parse_args()
    asyncio.run(serve(options.regions.split(","), options.host, options.port))


if __name__ == "__main__":
    main()
