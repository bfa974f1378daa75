"""``/api/v1/findings-policy``: which findings of a scan verdicts rest on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from registry.contract.findingspolicy import FindingsPolicy
from registry.errors import NameInvalidError, NameUnknownError, NotFoundError
from registry.http.api.fields import Id, PlaceKey
from registry.http.api.models import Body, Query
from registry.http.api.reasons import numbered
from registry.http.api.routes import Call, Route
from registry.http.parsers import PARSERS
from registry.oci.conditions import Conditions
from registry.trials import findingspolicies as use
from registry.trials import findingspreview


class FindingsPolicyQuery(Query):
    """That of which place."""

    on: PlaceKey


class NewFindingsPolicy(Body):
    """Where it is to count, and the policy as an object or as YAML."""

    on: PlaceKey
    policy: dict[str, Any] | str = Field(examples=[{"version": 1, "vulnerabilities": [{"kev": True}]}])


async def show_findings_policy(call: Call, query: FindingsPolicyQuery) -> use.PlacedPolicy:
    """The policy that counts on a repository or in a namespace: its own, else that of the nearest above."""
    return await use.show(call.services.database, actor=call.actor, on=query.on)


async def put_findings_policy(
    call: Call, body: NewFindingsPolicy, conditions: Conditions
) -> use.PlacedPolicy:
    """Let a policy count on a repository, or in all below a namespace that have no nearer one.

    What is there is judged by it again, without a run.
    """
    wanted = await _parsed(call, body)
    return await use.put(
        call.services.database, actor=call.actor, on=body.on, wanted=wanted, conditions=conditions
    )


class PreviewedPolicy(NewFindingsPolicy):
    """What a policy would do in a place; the images after those of the page that gave the cursor."""

    cursor: Id | None = None


@dataclass(frozen=True, slots=True)
class PreviewPage:
    """The images of a page; `next` is the cursor of the next one, null: there is none."""

    items: Sequence[findingspreview.Previewed]
    next: str | None


async def preview_findings_policy(call: Call, body: PreviewedPolicy) -> PreviewPage:
    """What a policy would make of the images that are there, if it counted; nothing changes.

    Each page reads the scans of twenty images at most. For maintainers, and auditors.
    """
    found = await findingspreview.preview(
        call.services.database,
        call.services.blobs,
        actor=call.actor,
        on=body.on,
        wanted=await _parsed(call, body),
        limit=findingspreview.IMAGES_MAX,
        after=0 if body.cursor is None else numbered(body.cursor, "page"),
        parsers=call.request.app[PARSERS],
    )
    is_full = len(found) == findingspreview.IMAGES_MAX
    return PreviewPage(found, found[-1].cursor if is_full else None)


async def _parsed(call: Call, body: NewFindingsPolicy) -> FindingsPolicy:
    text = body.policy if isinstance(body.policy, str) else json.dumps(body.policy)
    return await call.request.app[PARSERS].run(use.parse_policy, text)


async def clear_findings_policy(call: Call, query: FindingsPolicyQuery, conditions: Conditions) -> None:
    """Take a place's own policy away; one on a namespace above counts then."""
    await use.clear(call.services.database, actor=call.actor, on=query.on, conditions=conditions)


_NOWHERE = (NameInvalidError, NameUnknownError, NotFoundError)
ROUTES = (
    Route("GET", "/findings-policy", "anyone", show_findings_policy, errors=_NOWHERE),
    Route("PUT", "/findings-policy", "anyone", put_findings_policy, errors=_NOWHERE),
    Route("POST", "/findings-policy/preview", "anyone", preview_findings_policy, errors=_NOWHERE),
    Route("DELETE", "/findings-policy", "anyone", clear_findings_policy, errors=_NOWHERE),
)
