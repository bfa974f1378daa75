"""A registry as a client sees it while what it was told of is replaced."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from tests.kit.server import Registry


@contextmanager
def forgetful(registry: Registry, *, times: int) -> Iterator[Registry]:
    """The registry, but each manifest is not there so many times that somebody asks for its digest."""
    asked: Counter[str] = Counter()

    class Forgetful(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked[self.path] += 1
            if "/manifests/sha256:" in self.path and asked[self.path] <= times:
                self.send_error(404)
                return
            headers = {name: self.headers[name] for name in ("Authorization", "Accept") if self.headers[name]}
            with urlopen(Request(f"{registry.url}{self.path}", headers=headers)) as answer:
                body = answer.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as peer:
        thread = threading.Thread(target=peer.serve_forever, daemon=True)
        thread.start()
        try:
            yield replace(registry, host=f"127.0.0.1:{peer.server_port}")
        finally:
            peer.shutdown()
            thread.join()
