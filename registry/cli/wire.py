"""HTTP as ``doctor --server`` needs it: a connection for each question, requests that are left unfinished."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANSWER_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has been read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of the distribution API's error envelope; empty where this is none."""
        try:
            return str(self.json["errors"][0]["code"])
        except (ValueError, KeyError, IndexError, TypeError):
            return ""

    @property
    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Wire:
    """A server: ``tls`` is how to shake hands with it, ``None`` for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    seconds: float

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a request as it is written and read the answer.

        Raises:
            OSError, http.client.HTTPException: there is none, or it is no HTTP.
        """
        length = {} if body is None else {"Content-Length": str(len(body))}
        return self._exchange(method, path, {**(headers or {}), **length}, body or b"", self.seconds)

    def begin(self, method: str, path: str, *, length: int, first: bytes, seconds: float) -> Answer | None:
        """Announce a body of ``length`` bytes, send ``first`` and no more, and read what is answered to that;
        ``None`` if nothing is within ``seconds``.

        Raises:
            OSError, http.client.HTTPException: the connection ended, or what came is no HTTP.
        """
        try:
            return self._exchange(method, path, {"Content-Length": str(length)}, first, seconds)
        except TimeoutError:
            return None

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> Answer:
        if self.tls is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        else:
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=self.tls)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            if body:
                connection.send(body)
            response = connection.getresponse()
            content = response.read(ANSWER_MAX_BYTES)
            return Answer(
                response.status, {key.lower(): value for key, value in response.getheaders()}, content
            )
        finally:
            connection.close()
