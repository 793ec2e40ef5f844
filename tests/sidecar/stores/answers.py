"""An HTTP server that says what it was told to: for the answers that a stand-in never gives."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Answers:
    """Gives the ``prepared`` answers (status, body), one a request, and then 200 with an empty JSON object."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """``context``: for TLS."""
        self.prepared: list[tuple[int, bytes]] = []
        self.requests: list[str] = []
        """Method and path of each request that came."""
        self.bodies: list[bytes] = []
        """What came with them."""
        self.headers: list[dict[str, str]] = []
        """Likewise, by lower-case name."""
        answers = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                answers.requests.append(f"{self.command} {self.path}")
                answers.headers.append({name.lower(): value for name, value in self.headers.items()})
                answers.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
                status, body = answers.prepared.pop(0) if answers.prepared else (200, b"{}")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[Self]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def dynamodb_error(status: int, code: str) -> tuple[int, bytes]:
    return status, f'{{"__type": "com.amazonaws.dynamodb.v20120810#{code}"}}'.encode()


def s3_error(status: int, code: str) -> tuple[int, bytes]:
    return status, f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
