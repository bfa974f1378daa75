"""Findings in their grace: what of an image counts once that is over, and who is told of it before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from registry.auth.actor import REGISTRY
from registry.db.outbox import record_all
from registry.trials.states import REASON_MAX, plain_text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.trials.findingsjudge import Outcome

_KEPT_MAX = 100
"""So many of an image are kept, the next ones; all are counted."""


def stored_coming(outcome: Outcome) -> str | None:
    """As it stands in a row; ``None``: nothing is in its grace."""
    if not outcome.coming:
        return None
    first = [
        {"at": one.at.isoformat()} | {name: plain_text(text) for name, text in asdict(one.reason).items()}
        for one in outcome.coming[:_KEPT_MAX]
    ]
    at = outcome.refuses_at
    return json.dumps(
        {
            "count": len(outcome.coming),
            "first": first,
            "refuses_at": None if at is None else at.isoformat(),
            "reason": plain_text(outcome.coming_sentence)[:REASON_MAX],
        }
    )


def parse_coming(stored: str | None) -> tuple[Sequence[Mapping[str, Any]], int, str | None]:
    """What a row says: the next ones, how many there are, and from when on the image is no pass any more."""
    if stored is None:
        return (), 0, None
    said = json.loads(stored)
    return said["first"], said["count"], said["refuses_at"]


async def tell_coming(
    connection: AsyncConnection, repository: str, digest: str, stored: str | None, *, before: str | None
) -> None:
    """Tell that an image will be no pass from a time on: once for each such time, however often it is judged
    until then. ``before`` is what was stored of it."""
    at = parse_coming(stored)[2]
    if stored is None or at is None or at == parse_coming(before)[2]:
        return
    told = {"digest": digest, "at": at, "reason": json.loads(stored)["reason"]}
    await record_all(connection, "image.will_fail", repository, REGISTRY, [told])
