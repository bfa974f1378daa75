"""Tags that stand where they stand for good: by rules on a repository or a namespace above it, and for tokens
that only make new ones.

A rule is about tags that there are: the first push of a name is free, and of several at once exactly one is
first, since each holds the repository's lock. From then on the tag neither moves nor goes, whoever asks, in
whatever way, and what it names stays whole. Nobody is above a rule: who manages the place takes it away
first.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import select

from registry.auth.places import counts_in
from registry.auth.policy import moves_tags
from registry.content.tagmatching import MatchKind, TagPattern, parse_matcher
from registry.db.content import edges, manifests, repositories, tags
from registry.db.dialect import batches
from registry.db.placed import with_place
from registry.db.tagrules import tag_rules
from registry.errors import DeniedError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository

DEPTH_MAX = 8
"""How many times an index may list an index, between a tag and what is deleted."""
ASKED_MAX = 300_000
"""How many patterns are held against tags for one deletion; a second or so."""
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class TagRule:
    """Tags of a place that stand for good, but for ``exceptions``. ``on``: a repository, or a namespace with
    a slash at its end."""

    id: int
    on: str
    by: MatchKind
    pattern: str
    exceptions: Sequence[TagPattern]
    reason: str | None
    created_by: str
    created_at: datetime

    def holds(self, tag: str) -> bool:
        """Whether it is about this tag."""
        return self.matcher()(tag)

    def matcher(self) -> Callable[[str], bool]:
        """As :meth:`holds`, for who asks about many tags: a pattern takes longer to read than to ask."""
        meant = parse_matcher(self.by, self.pattern)

        @cache
        def excepted() -> Sequence[Callable[[str], bool]]:
            return [parse_matcher(each.by, each.pattern) for each in self.exceptions]

        return lambda tag: meant(tag) and not any(test(tag) for test in excepted())

    @property
    def shown(self) -> str:
        """How refusals name it."""
        why = f", {self.reason}" if self.reason else ""
        return f"rule {self.id} on {self.on} ({self.by} {self.pattern}{why})"


def rule_for(rules: Iterable[TagRule], tag: str) -> TagRule | None:
    """The rule by which the tag stands for good, if one does."""
    return next((rule for rule in rules if rule.holds(tag)), None)


async def rules_of(connection: AsyncConnection, repository_id: int) -> Sequence[TagRule]:
    """The rules that count in a repository, under the name that it has now."""
    named = select(repositories.c.name).where(repositories.c.id == repository_id)
    name: str | None = (await connection.execute(named)).scalar()
    return () if name is None else await rules_in(connection, repository_id, name)


async def rules_in(connection: AsyncConnection, repository_id: int, name: str) -> Sequence[TagRule]:
    """Those that count in a repository of that name."""
    query = RULES.where(counts_in(tag_rules, repository_id, name)).order_by(tag_rules.c.id)
    return [rule_of(row) for row in await connection.execute(query)]


async def why_immovable(
    connection: AsyncConnection, repository: Repository, tag: str, standing: str, *, actor: Actor
) -> str | None:
    """Why the actor cannot move a tag that stands at ``standing``; ``None``: he can. The caller holds the
    repository's lock."""
    why = await _why_immutable(connection, repository, tag, standing)
    if why is None and not moves_tags(actor, repository.name):
        where = f"{repository.name}:{tag}"
        return f"the token of {actor.shown} makes new tags and moves none, and {where} stands at {standing}"
    return why


async def require_movable(
    connection: AsyncConnection, repository: Repository, tag: str, standing: str, *, actor: Actor
) -> None:
    """As :func:`why_immovable`.

    Raises:
        DeniedError: why.
    """
    why = await why_immovable(connection, repository, tag, standing, actor=actor)
    if why is not None:
        raise DeniedError(why)


async def require_mutable(
    connection: AsyncConnection, repository: Repository, tag: str, standing: str
) -> None:
    """Let a tag be deleted that stands at ``standing``. The caller holds the repository's lock.

    Raises:
        DeniedError: it stands for good.
    """
    why = await _why_immutable(connection, repository, tag, standing)
    if why is not None:
        raise DeniedError(why)


async def _why_immutable(
    connection: AsyncConnection, repository: Repository, tag: str, standing: str
) -> str | None:
    rule = rule_for(await rules_of(connection, repository.id), tag)
    if rule is None:
        return None
    return f"{repository.name}:{tag} is immutable by {rule.shown}, and stands at {standing}; push another tag"


async def require_unneeded(connection: AsyncConnection, repository: Repository, digest: str) -> None:
    """Let content be deleted by digest, as far as nothing that stands for good is made of it. The caller
    holds the repository's lock.

    Raises:
        DeniedError: a tag that does is, or there is too much above it to tell.
    """
    rules = [(rule, rule.matcher()) for rule in await rules_of(connection, repository.id)]
    if not rules:
        return
    patterns = sum(1 + len(rule.exceptions) for rule, _ in rules)
    asked = 0
    level = {digest}
    seen = set(level)
    for _ in range(DEPTH_MAX + 1):
        for number, tag in enumerate(await _tags_of(connection, repository.id, level)):
            asked += patterns
            if asked > ASKED_MAX:
                raise DeniedError(
                    f"{digest} is what more tags of {repository.name} are made of than can be held against "
                    "its rules; delete tags first"
                )
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # others are served meanwhile
            rule = next((one for one, holds in rules if holds(tag)), None)
            if rule is not None:
                raise DeniedError(
                    f"{digest} is what {repository.name}:{tag} is made of, which is immutable by {rule.shown}"
                )
        level = await _made_of(connection, repository.id, level) - seen
        if not level:
            return
        seen |= level
    raise DeniedError(
        f"{digest} is listed by indexes more than {DEPTH_MAX} deep, and nobody knows whether a tag that is "
        f"immutable is made of it; delete those first"
    )


async def _tags_of(connection: AsyncConnection, repository_id: int, digests: Iterable[str]) -> list[str]:
    found: list[str] = []
    for batch in batches(sorted(digests)):
        query = (
            select(tags.c.name)
            .join(manifests, manifests.c.id == tags.c.manifest_id)
            .where(manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch))
        )
        found += (await connection.execute(query.order_by(tags.c.name))).scalars()
    return found


async def _made_of(connection: AsyncConnection, repository_id: int, digests: Iterable[str]) -> set[str]:
    """The manifests of the repository that name any of these."""
    found: set[str] = set()
    for batch in batches(sorted(digests)):
        query = (
            select(manifests.c.digest)
            .join(edges, edges.c.manifest_id == manifests.c.id)
            .where(edges.c.digest.in_(batch), manifests.c.repository_id == repository_id)
            .distinct()
        )
        found |= set((await connection.execute(query)).scalars())
    return found


def rule_of(row: Any) -> TagRule:
    """The value of a row of :data:`RULES`."""
    exceptions = [TagPattern(cast(MatchKind, kind), pattern) for kind, pattern in json.loads(row.exceptions)]
    return TagRule(
        id=row.id,
        on=row.place,
        by=row.kind,
        pattern=row.pattern,
        exceptions=tuple(exceptions),
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at,
    )


RULES = with_place(tag_rules, *tag_rules.c)
