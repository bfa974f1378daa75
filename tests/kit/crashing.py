"""A server that kills itself (``kill -9``) at a named point, and is there again at once.

Nothing in the product knows of it: functions are wrapped by name before the server starts. The point is named
in a file while it is armed, so the process serves a test's preparations first. :data:`POINTS` is the one list
of names; ``commit`` is the end of the transaction of the use case that a point is listed under.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Literal

from tests.kit.forking import ForkedServer, serve_again_and_again
from tests.kit.modelsonce import read_models

_VARIABLE = "SEATRIAL_TEST_CRASH_FILE"
Reached = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Point:
    """A named point. ``call`` is the function it lies before or after, in the words of :data:`_CALLS`;
    ``done`` tells whether what was asked for has happened there, though nobody was told."""

    use_case: str
    call: str
    reached: Reached
    done: bool

    @property
    def name(self) -> str:
        """As it stands in the file, and in the report of a test."""
        return f"{self.use_case}: {self.reached} {self.call}"


def _transaction(use_case: str) -> tuple[Point, Point]:
    return Point(use_case, "commit", "before", done=False), Point(use_case, "commit", "after", done=True)


POINTS = (
    Point("uploads.start", "store.start_upload", "before", done=False),
    Point("uploads.start", "store.start_upload", "after", done=False),
    *_transaction("uploads.start"),
    Point("uploads.append", "store.append", "before", done=False),
    Point("uploads.append", "store.append", "after", done=True),
    Point("uploads.finish", "store.finish", "before", done=False),
    Point("uploads.finish", "store.finish", "after", done=False),
    *_transaction("uploads.finish"),
    Point("uploads.finish", "store.delete", "before", done=True),
    Point("uploads.finish", "store.delete", "after", done=True),
    *_transaction("uploads.cancel"),
    Point("uploads.cancel", "store.delete", "after", done=True),
    *_transaction("blobs.mount"),
    Point("manifests.put", "references", "after", done=False),
    Point("manifests.put", "effects", "after", done=False),
    Point("manifests.put", "tag", "after", done=False),
    *_transaction("manifests.put"),
    *_transaction("tags.delete"),
    Point("manifests.delete", "tags", "after", done=False),
    *_transaction("manifests.delete"),
    *_transaction("blobs.delete"),
)
FILESYSTEM_POINTS = (
    Point("uploads.append", "file.write", "after", done=True),
    Point("uploads.append", "file.sync", "after", done=True),
    Point("uploads.finish", "file.rename", "before", done=False),
    Point("uploads.finish", "file.rename", "after", done=False),
    Point("uploads.cancel", "file.unlink", "after", done=True),
)
"""Between the steps of one call of the store, where these are files."""

S3_POINTS = (
    Point("uploads.append", "ledger.hold", "after", done=False),
    Point("uploads.append", "s3.put", "after", done=False),
    Point("uploads.append", "ledger.save", "after", done=True),
    Point("uploads.append", "s3.begin_parts", "after", done=False),
    Point("uploads.append", "s3.send_part", "after", done=False),
    Point("uploads.finish", "ledger.hold", "after", done=False),
    Point("uploads.finish", "ledger.save", "after", done=False),
    Point("uploads.finish", "s3.put", "after", done=False),
    Point("uploads.finish", "s3.complete", "after", done=False),
    Point("uploads.finish", "ledger.remove", "after", done=False),
    Point("uploads.cancel", "ledger.remove", "after", done=True),
    Point("uploads.cancel", "s3.clear_parts", "after", done=True),
)
"""The same, where they are objects."""
COLLECTION_POINTS = (
    *_transaction("collecting._review"),
    *_transaction("collecting._remove_blobs"),
    *_transaction("collecting.remove_manifests"),
    Point("collecting.delete_bytes", "store.delete", "after", done=True),
    *_transaction("collecting.delete_bytes"),
)
"""Of what the registry does by itself, or when an administrator asks for it."""
RETENTION_POINTS = (
    *_transaction("retentionruns.ask"),
    *_transaction("retentionruns.claim"),
    Point("retentionruns._delete_tags", "drop", "after", done=False),
    *_transaction("retentionruns._delete_tags"),
    Point("retentionruns._delete_manifests", "tags", "after", done=False),
    *_transaction("retentionruns._delete_manifests"),
    *_transaction("retentionruns._end"),
)
ACCESS_USE_CASES = (
    "registry.auth.tokens:create_token",
    "registry.auth.tokenchanges:rotate_token",
    "registry.auth.tokenchanges:revoke_token",
    "registry.auth.tokenchanges:revoke_issued_before",
    "registry.auth.grants:give",
    "registry.auth.grants:take",
    "registry.auth.robots:put_robot",
    "registry.auth.robots:delete_robot",
    "registry.auth.accounts:change_user",
    "registry.auth.accounts:delete_user",
    "registry.content.administration:move",
    "registry.content.namespaces:rename",
)
"""Who may do what: each is one transaction."""
PROMOTION = "registry.trials.promotions:promote"
PROMOTION_POINTS = (
    Point("registry.trials.promotions.promote", "tag", "after", done=False),
    *_transaction("registry.trials.promotions.promote"),
)

RESTORATION = "registry.content.tagmoves:restore"
RESTORATION_POINTS = (
    Point("registry.content.tagmoves.restore", "effects", "after", done=False),
    *_transaction("registry.content.tagmoves.restore"),
)


def points_of(use_case: str) -> tuple[Point, Point]:
    """The end of its one transaction."""
    return _transaction(use_case)


S3_PART_BYTES = 150_000
S3_LEASE_SECONDS = 1
"""Smaller than they are outside of tests: what makes a part, and how long a dead holder is waited for."""

RETENTION_LEASE_SECONDS = 0.2
"""So long a dead one is waited for."""

_USE_CASES = (
    "uploads.start",
    "uploads.append",
    "uploads.finish",
    "uploads.cancel",
    "blobs.mount",
    "blobs.delete",
    "manifests.put",
    "manifests.delete",
    "tags.delete",
    *dict.fromkeys(point.use_case for point in (*COLLECTION_POINTS, *RETENTION_POINTS)),
)
_CALLS = {
    "store.start_upload": "registry.storage.{store}.start_upload",
    "store.append": "registry.storage.{store}.append",
    "store.finish": "registry.storage.{store}.finish",
    "store.delete": "registry.storage.{store}.delete",
    "references": "registry.content.manifests:require_references",
    "effects": "registry.trials.effects:TrialEffects.manifest_pushed",
    "tag": "registry.content.tags:move",
    "drop": "registry.content.tags:drop",
    "tags": "registry.content.tags:delete_all_of",
    "file.write": "registry.storage.files:UploadFile.write",
    "file.sync": "registry.storage.files:UploadFile.close",
    "file.rename": "pathlib:Path.rename",
    "file.unlink": "pathlib:Path.unlink",
    "ledger.hold": "registry.content.uploadledger:DatabaseLedger.hold",
    "ledger.save": "registry.content.uploadledger:DatabaseLedger.save",
    "ledger.remove": "registry.content.uploadledger:DatabaseLedger.remove",
    "s3.put": "registry.storage.s3bucket:Bucket.put",
    "s3.begin_parts": "registry.storage.s3bucket:Bucket.begin_parts",
    "s3.send_part": "registry.storage.s3bucket:Bucket.send_part",
    "s3.complete": "registry.storage.s3bucket:Bucket.complete",
    "s3.clear_parts": "registry.storage.s3bucket:Bucket.clear_parts",
}
_STORES = {"file": "filesystem:FilesystemStore", "s3": "s3:S3Store"}
_use_case: ContextVar[str] = ContextVar("use_case", default="")


def _reach(call: str, reached: Reached) -> None:
    try:
        armed = Path(os.environ[_VARIABLE]).read_text()
    except FileNotFoundError:
        return
    use_case = _use_case.get()
    if not use_case and not _is_on_the_loop():
        # Work in threads does not know the use case; there the armed one is the only one that runs.
        use_case = armed.partition(":")[0]
    if armed == f"{use_case}: {reached} {call}":
        os.kill(os.getpid(), signal.SIGKILL)


def _is_on_the_loop() -> bool:
    """Whether this is the thread of the event loop; what the registry does by itself runs there as well."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _wrap(target: str, wrapper: Callable[[Any], Any]) -> None:
    module, _, path = target.partition(":")
    holder: Any = importlib.import_module(module)
    *holders, name = path.split(".")
    for part in holders:
        holder = getattr(holder, part)
    setattr(holder, name, wrapper(getattr(holder, name)))


def _watched(call: str) -> Callable[[Any], Any]:
    def wrapper(function: Any) -> Any:
        @functools.wraps(function)
        async def watched_async(*args: Any, **kwargs: Any) -> Any:
            _reach(call, "before")
            result = await function(*args, **kwargs)
            _reach(call, "after")
            return result

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            _reach(call, "before")
            result = function(*args, **kwargs)
            _reach(call, "after")
            return result

        return watched_async if iscoroutinefunction(function) else watched

    return wrapper


def _named(use_case: str) -> Callable[[Any], Any]:
    def wrapper(function: Any) -> Any:
        @functools.wraps(function)
        async def named(*args: Any, **kwargs: Any) -> Any:
            token = _use_case.set(use_case)
            try:
                return await function(*args, **kwargs)
            finally:
                _use_case.reset(token)

        return named

    return wrapper


def _committing(write: Any) -> Any:
    @asynccontextmanager
    async def committing(database: Any) -> AsyncIterator[Any]:
        async with write(database) as connection:
            yield connection
            _reach("commit", "before")
        _reach("commit", "after")

    return committing


class CrashingServer(ForkedServer):
    """The server in a process of its own, which :meth:`arm` lets die at a point."""

    def __init__(self, data: Path, database_url: str, **settings: str) -> None:
        self._point = data.parent / f"{data.name}.point"
        self.database_url = database_url
        given = {_VARIABLE.removeprefix("SEATRIAL_").lower(): str(self._point)}
        super().__init__(data, database_url, module="tests.kit.crashing", **given, **settings)

    def arm(self, point: Point) -> None:
        """From now on it dies when it comes to this point."""
        self._point.write_text(point.name)

    def disarm(self) -> None:
        """From now on it lives."""
        self._point.unlink()


def hasten_s3() -> None:
    """Let a dead holder of an upload be waited for no longer than a moment, and parts be small."""
    # The server is forked from a process that has imported them.
    importlib.import_module("registry.content.uploadledger")._HELD = timedelta(seconds=S3_LEASE_SECONDS)
    importlib.import_module("registry.storage.s3")._RENEW_SECONDS = S3_LEASE_SECONDS / 3
    importlib.import_module("registry.storage.s3upload")._FIRST_PART_BYTES = S3_PART_BYTES


def main(arguments: list[str]) -> None:
    """Wrap what the list names, then serve."""
    from registry.settings import load_settings

    kind = load_settings().effective_storage_url.partition(":")[0]
    if kind == "s3":
        hasten_s3()
        read_models()
    elsewhere = ("file.",) if kind == "s3" else ("s3.", "ledger.")
    for call, target in _CALLS.items():
        if call.startswith("ledger."):
            # Its transactions are not those of the use case.
            _wrap(target, _named("ledger"))
        if not call.startswith(elsewhere):
            _wrap(target.format(store=_STORES[kind]), _watched(call))
    for use_case in _USE_CASES:
        module, _, name = use_case.partition(".")
        _wrap(f"registry.content.{module}:{name}", _named(use_case))
    importlib.import_module("registry.content.collections").LEASE = timedelta(seconds=1)
    lease = timedelta(seconds=RETENTION_LEASE_SECONDS)
    importlib.import_module("registry.content.retentionruns").LEASE = lease
    for target in (*ACCESS_USE_CASES, PROMOTION, RESTORATION):
        _wrap(target, _named(target.replace(":", ".")))
    _wrap("registry.db.engine:Database.write", _committing)
    serve_again_and_again(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
