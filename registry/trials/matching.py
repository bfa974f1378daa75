"""What advisories say of the packages of all images, kept as rows.

Each distinct package is matched once, whatever number of images hold it: when the first scan with it comes,
and again when another file of advisories counts. Of several replicas' files that one counts which was put in
its place last; who has an older one matches with it what nobody has matched yet, and overwrites nothing. A
package knows by which matching it was matched; 0 is by none, which is never "no vulnerability".

Changes are written down with the rows: for each package what changed, and which images hold it
(``changed_images``). :mod:`registry.trials.rematching` tells of them, once for each image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, literal, select, update
from sqlalchemy import insert as sql_insert

from registry.advisories.matching import RULES
from registry.auth.actor import REGISTRY
from registry.db.content import manifests
from registry.db.dialect import in_turn, insert, portions
from registry.db.matchings import changed_images, component_findings, finding_changes, matchings
from registry.db.outbox import record
from registry.db.scans import components, image_scans, scan_components, scans
from registry.db.types import Id, db_time
from registry.trials.advisorynames import keep_names
from registry.trials.attesting import attest_matches_again
from registry.trials.states import plain_text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.advisories.matching import Match
    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.trials.matcher import Facts, Matcher

AT_ONCE = 500
"""How many packages are matched in one transaction: other writers of SQLite wait for it."""
_TOLD = ("kind", "severity", "state", "kev", "fixed_version")
"""Who is told of what changes an image is told of these."""
_MINOR = ("aliases", "score", "summary", "epss", "published_at")


@dataclass(frozen=True, slots=True)
class Behind:
    """A package that is to be matched."""

    id: int
    ecosystem: str
    name: str
    version: str
    source: str
    source_version: str


@dataclass(frozen=True, slots=True)
class Counted:
    """How many packages were matched, and how many of them have other matches than before."""

    matched: int
    changed: int


async def number_of(database: Database, facts: Facts) -> int | None:
    """The number of the matching by a file of advisories, begun if it counts now; ``None`` where the file is
    older than the one that counts, and never did."""
    async with database.read_once() as connection:
        newest = (await connection.execute(_NEWEST)).first()
    if not _counts(facts, newest):
        if newest is not None and _is_same(facts, newest):
            return int(newest.id)
        this = (matchings.c.generation == facts.generation, matchings.c.rules == RULES)
        async with database.read_once() as connection:
            before: int | None = (
                await connection.execute(select(func.max(matchings.c.id)).where(*this))
            ).scalar()
            return before
    async with database.write() as connection:
        return await begin(connection, facts, actor=REGISTRY, by_hand=False)


async def begin(connection: AsyncConnection, facts: Facts, *, actor: Actor, by_hand: bool) -> int:
    """Let a file count from now on; its matching's number. ``by_hand``: whatever counts now."""
    await in_turn(connection, "matching")
    newest = (await connection.execute(_NEWEST)).first()
    now = (await connection.execute(select(db_time()))).scalar_one()
    told = {"as_of": facts.as_of, "sources": facts.sources}
    # A clock that is ahead shall not make it count for ever.
    facts = replace(facts, put_at=now if by_hand else min(facts.put_at, now))
    if not by_hand and newest is not None:
        if _is_same(facts, newest):
            await connection.execute(update(matchings).where(matchings.c.id == newest.id).values(told))
            return int(newest.id)
        if not _counts(facts, newest):
            return int(newest.id)
    values = {name: getattr(facts, name) for name in ("generation", "put_at", "ecosystems")}
    made = await connection.execute(
        sql_insert(matchings)
        .values(**values, **told, rules=RULES, begun_at=now, leased_until=now)
        .returning(matchings.c.id)
    )
    number = int(made.scalar_one())
    told_of = {"matching": number, "generation": facts.generation, "as_of": facts.as_of.isoformat()}
    await record(connection, "matching.begun", None, actor, told_of)
    return number


def _is_same(facts: Facts, row: Any) -> bool:
    return (facts.generation, RULES) == (row.generation, row.rules)


def _counts(facts: Facts, newest: Any) -> bool:
    """Whether a file counts where another one did, or has news about itself."""
    if newest is None:
        return True
    if _is_same(facts, newest):
        return bool(facts.as_of > newest.as_of)
    key = (facts.put_at, RULES, facts.as_of, facts.generation)
    return key > (newest.put_at, newest.rules, newest.as_of, newest.generation)


async def match_arrived(
    database: Database, matcher: Matcher, *, document_digest: str, repository_id: int, image: str
) -> None:
    """Match those packages of a scan that just came that nobody has matched, as far as there is a file. The
    image itself is not told of: it is about to be judged.

    Raises:
        UnavailableError: the file of advisories is damaged.
    """
    facts = await matcher.facts()
    number = None if facts is None else await number_of(database, facts)
    if facts is None or number is None:
        return
    of_scan = (
        _BEHIND.join(scan_components, scan_components.c.component_id == components.c.id)
        .join(scans, scans.c.id == scan_components.c.scan_id)
        .where(scans.c.document_digest == document_digest, components.c.matching < number)
    )
    async with database.read_once() as connection:
        left = [Behind(*row) for row in await connection.execute(of_scan)]
    this = select(manifests.c.id).where(
        manifests.c.repository_id == repository_id, manifests.c.digest == image
    )
    while left:
        found = await matcher.look_up(facts.generation, left[:AT_ONCE])
        if found is None:
            return
        async with database.write() as connection:
            besides = (await connection.execute(this)).scalar()
            counted = await write(connection, number, by_id(left, found), besides=besides)
            if counted.changed and besides is not None:
                await attest_matches_again(connection, [besides])
        left = left[len(found) :]


def by_id(packages: Sequence[Behind], found: Sequence[Sequence[Match]]) -> Mapping[int, Sequence[Match]]:
    """What was found of the first packages, by the packages' numbers."""
    return {one.id: matches for one, matches in zip(packages, found, strict=False)}


def behind(number: int) -> Select[Any]:
    """Some packages that no matching from this one on has looked up."""
    some = _BEHIND.where(components.c.matching < number)
    return some.order_by(components.c.matching, components.c.id).limit(AT_ONCE)


async def write(
    connection: AsyncConnection,
    number: int,
    found: Mapping[int, Sequence[Match]],
    *,
    besides: int | None = None,
) -> Counted:
    """Let the matches of packages, by their numbers, be these, and write down what changed and which images
    are to be told of it, all but ``besides``. What a later matching has matched stays as it is."""
    # One after the other, so that changes have numbers in the order of their commits.
    await in_turn(connection, "matching")
    mine: list[int] = []
    kept: dict[int, dict[str, Any]] = {}
    for ids in portions(sorted(found)):
        free = select(components.c.id).where(components.c.id.in_(ids), components.c.matching < number)
        locked = free.order_by(components.c.id).with_for_update(key_share=True)
        batch = (await connection.execute(locked)).scalars().all()
        query = select(component_findings).where(component_findings.c.component_id.in_(batch))
        for row in await connection.execute(query):
            kept.setdefault(row.component_id, {})[row.advisory] = row
        await connection.execute(update(components).where(components.c.id.in_(batch)).values(matching=number))
        mine += batch
    now = (await connection.execute(select(db_time()))).scalar_one()
    rows = {component_id: [_row(match) for match in found[component_id]] for component_id in mine}
    difference = _Difference([], [], [], [])
    for component_id in mine:
        _differ(difference, component_id, kept.get(component_id, {}), rows[component_id], now)
    await _date(connection, [one for one in difference.inserted if one["first_seen_at"] == now])
    await _carry_out(connection, difference)
    # Of all of them: a replica of the version before may have written some without their names.
    await keep_names(
        connection, {(row["advisory"], row["aliases"]) for each in rows.values() for row in each}
    )
    changed = {change["component_id"] for change in difference.changes}
    await _note(connection, difference.changes, sorted(changed), besides)
    return Counted(len(mine), len(changed))


@dataclass(frozen=True, slots=True)
class _Difference:
    inserted: list[dict[str, Any]]
    updated: list[dict[str, Any]]
    deleted: list[dict[str, Any]]
    changes: list[dict[str, Any]]


def _differ(
    difference: _Difference,
    component_id: int,
    kept: Mapping[str, Any],
    rows: Sequence[dict[str, Any]],
    now: Any,
) -> None:
    left = dict(kept)
    fresh = []
    for row in rows:
        before = left.pop(row["advisory"], None)
        if before is None:
            fresh.append(row)
            continue
        change = _change(before, row)
        if change is not None:
            difference.updated.append(_keyed(component_id, row))
            difference.changes.append(_noted(component_id, row, change))
    for row in fresh:
        # It may have got another name, as a CVE: that is no other vulnerability.
        aliases = {row["advisory"], *json.loads(row["aliases"])}
        same = next((one for one in left.values() if one.advisory in aliases), None)
        since = now if same is None else same.first_seen_at
        if same is not None:
            del left[same.advisory]
            difference.deleted.append({"this": component_id, "which": same.advisory})
        difference.inserted.append({"component_id": component_id, "first_seen_at": since, **row})
        difference.changes.append(_noted(component_id, row, "new" if same is None else "changed"))
    for one in left.values():
        difference.deleted.append({"this": component_id, "which": one.advisory})
        difference.changes.append(_noted(component_id, one._mapping, "gone"))


async def _date(connection: AsyncConnection, new: Sequence[dict[str, Any]]) -> None:
    """Date what is new of a package by the first of its versions that is known to have had it: with another
    version that has it too, no grace begins anew."""
    packages: dict[int, tuple[str, str]] = {}
    for ids in portions(sorted({one["component_id"] for one in new})):
        named = select(components.c.id, components.c.ecosystem, components.c.source)
        for package in (await connection.execute(named.where(components.c.id.in_(ids)))).all():
            packages[package.id] = (package.ecosystem, package.source)
    sources = sorted({source for _, source in packages.values()})
    first: dict[tuple[str, str, str], datetime] = {}
    for some in portions(sorted({one["advisory"] for one in new})):
        query = (
            select(
                components.c.ecosystem,
                components.c.source,
                component_findings.c.advisory,
                func.min(component_findings.c.first_seen_at).label("since"),
            )
            .join(components, components.c.id == component_findings.c.component_id)
            .where(component_findings.c.advisory.in_(some), components.c.source.in_(sources))
            .group_by(components.c.ecosystem, components.c.source, component_findings.c.advisory)
        )
        for row in await connection.execute(query):
            first[row.ecosystem, row.source, row.advisory] = row.since
    for one in new:
        since = first.get((*packages[one["component_id"]], one["advisory"]))
        one["first_seen_at"] = since or one["first_seen_at"]


def _row(match: Match) -> dict[str, Any]:
    # PostgreSQL takes no NUL, and a terminal no characters that move its cursor.
    fixed = match.fixed_version
    return {
        "advisory": plain_text(match.id),
        "aliases": json.dumps([plain_text(one) for one in match.aliases]),
        "kind": match.kind,
        "severity": match.severity,
        "score": match.score,
        "summary": plain_text(match.summary),
        "fixed_version": None if fixed is None else plain_text(fixed),
        "state": match.state,
        "kev": match.kev,
        "epss": match.epss,
        "published_at": match.published_at,
    }


def _change(before: Any, row: Mapping[str, Any]) -> str | None:
    if any(getattr(before, name) != row[name] for name in _TOLD):
        return "changed"
    return "minor" if any(getattr(before, name) != row[name] for name in _MINOR) else None


def _keyed(component_id: int, row: Mapping[str, Any]) -> dict[str, Any]:
    named = {"this": component_id, "which": row["advisory"]}
    return named | {f"new_{name}": row[name] for name in (*_TOLD, *_MINOR)}


def _noted(component_id: int, row: Mapping[str, Any], change: str) -> dict[str, Any]:
    shown = {name: row[name] for name in ("advisory", "severity", "fixed_version")}
    return {"component_id": component_id, "change": change, **shown}


async def _carry_out(connection: AsyncConnection, difference: _Difference) -> None:
    which = (
        component_findings.c.component_id == bindparam("this"),
        component_findings.c.advisory == bindparam("which"),
    )
    if difference.deleted:
        await connection.execute(delete(component_findings).where(*which), difference.deleted)
    if difference.updated:
        values = {
            name: bindparam(f"new_{name}", type_=component_findings.c[name].type)
            for name in (*_TOLD, *_MINOR)
        }
        await connection.execute(update(component_findings).where(*which).values(values), difference.updated)
    if difference.inserted:
        await connection.execute(sql_insert(component_findings), difference.inserted)


async def _note(
    connection: AsyncConnection,
    changes: Sequence[dict[str, Any]],
    changed: Sequence[int],
    besides: int | None,
) -> None:
    """Write down changes of packages that other images hold, and those images."""
    held: set[int] = set()
    for ids in portions(changed):
        query = select(scan_components.c.component_id).distinct().select_from(_HOLDERS)
        held |= set((await connection.execute(query.where(*_holding(ids, besides)))).scalars())
    told = [one for one in changes if one["component_id"] in held]
    if not told:
        return
    last = select(func.coalesce(func.max(finding_changes.c.id), 0))
    first = (await connection.execute(last)).scalar_one() + 1
    await connection.execute(sql_insert(finding_changes), told)
    for ids in portions(sorted(held)):
        images = (
            select(image_scans.c.manifest_id, literal(first, Id))
            .distinct()
            .select_from(_HOLDERS)
            .where(*_holding(ids, besides))
            # Each is held by it, and waited for.
            .order_by(image_scans.c.manifest_id)
        )
        marked = insert(connection, changed_images).from_select(["manifest_id", "first_change"], images)
        await connection.execute(marked.on_conflict_do_nothing())


def _holding(ids: Sequence[int], besides: int | None) -> tuple[Any, ...]:
    return (
        scan_components.c.component_id.in_(ids),
        # What a distribution's package brought is matched through that one only.
        scan_components.c.owned.is_(False),
        *(() if besides is None else (image_scans.c.manifest_id != besides,)),
    )


_HOLDERS = scan_components.join(image_scans, image_scans.c.scan_id == scan_components.c.scan_id)
_NEWEST = select(matchings).order_by(matchings.c.id.desc()).limit(1)
_BEHIND = select(*(components.c[name] for name in Behind.__dataclass_fields__))
