"""Replicas that share nothing but the database and the store: each with a data folder of its own, and where
tests run as root also a user and a network of its own. A clock may be wrong too.

One replica is reached at ``Stranger.host``; what listens on this host's loopback it reaches through
:func:`tests.kit.relay.relay`.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit.plainuser import as_user, plain_user

_NETWORKS = itertools.count(os.getpid() * 4 % 16_000)


@dataclass(frozen=True, slots=True)
class Stranger:
    """Where a replica lives: its folder, what runs programs there, its address and this host's address as it
    sees that."""

    data: Path
    through: tuple[str, ...]
    host: str
    outside: str

    def give(self, name: str, content: bytes) -> Path:
        """A private file in the data folder, of the user's own."""
        path = self.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        owner = self.data.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        return path


@contextmanager
def stranger(*, clock_seconds: int = 0) -> Iterator[Stranger]:
    """A place for a replica, whose clock is so many seconds ahead of the true one."""
    clock = ()
    if clock_seconds:
        # The linker puts the architecture's folder in the place of $LIB.
        clock = (
            "/usr/bin/env",
            "LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1",
            f"FAKETIME={clock_seconds:+}s",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )
    with ExitStack() as stack:
        # The parents of pytest's folders let nobody through.
        folder = Path(tempfile.mkdtemp(prefix="seatrial-replica-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() != 0:
            yield Stranger(data, clock, "127.0.0.1", "127.0.0.1")
            return
        user = stack.enter_context(plain_user())
        shutil.chown(data, user, user)
        name, inside, outside = stack.enter_context(_network())
        yield Stranger(data, ("ip", "netns", "exec", name, *as_user(user), *clock), inside, outside)


@contextmanager
def _network() -> Iterator[tuple[str, str, str]]:
    """A network namespace, its address and ours on the line between."""
    number = next(_NETWORKS)
    name, ours, theirs = f"seatrial-{number}", f"srt{number}a", f"srt{number}b"
    first = f"10.213.{number // 64}.{number % 64 * 4}"
    outside, inside = (f"{first.rpartition('.')[0]}.{number % 64 * 4 + offset}" for offset in (1, 2))

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("address", "add", f"{outside}/30", "dev", ours)
        ip("link", "set", ours, "up")
        for arguments in (
            ("address", "add", f"{inside}/30", "dev", theirs),
            ("link", "set", theirs, "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", name, *arguments)
        yield name, inside, outside
    finally:
        ip("netns", "delete", name)  # and the line with it
