"""Whom the registry runs as when ``up`` is started as root: a user who owns the data folder and nothing else.

What is served to strangers has no need of root; the worker, which has, is another process with a folder of
its own.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_ACCOUNT = "seatrial"
_FREE_ID = 8470
_CHECK_SECONDS = 30
# The first thing that a server process does, and the way to its data.
_CHECK = "import os, sys; import registry.main; os.stat(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and group, by number."""

    uid: int
    gid: int


def choose_identity(data: Path) -> Identity:
    """The owner of ``data`` if that is not root; else the system's account ``seatrial``, or a number that no
    account has."""
    found = data.stat()
    if found.st_uid != 0:
        return Identity(found.st_uid, found.st_gid)
    try:
        account = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        taken = {account.pw_uid for account in pwd.getpwall()}
        free = next(number for number in range(_FREE_ID, 60_000) if number not in taken)
        return Identity(free, free)
    return Identity(account.pw_uid, account.pw_gid)


def why_unable(identity: Identity, data: Path) -> str | None:
    """Why this user cannot run the registry from where it is installed, on ``data``; ``None`` if it can."""
    command = [sys.executable, "-c", _CHECK, str(data.resolve())]
    try:
        done = subprocess.run(
            command,
            user=identity.uid,
            group=identity.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except OSError as error:
        return f"{sys.executable}: {error.strerror}"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or ["it could not be started"])[-1]


def give(data: Path, identity: Identity, *, leave: Path) -> None:
    """Make ``identity`` the owner of ``data`` and all in it, except the folder ``leave``.

    Where the folder is its own already, only what lies directly in it is looked at: what a command that root
    typed has left there. The blobs are too many to visit at each start.
    """
    found = data.stat()
    whole = (found.st_uid, found.st_gid) != (identity.uid, identity.gid)
    for folder, folders, files, descriptor in os.fwalk(data, follow_symlinks=False):
        os.chown(descriptor, identity.uid, identity.gid)
        for name in files:
            os.chown(name, identity.uid, identity.gid, dir_fd=descriptor, follow_symlinks=False)
        folders[:] = [name for name in folders if whole and Path(folder, name) != leave]
