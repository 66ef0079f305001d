"""A receiver of signed events: what an operator's own program would be."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the events whose signature is right, and answers the others with 401; the first `refused` get 503.

    moved: it answers every event with another address.
    """

    def __init__(self, secret: str, refused: int = 0, moved: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.secret, self.refused, self.moved = secret, refused, moved
        self.events: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/a-secret-path"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(302 if self.server.moved else self.judged(body))
        if self.server.moved:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def judged(self, body: str) -> int:
        if self.server.refused > 0:
            self.server.refused -= 1
            return 503
        signed = f"{self.headers['X-MLflow-Delivery-Id']}.{self.headers['X-MLflow-Timestamp']}.{body}"
        code = hmac.new(self.server.secret.encode(), signed.encode(), hashlib.sha256).digest()
        if self.headers["X-MLflow-Signature"] != f"v1,{base64.b64encode(code).decode()}":
            return 401
        self.server.events.append(json.loads(body))
        return 200

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def receiver(secret: str, refused: int = 0, moved: bool = False) -> Iterator[Receiver]:
    """A running receiver."""
    with Receiver(secret, refused, moved) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
