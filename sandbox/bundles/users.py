"""Who a container runs as: the image's user, resolved by us from the image's own files.

image-spec, conversion.md, "User". The runtime gets numbers only.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.bundles.rootfs import Rootfs
from sandbox.errors import SandboxError

MAX_FILE_BYTES = 1024 * 1024
_LOWEST_RANDOM = 10_000
PASSWD, GROUP = "/etc/passwd", "/etc/group"


@dataclass(frozen=True, slots=True)
class ContainerUser:
    """Numbers as the container sees them."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(rootfs: Rootfs, text: str, *, size: int) -> ContainerUser:
    """Resolve ``user``, ``uid``, ``user:group`` or any mix of names and numbers; empty is ``0:0``.

    ``size`` is how many ids exist in the run. A number without a group takes the group that ``/etc/passwd``
    gives it, else 0; further groups come from ``/etc/group`` only for a user given by name alone.

    Raises:
        SandboxError: ``user-unknown``: a name that the image does not have, or a number outside the run's
            range; ``image-refused``: ``/etc/passwd`` or ``/etc/group`` is not a small plain file.
    """
    accounts = tuple(_accounts(rootfs))
    groups = tuple(_groups(rootfs))
    user, colon, group = text.partition(":")
    if colon and not group:
        raise SandboxError("user-unknown", f"the user {text[:80]!r} names no group after the colon")
    account = _find_account(accounts, user or "0")
    uid = account.uid if account else int(user or "0")
    own_gid = account.gid if account else 0
    gid = _find_gid(groups, group) if group else own_gid
    named = bool(user) and not _number(user) and not group
    further = sorted({one.gid for one in groups if named and user in one.members and one.gid != gid})
    for number in (uid, gid, *further):
        if number >= size:
            raise SandboxError(
                "user-unknown", f"the user {text[:80]!r} needs the id {number}; a run has 0 to {size - 1}"
            )
    return ContainerUser(uid, gid, tuple(further), account.home if account else "/")


def random_user(rootfs: Rootfs, *, size: int) -> ContainerUser:
    """A high number that the image has no name for, in group 0, as OpenShift gives its pods.

    Raises:
        SandboxError: ``image-refused``: /etc/passwd is not a small plain file; ``user-unknown``: the image
            has names for all of them.
    """
    known = {account.uid for account in _accounts(rootfs)}
    free = [uid for uid in range(min(_LOWEST_RANDOM, size // 2), size) if uid not in known]
    if not free:
        raise SandboxError(
            "user-unknown", "the image has a name for every number that a random user could be"
        )
    return ContainerUser(secrets.choice(free), 0)


def _find_account(accounts: tuple[_Account, ...], user: str) -> _Account | None:
    if _number(user):
        return next((one for one in accounts if one.uid == int(user)), None)
    for one in accounts:
        if one.name == user:
            return one
    raise SandboxError("user-unknown", f"the image has no user {user[:80]!r} in /etc/passwd")


def _find_gid(groups: tuple[_Group, ...], group: str) -> int:
    if _number(group):
        return int(group)
    for one in groups:
        if one.name == group:
            return one.gid
    raise SandboxError("user-unknown", f"the image has no group {group[:80]!r} in /etc/group")


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _lines(rootfs: Rootfs, path: str, fields: int) -> Iterator[list[str]]:
    content = rootfs.read_small(path, limit_bytes=MAX_FILE_BYTES) or b""
    for line in content.decode("utf-8", "replace").split("\n"):
        cells = line.rstrip("\r").split(":")
        # A line that is not one is passed over, as the C library does.
        if len(cells) >= fields and cells[0] and not cells[0].startswith("#"):
            yield cells


def _accounts(rootfs: Rootfs) -> Iterator[_Account]:
    for cells in _lines(rootfs, PASSWD, 4):
        if _number(cells[2]) and _number(cells[3]):
            home = cells[5] if len(cells) > 5 and cells[5].startswith("/") and "\0" not in cells[5] else "/"
            yield _Account(cells[0], int(cells[2]), int(cells[3]), home)


def _groups(rootfs: Rootfs) -> Iterator[_Group]:
    for cells in _lines(rootfs, GROUP, 3):
        if _number(cells[2]):
            members = tuple(name for name in cells[3].split(",") if name) if len(cells) > 3 else ()
            yield _Group(cells[0], int(cells[2]), members)
