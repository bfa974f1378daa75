"""What somebody should look at, each for whoever may do something about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union,
    union_all,
)

from registry.auth.policy import HIDDEN, decide, may_administer, may_audit, role_allows
from registry.content.pullable import in_places
from registry.content.quotas import TOLD_AT
from registry.db.access import namespaces
from registry.db.accounts import accounts, workers
from registry.db.content import blobs, manifests, repositories
from registry.db.gate import waivers
from registry.db.matchings import matchings
from registry.db.placed import with_place
from registry.db.quotas import quotas
from registry.db.trials import trials
from registry.db.types import db_time
from registry.db.usage import repository_usage
from registry.db.webhooks import webhooks
from registry.trials.cancelling import CANCELLED
from registry.trials.present import GETTING_JOBS, SILENT
from registry.trials.wanted import DROPPED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, CompoundSelect, Select

    from registry.auth.actor import Actor
    from registry.db.engine import Database

Kind = Literal["webhook", "worker", "advisories", "quota", "damaged", "waiver", "trial"]
KINDS: tuple[Kind, ...] = get_args(Kind)
AT_MOST = 10
"""So many of a kind are named."""
OLD = timedelta(days=7)
"""Advisories are too old then, and trials in error are looked back for so far."""
_TRIALS_LOOKED_AT = 1000
_OF_TRIALS = ("id", "repository_id", "digest", "verdict", "reason", "created_at", "finished_at")
_SHARE = TOLD_AT[0]


@dataclass(frozen=True, slots=True)
class Attention:
    """Something to look at.

    - ``webhook``: deliveries fail since ``at``; ``id`` is its, ``subject`` where it sends to.
    - ``worker``: not heard of since ``at``, though it is not drained; ``subject`` is its name.
    - ``advisories``: the newest source is of ``at``.
    - ``quota``: ``place`` holds more than 80 % of a quota; ``subject`` is of what, ``id`` how many percent.
    - ``damaged``: blobs in quarantine, ``subject`` is how many, ``at`` the last.
    - ``waiver``: somebody (``subject``) asked for one in ``place``.
    - ``trial``: of an image of ``place`` (``subject``) nothing is known; ``id`` is the trial's.
    """

    kind: Kind
    place: str | None
    subject: str
    id: str
    at: datetime | None


async def list_attention(database: Database, *, actor: Actor) -> Sequence[Attention]:
    """What the actor should look at, by kind, at most ten of each: only what he may do something about, or
    look at as an auditor. In one statement, since it stands on the first page."""
    statement = _statement(_rights(actor), is_sqlite=database.is_sqlite)
    if statement is None:
        return ()
    async with database.read_once() as connection:
        rows = (await connection.execute(statement)).all()
    found = [
        Attention(row.kind, row.place, row.subject, row.id, row.at) for row in rows if _is_for(actor, row)
    ]
    return sorted(found, key=lambda one: KINDS.index(one.kind))


def _is_for(actor: Actor, row: Any) -> bool:
    """It is the policy that decides, and the query only finds."""
    if row.kind in ("worker", "damaged") or (row.kind == "webhook" and row.place is None):
        return may_administer(actor)
    if row.kind in ("advisories", "quota"):
        return may_audit(actor)
    action: Literal["configure", "trial"] = "trial" if row.kind == "trial" else "configure"
    return decide(actor, action, row.place, row.visibility).allowed


@dataclass(frozen=True, slots=True)
class _Rights:
    """What of an actor decides what is looked for: ``manages`` and ``writes`` are places where he has a
    role."""

    administers: bool
    audits: bool
    everywhere: bool
    manages: tuple[str, ...]
    writes: tuple[str, ...]


def _rights(actor: Actor) -> _Rights:
    return _Rights(
        administers=may_administer(actor),
        audits=may_audit(actor),
        everywhere=actor.is_admin,
        manages=tuple(on for on, role in actor.roles.items() if role_allows(role, "configure")),
        writes=tuple(on for on, role in actor.roles.items() if role_allows(role, "trial")),
    )


@lru_cache(maxsize=256)  # making it took half of the time of the first page
def _statement(rights: _Rights, *, is_sqlite: bool) -> CompoundSelect[Any] | None:
    limited = [one.limit(AT_MOST).subquery().select() for one in _queries(rights, is_sqlite=is_sqlite)]
    return union_all(*limited) if limited else None


def _queries(rights: _Rights, *, is_sqlite: bool) -> Iterator[Select[Any]]:
    if rights.administers:
        yield _silent_workers()
        yield _damaged()
    if rights.audits:
        yield _old_advisories()
        yield _full_quotas()
    if rights.everywhere or rights.manages:
        here = _in(rights, rights.manages, is_sqlite=is_sqlite)
        yield _webhooks(here, rights.manages)
        yield _waivers(here)
    if rights.everywhere or rights.writes:
        yield _trials(_in(rights, rights.writes, is_sqlite=is_sqlite))


def _in(rights: _Rights, places: Sequence[str], *, is_sqlite: bool) -> ColumnElement[bool]:
    if rights.everywhere:
        return true()
    return repositories.c.id.in_(union(*in_places(places, is_sqlite=is_sqlite)))


def _row(
    kind: Kind, at: Any, *, subject: Any, place: Any = None, visibility: Any = None, key: Any = ""
) -> Select[Any]:
    def words(column: Any) -> Any:
        return cast(null() if column is None else column, Text())

    return select(
        literal(kind, Text()).label("kind"),
        words(place).label("place"),
        words(visibility).label("visibility"),
        words(subject).label("subject"),
        words(key).label("id"),
        at.label("at"),
    )


def _silent_workers() -> Select[Any]:
    return (
        _row("worker", workers.c.last_seen_at, subject=accounts.c.name)
        .join_from(workers, accounts, accounts.c.id == workers.c.account_id)
        .where(*GETTING_JOBS, SILENT, workers.c.last_seen_at.is_not(None))
        .order_by(workers.c.last_seen_at.desc())
    )


def _damaged() -> Select[Any]:
    return (
        _row("damaged", func.max(blobs.c.damaged_at), subject=func.count())
        .where(blobs.c.damage.is_not(None))
        .having(func.count() > 0)
    )


def _old_advisories() -> Select[Any]:
    newest = select(func.max(matchings.c.id)).scalar_subquery()
    return _row("advisories", matchings.c.as_of, subject=matchings.c.generation).where(
        matchings.c.id == newest, matchings.c.as_of < db_time(-OLD)
    )


def _full_quotas() -> Select[Any]:
    """What waits beside the counts of repositories is not looked at: it is added soon."""
    own, place = (
        repositories.alias("below"),
        with_place(quotas, quotas.c.id, quotas.c.resource, quotas.c.most),
    )
    begin, end = namespaces.c.name.concat("/"), namespaces.c.name.concat("0")
    below = and_(own.c.name >= begin, own.c.name < end, ~own.c.name.contains(f"/{HIDDEN}", autoescape=True))
    held = (
        select(
            func.coalesce(
                func.sum(
                    case(
                        *(
                            (quotas.c.resource == what, repository_usage.c[what])
                            for what in ("bytes", "tags", "uploads")
                        ),
                        else_=1,
                    )
                ),
                0,
            )
        )
        .select_from(own.join(repository_usage, repository_usage.c.repository_id == own.c.id))
        .where(or_(own.c.id == quotas.c.repository_id, below))
        .correlate(quotas, namespaces)
        .scalar_subquery()
    )
    # PostgreSQL adds up to another type.
    limited = place.add_columns(cast(held, BigInteger).label("held")).subquery()
    sized = (
        select(
            repositories.c.name.label("place"),
            literal("bytes", Text()).label("resource"),
            repositories.c.quota_bytes.label("most"),
            repository_usage.c.bytes.label("held"),
        )
        .join(repository_usage)
        .where(repositories.c.quota_bytes.is_not(None))
    )
    columns = ("place", "resource", "most", "held")
    found = union_all(select(*(limited.c[name] for name in columns)), sized).subquery()
    percent = case((found.c.most > 0, found.c.held * 100 // found.c.most), else_=100)
    never: Any = cast(null(), workers.c.last_seen_at.type)
    return (
        _row("quota", never, subject=found.c.resource, place=found.c.place, key=percent)
        .where(found.c.held * 100 >= found.c.most * _SHARE)
        .order_by(percent.desc())
    )


def _webhooks(here: ColumnElement[bool], manages: Sequence[str]) -> Select[Any]:
    place = func.coalesce(repositories.c.name, namespaces.c.name.concat("/"))
    # Those on namespaces: where a role was given there itself.
    named = [on.removesuffix("/") for on in manages if on.endswith("/")]
    return (
        _row(
            "webhook",
            func.coalesce(webhooks.c.failing_since, webhooks.c.disabled_at),
            subject=webhooks.c.url,
            place=place,
            visibility=repositories.c.visibility,
            key=webhooks.c.id,
        )
        .select_from(webhooks)
        .outerjoin(repositories, repositories.c.id == webhooks.c.repository_id)
        .outerjoin(namespaces, namespaces.c.id == webhooks.c.namespace_id)
        .where(
            or_(
                and_(webhooks.c.failing_since.is_not(None), webhooks.c.disabled_at.is_(None)),
                webhooks.c.disabled_reason.is_not(None),
            ),
            or_(here, namespaces.c.name.in_(named)),
        )
        .order_by(webhooks.c.id)
    )


def _waivers(here: ColumnElement[bool]) -> Select[Any]:
    return (
        _row(
            "waiver",
            waivers.c.requested_at,
            subject=waivers.c.requested_by,
            place=repositories.c.name,
            visibility=repositories.c.visibility,
            key=waivers.c.id,
        )
        .join_from(waivers, repositories, repositories.c.id == waivers.c.repository_id)
        .where(
            waivers.c.granted_at.is_(None),
            waivers.c.ended_at.is_(None),
            waivers.c.expires_at > db_time(),
            here,
        )
        .order_by(waivers.c.id.desc())
    )


def _trials(here: ColumnElement[bool]) -> Select[Any]:
    """Of the newest trials of all, so that it costs the same however many there are."""
    newest = (
        select(*(trials.c[name] for name in _OF_TRIALS))
        .where(trials.c.created_at > db_time(-OLD))
        .order_by(trials.c.created_at.desc(), trials.c.id.desc())
        .limit(_TRIALS_LOOKED_AT)
        .subquery()
    )
    return (
        _row(
            "trial",
            newest.c.finished_at,
            subject=newest.c.digest,
            place=repositories.c.name,
            visibility=repositories.c.visibility,
            key=newest.c.id,
        )
        .join_from(newest, repositories, repositories.c.id == newest.c.repository_id)
        .join(
            manifests,
            and_(manifests.c.repository_id == newest.c.repository_id, manifests.c.digest == newest.c.digest),
        )
        .where(
            newest.c.verdict == "error",
            # It was not tried again since, with another end.
            manifests.c.state == "error",
            # Somebody knows already.
            newest.c.reason != DROPPED,
            ~newest.c.reason.startswith(CANCELLED),
            here,
        )
        .order_by(newest.c.created_at.desc())
    )
