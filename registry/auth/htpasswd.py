"""htpasswd files of other registries: users with bcrypt hashes, which become argon2id at their first sign-in.

Nobody's password has to be known or changed for that. Every other kind of hash is refused, line by line: they
can be tried by the billion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry.auth.access import require_admin
from registry.auth.accountnames import parse_user_name
from registry.auth.actor import Actor
from registry.db.accounts import accounts
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import RequestInvalidError

MAX_LINES = 1000
MAX_COST = 14
"""Twice the time for each more: 14 is a second."""
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_SHOWN_NAME = re.compile(r"[\w.@+-]+")
"""What may be shown of a line that makes no user: where a name should be there may be a hash."""
_OTHERS = (
    ("$apr1$", "MD5 (apr1)"),
    ("$1$", "MD5"),
    ("{SHA}", "SHA-1"),
    ("{SSHA}", "SHA-1"),
    ("$5$", "SHA-256 (crypt)"),
    ("$6$", "SHA-512 (crypt)"),
    ("$2x$", "bcrypt with a known fault (2x)"),
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that made no user, and why; ``name`` is cut where it is none, and empty where it may be a
    hash."""

    line: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """The users that were made, and the lines that made none."""

    users: tuple[str, ...]
    refused: tuple[Refused, ...]


def parse_htpasswd(text: str) -> tuple[dict[str, tuple[int, str]], list[Refused]]:
    """Names with line and hash, and the lines that cannot be used.

    Raises:
        RequestInvalidError: too many lines.
    """
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise RequestInvalidError(f"at most {MAX_LINES} lines at once")
    found: dict[str, tuple[int, str]] = {}
    refused: list[Refused] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, hashed = line.strip().partition(":")
        if not colon or not _SHOWN_NAME.fullmatch(name):
            refused.append(Refused(number, "", "it is no line of NAME:HASH"))
            continue
        reason = _why_not(name, hashed) or ("it is in the file twice" if name in found else None)
        if reason is None:
            found[name] = (number, hashed)
        else:
            refused.append(Refused(number, name[:64], reason))
    return found, refused


async def import_users(database: Database, *, actor: Actor, text: str) -> Imported:
    """Make a user of each line that can be one; users that there are stay as they are.

    Raises:
        DeniedError: the actor is no administrator.
        RequestInvalidError: too many lines.
    """
    require_admin(actor)
    found, refused = parse_htpasswd(text)
    made: list[str] = []
    async with database.write() as connection:
        for name, (line, hashed) in sorted(found.items()):
            values = {"name": name, "kind": "user", "password_hash": hashed, "created_at": db_time()}
            done = await connection.execute(
                insert_ignoring_conflict(connection, accounts, values).returning(accounts.c.id)
            )
            if done.scalar_one_or_none() is None:
                refused.append(Refused(line, name, "there is an account of that name already"))
                continue
            made.append(name)
            await record(connection, "user.created", None, actor, {"from": "htpasswd"}, target=name)
    return Imported(tuple(made), tuple(sorted(refused, key=lambda each: each.line)))


def _why_not(name: str, hashed: str) -> str | None:
    if not hashed:
        return "it is no line of NAME:HASH"
    try:
        parse_user_name(name)
    except RequestInvalidError as error:
        return error.message
    match = _BCRYPT.fullmatch(hashed)
    if match is None:
        kind = next((kind for start, kind in _OTHERS if hashed.startswith(start)), "of an unknown kind")
        return f"its hash is {kind}; only bcrypt is taken (htpasswd -B)"
    if not 4 <= int(match[1]) <= MAX_COST:
        return f"its bcrypt cost is {int(match[1])}; 4 to {MAX_COST} are taken"
    return None
