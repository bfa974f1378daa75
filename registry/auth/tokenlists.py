"""API tokens, shown and listed: each filter reads a range of an index of its own, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import ColumnElement, and_, literal, or_, select, tuple_

from registry.auth.policy import may_administer
from registry.auth.tokenrights import find_owner
from registry.auth.tokens import SHOWN, ApiToken, find_token, shown_token
from registry.db.accounts import accounts, tokens
from registry.db.sweeping import sweep
from registry.db.types import Bytewise, UtcTime, db_time
from registry.errors import RequestInvalidError

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.db.engine import Database

State = Literal["active", "expired", "revoked"]
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which tokens: of an account; in a state; that expire within so many seconds; that were not used for so
    many, since they were made or last used, and are not revoked; made with another token. ``None``: any."""

    account: str | None = None
    state: State | None = None
    expiring_seconds: int | None = None
    unused_seconds: int | None = None
    made_by: str | None = None


@dataclass(frozen=True, slots=True)
class TokenPage:
    """Part of a list, and the cursor of the next part, if there is one."""

    items: Sequence[ApiToken]
    next: str | None


@dataclass(frozen=True, slots=True)
class _Range:
    """Part of an index, in its order: ``key`` are the columns that tell one entry from the next, of which all
    but the last are times, ``fixed`` one before them that is null in all of it."""

    conditions: tuple[ColumnElement[bool], ...]
    key: tuple[Any, ...]
    fixed: tuple[Any, ...] = ()


async def list_tokens(
    database: Database, *, actor: Actor, wanted: TokenFilter, limit: int, after: str | None
) -> TokenPage:
    """At most ``limit`` tokens, those after the cursor ``after``.

    An administrator sees all, or those of ``wanted.account``; others their own or those of a robot that they
    administer; and with a limited token one sees that one and those made with it.

    Raises:
        DeniedError, NotFoundError: the account is another's, or is not there.
        RequestInvalidError: the cursor is none of this list.
    """
    async with database.read() as connection:
        account_id: int | None = None
        mine: ColumnElement[bool] | None = None
        if not may_administer(actor) or wanted.account is not None:
            owner = await find_owner(connection, actor, wanted.account)
            account_id = owner.id
            if owner.id == actor.account_id and actor.scopes is not None and not may_administer(actor):
                own = actor.token_id or ""
                mine = or_(tokens.c.id == own, tokens.c.made_by == own)
        found: list[tuple[int, ApiToken]] = []
        # Read before: PostgreSQL looks nothing up in an index by a clock that goes on.
        now: datetime = (await connection.execute(select(db_time()))).scalar_one()
        ranges = _ranges(wanted, account_id, now)
        first, start = _read_cursor(after, ranges)
        for number in range(first, len(ranges)):
            part = ranges[number]
            query = SHOWN.where(*part.conditions).order_by(*part.fixed, *part.key)
            if mine is not None:
                query = query.where(mine)
            if number == first and start is not None:
                query = query.where(tuple_(*part.key) > tuple_(*start))
            rows = await connection.execute(query.limit(limit + 1 - len(found)))
            found += [(number, shown_token(row._asdict())) for row in rows]
            if len(found) > limit:
                break
    shown = [token for _, token in found[:limit]]
    return TokenPage(shown, _cursor(ranges, *found[limit - 1]) if len(found) > limit else None)


async def show_token(database: Database, *, actor: Actor, token_id: str) -> ApiToken:
    """One token.

    Raises:
        NotFoundError: there is no such token, or the actor does not manage it.
    """
    async with database.read() as connection:
        return (await find_token(connection, actor, token_id)).token


async def sweep_ended(database: Database, *, days: int) -> int:
    """Forget tokens that ended so many days ago; how many rows. Those stay by whose rows others are found
    that may still work, made with one or standing in for one, and those of workers, which are few and known
    as revoked by them."""
    since = db_time(-timedelta(days=days))
    other = tokens.alias("other")
    over = and_(
        or_(tokens.c.revoked_at < since, and_(tokens.c.revoked_at.is_(None), tokens.c.expires_at < since)),
        ~select(other.c.id).where(other.c.made_by == tokens.c.id).exists(),
        ~select(other.c.id).where(other.c.id == tokens.c.replaces).exists(),
        ~select(accounts.c.id)
        .where(accounts.c.id == tokens.c.account_id, accounts.c.kind == "worker")
        .exists(),
    )
    return await sweep(database, tokens.c.id, over)


def _ranges(wanted: TokenFilter, account_id: int | None, now: datetime) -> list[_Range]:
    """Where to look, one after the other. With an owner it is among his: the filters only leave some out."""
    expires, used, made = tokens.c.expires_at, tokens.c.last_used_at, tokens.c.created_at
    key = tokens.c.id
    by_age = [_Range((key > "",), (key,))]
    living = tokens.c.revoked_at.is_(None)
    ends_later = and_(living, expires > now)
    never_ends = and_(living, expires.is_(None))
    is_active = and_(living, or_(expires.is_(None), expires > now))
    also: list[ColumnElement[bool]] = []
    ranges: list[_Range] | None = None
    if account_id is not None:
        also.append(tokens.c.account_id == account_id)
        ranges = by_age
    if wanted.made_by is not None:
        also.append(tokens.c.made_by == wanted.made_by)
        ranges = ranges or by_age
    if wanted.expiring_seconds is not None:
        soon = and_(ends_later, expires <= now + timedelta(seconds=wanted.expiring_seconds))
        also.append(soon)
        ranges = ranges or [_Range((soon,), (expires, key))]
    if wanted.unused_seconds is not None:
        since = now - timedelta(seconds=wanted.unused_seconds)
        never, long_ago = and_(living, used.is_(None), made < since), and_(living, used < since)
        also.append(or_(never, long_ago))
        ranges = ranges or [_Range((never,), (made, key), (used,)), _Range((long_ago,), (used, made, key))]
    if wanted.state == "active":
        also.append(is_active)
        ranges = ranges or [
            _Range((ends_later,), (expires, key)),
            _Range((never_ends,), (key,), (expires,)),
        ]
    if wanted.state == "expired":
        expired = and_(living, expires <= now)
        also.append(expired)
        ranges = ranges or [_Range((expired,), (expires, key))]
    if wanted.state == "revoked":
        revoked = tokens.c.revoked_at.is_not(None)
        also.append(revoked)
        ranges = ranges or [_Range((revoked,), (tokens.c.revoked_at, key))]
    return [replace(part, conditions=(*part.conditions, *also)) for part in ranges or by_age]


def _cursor(ranges: Sequence[_Range], number: int, token: ApiToken) -> str:
    times = [getattr(token, column.key) for column in ranges[number].key[:-1]]
    return "~".join([str(number), *(str((at - _EPOCH) // _MICROSECOND) for at in times), token.id])


def _read_cursor(text: str | None, ranges: Sequence[_Range]) -> tuple[int, tuple[Any, ...] | None]:
    """The range that a cursor is in, and the key that it stands for."""
    if text is None:
        return 0, None
    try:
        number, *times, token_id = text.split("~")
        part = ranges[_whole(number)]
        at = [_EPOCH + _whole(each) * _MICROSECOND for each in times]
        if len(at) != len(part.key) - 1:
            raise ValueError(text)
    except (ValueError, IndexError, OverflowError):
        raise RequestInvalidError(f"{text[:80]!r} is no cursor of this list") from None
    return _whole(number), (*(literal(each, UtcTime) for each in at), literal(token_id, Bytewise))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise ValueError(text)
    return int(text)
