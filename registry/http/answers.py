"""Answers that were given before, and still stand: what makes a pull cheap.

An answer to a plain ``GET`` or ``HEAD`` is kept under who asked (a keyed hash of the Authorization header,
never the header) and what for (the path as it was sent). It stands while all epochs are where they were
before its rows were read, and no longer than its credential and the gate's decision hold. Only what was
admitted is kept: a refusal is worked out, and recorded, each time, and nobody can fill the cache with junk.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs, web

from registry.auth.networks import is_in
from registry.http.caller import ACTOR_SHOWN
from registry.http.headers import fixed_headers
from registry.http.middleware import ROUTE
from registry.http.proxies import client_address
from registry.http.services import SERVICES

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.auth.networks import Networks
    from registry.content.blobs import Blob
    from registry.db.epochlook import Epochs
    from registry.events.pulls import Tally
    from registry.settings import Settings

MAX_BYTES = 32 << 20
MAX_ENTRIES = 50_000
MAX_SECONDS = 60.0
"""An answer is worked out anew at least so often: that is when the use of an API token is noted."""
_OVERHEAD_BYTES = 1024
_READING = frozenset({"GET", "HEAD"})
_DECIDING = (
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.IF_RANGE,
    hdrs.RANGE,
    hdrs.EXPECT,
)
"""Headers that make another answer of the same content."""

Key = tuple[bytes, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. ``route`` is the metrics label; ``head`` are status line and headers as they go over
    the wire, up to those that each request has of its own; ``content`` is that of a manifest, or a blob whose
    bytes are elsewhere. To ``GET`` a manifest is a pull, which its ``tally`` counts. ``networks`` are those
    that the credential may be used from: it is no answer for another address (``None``: everywhere)."""

    route: str
    head: bytes
    content: bytes | Blob
    actor_shown: str
    epochs: Epochs
    until: float
    tally: Tally | None = None
    networks: Networks | None = None

    @property
    def bytes_held(self) -> int:
        """Roughly what it takes in memory."""
        content = len(self.content) if isinstance(self.content, bytes) else 0
        return _OVERHEAD_BYTES + len(self.head) + content


class Answers:
    """The answers of one process; the one that was longest not asked for goes first."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._bytes = 0
        self._entries: OrderedDict[Key, Answer] = OrderedDict()
        # The hash of a credential must mean nothing outside this process.
        self._secret = secrets.token_bytes(32)

    def key(self, request: web.BaseRequest) -> Key | None:
        """Under which the answer to this request is kept; ``None``: its answer is not kept."""
        target = request.rel_url
        if target.raw_query_string:
            return None  # nobody needs one here, and everybody could make as many as he likes
        headers = request.headers
        credentials = headers.getall(hdrs.AUTHORIZATION, ())
        if len(credentials) > 1:
            return None
        who = b""
        if credentials:
            who = hashlib.blake2b(
                credentials[0].encode("utf-8", "surrogatepass"), key=self._secret, digest_size=16
            ).digest()
        return who, target.raw_path

    def get(self, key: Key, epochs: Epochs) -> Answer | None:
        """The answer, if it still stands at these epochs, read just now. Who gives it looks first whether
        :func:`may_have` it, who asks."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found.epochs != epochs or time.monotonic() >= found.until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return found

    def knows(self, key: Key) -> bool:
        """Whether it is worth asking for the epochs."""
        return key in self._entries

    def put(self, key: Key, answer: Answer) -> None:
        """Keep an answer, and let go of old ones where there is no room."""
        if answer.bytes_held > self._max_bytes // 8:
            return
        self._drop(key)
        self._entries[key] = answer
        self._bytes += answer.bytes_held
        while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
            _, gone = self._entries.popitem(last=False)
            self._bytes -= gone.bytes_held

    def _drop(self, key: Key) -> None:
        gone = self._entries.pop(key, None)
        if gone is not None:
            self._bytes -= gone.bytes_held


ANSWERS = web.AppKey("answers", Answers)


def is_plain(request: web.BaseRequest) -> bool:
    """Whether nothing in the request but who asks, and for what, decides its answer."""
    if request.method not in _READING or request.version != HttpVersion11 or request.body_exists:
        return False
    headers = request.headers
    return not any(name in headers for name in _DECIDING)


def may_have(request: web.BaseRequest, answer: Answer, settings: Settings) -> bool:
    """Whether the answer is for whoever asks from there."""
    return answer.networks is None or is_in(client_address(request, settings), answer.networks)


def remember(
    request: web.Request,
    response: web.Response,
    *,
    actor: Actor,
    epochs: Epochs,
    until: float,
    content: bytes | Blob,
    tally: Tally | None = None,
) -> None:
    """Keep what is about to be answered for the next who asks the same.

    ``response`` has the headers of the whole content; ``epochs`` were read before anything that it says. A
    worker's is not kept: its lease has a clock.
    """
    # What is left out of a blob is left out anew each time; a manifest is answered as it is.
    if actor.kind == "worker" or (isinstance(content, bytes) and not is_plain(request)):
        return
    answers = request.app[ANSWERS]
    key = answers.key(request)
    if key is None:
        return
    headers = response.headers.copy()
    headers.update(fixed_headers(request))
    headers[hdrs.CONTENT_LENGTH] = str(len(content) if isinstance(content, bytes) else content.size)
    lines = [
        f"HTTP/1.1 {response.status} {response.reason}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if any(character in line for line in lines for character in "\r\n\0"):
        return  # aiohttp refuses to send it
    answer = Answer(
        route=str(request[ROUTE]),
        head="\r\n".join([*lines, ""]).encode("utf-8", "surrogateescape"),
        content=content,
        actor_shown=actor.shown,
        epochs=epochs,
        until=min(until, actor.until, time.monotonic() + MAX_SECONDS),
        tally=tally,
        networks=actor.networks,
    )
    answers.put(key, answer)


async def known_blob(request: web.Request) -> Blob | None:
    """The blob that this request may read, if that was found out before and still stands."""
    answers = request.app[ANSWERS]
    key = answers.key(request)
    if key is None or not answers.knows(key):
        return None
    services = request.app[SERVICES]
    answer = answers.get(key, await services.database.epochs())
    if (
        answer is None
        or isinstance(answer.content, bytes)
        or not may_have(request, answer, services.settings)
    ):
        return None
    request[ACTOR_SHOWN] = answer.actor_shown
    return answer.content
