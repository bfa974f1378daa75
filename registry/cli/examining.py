"""The questions of ``doctor --server``, each asked as a client would.

Nothing is stored by those without a token. A token is only sent over a connection that is trusted.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from registry.cli.findings import Finding, problem
from registry.cli.handshake import Handshake, shake_hands
from registry.cli.wire import Answer, Wire

SECONDS = 15.0
BUFFERING_SECONDS = 4.0
CLOCK_SECONDS = 30
EXPIRY_DAYS = 14
HEADER_BYTES = 20 * 1024
BODY_SIZES = (2 << 20, 16 << 20, 128 << 20, 1 << 30, 10 << 30)
CHUNK_SIZES = (64 << 10, 1 << 20, 4 << 20)
_SPOOFED = "doctor.invalid"
_PLACE = "/v2/seatrial/doctor"
_FAILURES = (OSError, http.client.HTTPException)


@dataclass(slots=True)
class Examination:
    """One server. ``token`` is an API token; ``repository`` one that is there, to try an upload in."""

    server: str
    token: str | None
    repository: str | None
    ca_file: Path | None
    reached: bool = False

    def findings(self) -> Iterator[Finding]:
        """Look at one thing after the other; ends early where there is nobody to ask."""
        address = urlsplit(self.server)
        host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
        shaken: Handshake | None = None
        try:
            if address.scheme == "https":
                shaken = shake_hands(host, port, ca_file=self.ca_file, seconds=SECONDS)
            wire = Wire(host, port, shaken.context if shaken else None, SECONDS)
            began = time.time()
            base = wire.ask("GET", "/v2/")
            ended = time.time()
        except _FAILURES as error:
            yield _unreachable(self.server, error)
            return
        if shaken is not None:
            yield from self._certificate(shaken, host)
        elif host not in ("127.0.0.1", "localhost", "::1"):
            detail = "plain HTTP: passwords and images can be read, and changed, on the way"
            yield problem("encryption", detail, "encryption", server=self.server)
        if not (yield from self._api(base)):
            return
        self.reached = True
        yield _clock(base, began, ended)
        for name, look in (
            ("address of tokens", self._realm(wire, base)),
            ("forwarded headers", self._spoofing(wire)),
            ("addresses", self._paths(wire)),
            ("long headers", self._headers(wire)),
            ("compression", self._compression(wire)),
            ("body size", self._bodies(wire)),
        ):
            try:
                yield from look
            except _FAILURES as error:
                yield Finding(name, "problem", f"the connection ended: {error!r}")
        yield from self._with_token(wire, trusted=shaken is None or shaken.trusted)

    def _certificate(self, shaken: Handshake, host: str) -> Iterator[Finding]:
        if shaken.chain is None:
            yield Finding(
                "certificate", "ok", f"signed by {shaken.issuer!r}, which is trusted here; {shaken.version}"
            )
        else:
            yield problem("certificate", shaken.chain, "chain", server=self.server)
        if shaken.wrong_name:
            names = ", ".join(shaken.names) or "no name at all"
            yield problem(
                "certificate's names", f"{host} is not among them: {names}", "name", server=self.server
            )
        if shaken.days_left is not None and 0 < shaken.days_left < EXPIRY_DAYS:
            yield Finding("certificate's end", "problem", f"it expires in {shaken.days_left:.0f} days",
                          ("renew it; the registry and nginx -s reload take the new one",))  # fmt: skip

    def _api(self, base: Answer) -> Generator[Finding, None, bool]:
        proxy = base.headers.get("server", "")
        through = "" if proxy in ("", "seatrial") else f", through {proxy}"
        if 300 <= base.status < 400:
            target = base.headers.get("location", "")
            yield Finding("registry", "problem", f"/v2/ redirects to {target}",
                          (f"client: use {target.partition('/v2')[0]}",))  # fmt: skip
        elif b"HTTPS" in base.body and base.status == 400:
            secure = self.server.replace("http://", "https://")
            yield Finding("registry", "problem", "this port speaks HTTPS", (f"client: use {secure}",))
        elif base.status not in (200, 401) or "docker-distribution-api-version" not in base.headers:
            said = base.code or base.headers.get("content-type", "")
            yield Finding("registry", "problem", f"/v2/ answers {base.status} {said}{through}: no registry",
                          ("proxy: /v2/, /token and /api/ must all reach the registry",))  # fmt: skip
        else:
            yield Finding("registry", "ok", f"/v2/ answers {base.status}{through}")
            return True
        return False

    def _realm(self, wire: Wire, base: Answer) -> Iterator[Finding]:
        realm = re.search(r'realm="([^"]*)"', base.headers.get("www-authenticate", ""))
        if realm is None:
            yield Finding("address of tokens", "unknown", "/v2/ names none")
            return
        asked, name = urlsplit(self.server), "address of tokens"
        try:
            told = urlsplit(realm[1])
        except ValueError:
            told = urlsplit("")
        if told.scheme not in ("http", "https") or not told.netloc:
            yield problem(name, f"{realm[1]!r} is not absolute", "external", server=self.server)
        elif told.scheme != asked.scheme:
            detail = f"clients are sent from {asked.scheme} to {told.scheme} ({realm[1]}), and refuse"
            yield problem(name, detail, "external", server=self.server)
        elif told.netloc != asked.netloc:
            detail = f"clients are sent to another host: {realm[1]}"
            yield problem(name, detail, "external", server=self.server)
        else:
            answer = wire.ask("GET", f"{told.path}?{urlencode({'service': 'seatrial'})}")
            if answer.status == 200:
                yield Finding(name, "ok", realm[1])
            else:
                yield Finding(name, "problem", f"{realm[1]} answers {answer.status}",
                              ("proxy: /token must reach the registry too",))  # fmt: skip

    def _spoofing(self, wire: Wire) -> Iterator[Finding]:
        told = {"X-Forwarded-Host": _SPOOFED, "Forwarded": f"host={_SPOOFED};proto=https"}
        answer = wire.ask("GET", "/v2/", told)
        if _SPOOFED in answer.headers.get("www-authenticate", ""):
            detail = "anybody can say where clients take their passwords: X-Forwarded-Host is passed on"
            yield problem("forwarded headers", detail, "spoof", server=self.server)
        else:
            yield Finding("forwarded headers", "ok", "what a client says of itself is not believed")

    def _paths(self, wire: Wire) -> Iterator[Finding]:
        changed = [
            path
            for path in ("/v2/a%2fb/tags/list", "/v2/a//b/tags/list", "/v2/a/../b/tags/list")
            if wire.ask("GET", path).code != "NAME_INVALID"
        ]
        if changed:
            detail = f"{', '.join(changed)}: rewritten, or answered by somebody else, on the way"
            yield problem("addresses", detail, "raw", server=self.server)
        else:
            yield Finding("addresses", "ok", "they arrive as they were written")

    def _headers(self, wire: Wire) -> Iterator[Finding]:
        answer = wire.ask("GET", "/v2/", {"Authorization": "Bearer " + "x" * HEADER_BYTES})
        if answer.code == "UNAUTHORIZED":
            yield Finding("long headers", "ok", f"{HEADER_BYTES // 1024} KiB arrive")
        else:
            detail = f"a header of {HEADER_BYTES // 1024} KiB is answered with {answer.status} on the way"
            yield problem("long headers", detail, "headers", server=self.server)

    def _compression(self, wire: Wire) -> Iterator[Finding]:
        headers = {"Accept-Encoding": "gzip, deflate, br, zstd"}
        for path in ("/token?service=seatrial", "/v2/seatrial/doctor/nothing-there"):
            answer = wire.ask("GET", path, headers)
            encoding = answer.headers.get("content-encoding")
            if encoding or "content-length" not in answer.headers:
                detail = (
                    f"answers are {f'compressed ({encoding})' if encoding else 'sent without their length'}"
                )
                yield problem("compression", detail, "compression", server=self.server)
                return
        yield Finding("compression", "ok", "answers arrive with their length, and not compressed")

    def _bodies(self, wire: Wire) -> Iterator[Finding]:
        """Nobody may push here, so whatever is announced is refused before it is sent: by the registry if the
        announcement reaches it."""
        address = f"{_PLACE}/blobs/uploads/"
        whole = wire.ask("POST", address, body=b"x")
        if whole.code not in ("UNAUTHORIZED", "DENIED"):
            yield Finding("body size", "unknown", f"a push by nobody is answered with {whole.status}")
            return
        began = wire.begin("POST", address, length=1 << 20, first=b"x" * 1024, seconds=BUFFERING_SECONDS)
        if began is None:
            detail = f"of a body that goes on, nothing reached the registry in {BUFFERING_SECONDS:g} seconds"
            yield problem("buffering", detail, "buffering", server=self.server)
        else:
            yield Finding("buffering", "ok", "bodies go on as they come")
        passed, seconds = 0, BUFFERING_SECONDS if began else BUFFERING_SECONDS / 4
        for size in BODY_SIZES:
            answer = wire.begin("POST", address, length=size, first=b"x", seconds=seconds)
            if answer is not None and answer.code not in ("UNAUTHORIZED", "DENIED"):
                detail = f"{_shown(size)} are answered with {answer.status} on the way" + (
                    f"; {_shown(passed)} pass" if passed else ""
                )
                yield problem("body size", detail, "body", server=self.server)
                return
            passed = size
        yield Finding("body size", "ok", f"{_shown(passed)} may be announced")

    def _with_token(self, wire: Wire, *, trusted: bool) -> Iterator[Finding]:
        if self.token is None or not trusted:
            why = (
                "no token was given" if trusted else "no token is sent over a connection that is not trusted"
            )
            yield Finding("sign-in, uploads", "unknown", f"not looked at: {why}")
            return
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            answer = wire.ask("GET", "/v2/", headers)
            if answer.status != 200:
                detail = f"with this token /v2/ answers {answer.status} {answer.code}"
                yield problem("sign-in", detail, "authorization", server=self.server)
                return
            yield Finding("sign-in", "ok", "the token is taken")
            about = wire.ask("GET", "/api/v1/version", headers)
            if about.status == 200:
                yield Finding("version", "ok", f"Seatrial {about.json['version']}")
            else:
                yield Finding("version", "unknown", f"/api/v1/version answers {about.status}")
            if self.repository is None:
                yield Finding("uploads", "unknown", "not looked at: give --repository, of one that is there")
                return
            yield from self._upload(wire, headers, self.repository)
        except (*_FAILURES, ValueError, KeyError, TypeError) as error:
            yield Finding("uploads", "problem", f"the connection ended: {error!r}")

    def _upload(self, wire: Wire, headers: dict[str, str], repository: str) -> Iterator[Finding]:
        started = wire.ask("POST", f"/v2/{repository}/blobs/uploads/", headers, b"")
        location = started.headers.get("location", "")
        if started.status != 202:
            yield Finding(
                "uploads",
                "unknown",
                f"an upload to {repository} is answered with {started.status} {started.code}",
            )
            return
        told, asked = urlsplit(location), urlsplit(self.server)
        if (told.scheme or told.netloc) and (told.scheme, told.netloc) != (asked.scheme, asked.netloc):
            yield problem(
                "location of uploads", f"clients are sent to {location}", "external", server=self.server
            )
        else:
            yield Finding("location of uploads", "ok", "clients stay where they are")
        path = f"{told.path}?{told.query}" if told.query else told.path
        try:
            sent = 0
            for size in CHUNK_SIZES:
                body = bytes(size)
                answer = wire.ask(
                    "PATCH", path, {**headers, "Content-Range": f"{sent}-{sent + size - 1}"}, body
                )
                if answer.status != 202:
                    detail = f"a chunk of {_shown(size)} is answered with {answer.status} {answer.code}"
                    yield problem("uploads", detail, "body", server=self.server)
                    return
                sent += size
            yield Finding(
                "uploads", "ok", f"chunks of up to {_shown(CHUNK_SIZES[-1])} arrive; cancelled again"
            )
        finally:
            wire.ask("DELETE", path, headers)


def _unreachable(server: str, error: Exception) -> Finding:
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        plain = server.replace("https://", "http://")
        return Finding("connection", "problem", f"{server} speaks plain HTTP", (f"client: use {plain}",))
    if isinstance(error, ssl.SSLError):
        return Finding("connection", "problem", f"no handshake: {error.reason or error}",
                       ("TLS 1.2 or newer must be allowed on both sides",))  # fmt: skip
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Finding("connection", "problem", f"{server} cannot be reached: {reason}",
                   ("is the name right, the registry running, and no firewall between?",))  # fmt: skip


def _clock(answer: Answer, began: float, ended: float) -> Finding:
    try:
        there = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return Finding("clock", "unknown", "the server does not say its time")
    # It says whole seconds, at some moment between question and answer.
    apart = max(began - (there + 1), there - ended, 0)
    if apart > CLOCK_SECONDS:
        detail = f"the clocks are {apart:.0f} seconds apart: tokens look expired, or not valid yet"
        return problem("clock", detail, "clock", server="")
    return Finding("clock", "ok", "the clocks agree")


def _shown(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} bytes"
