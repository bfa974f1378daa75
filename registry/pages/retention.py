"""What a repository, or all below a namespace, keeps and what goes: the policy, what it would do, runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import Field

from registry.content.administration import require_place
from registry.content.retentionrules import ALL, Order, RetentionPolicy
from registry.content.tagmatching import MatchKind
from registry.http.api import retention
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.pages.places import OnQuery, may, path_on, query_and_fields
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    as_body,
    as_seen,
    field,
    given_body,
    moved,
    read_form,
    require_sure,
    rows_sent,
    whole_number,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from registry.content.retentionrules import KeepRule
    from registry.pages.serving import Fields

SHOWN = 100
SPARE_RULES = 2
"""Empty rows of the form, for rules that are not there yet."""
_NUMBERS = ("failed_days", "untagged_days", "referrers_days", "referrers_last", "every_hours", "cap",
            "cap_percent")  # fmt: skip
_ROWS_MAX = 22


class PreviewQuery(OnQuery):
    """Of which repository of the place, and which part of what goes."""

    skip: int = Field(default=0, ge=0, le=retention.SKIP_MAX)


async def show_policy(call: Call) -> web.Response:
    """The policy that counts in sentences, those above it, and a form for the place's own."""
    on = read_query(call.request, OnQuery, leaves_out_empty=True).on
    found = await retention.list_retention(call, retention.RetentionQuery(on=on))
    return page(
        call.request,
        "retention.html",
        title=text("retention.title", on=on),
        on=on,
        here_tab="retention",
        policies=found,
        own=found[0] if found and found[0].on == on else None,
        manages=may(call, "configure", on) and may(call, "delete", on),
        **_form(call, found[0].policy if found else RetentionPolicy()),
        seen=found[0].etag if found and found[0].on == on else "",
        lines=Lines(
            api=[f"GET /api/v1/retention/policies?on={on}", "PUT /api/v1/retention"],
            cli=[f"seatrial retention list {on}", f"seatrial retention set {on} --keep 'v*,last=5'"],
        ),
    )


async def set_policy(call: Call) -> web.Response:
    """Let what the form says count from now on."""
    fields = read_form(call)
    on = field(fields, "on")
    await retention.put_retention(
        call, given_body(retention.PlacedNewRetention, on=on, **_wanted(fields)), as_seen(call)
    )
    return moved(call, path_on("/retention", on))


async def clear_policy(call: Call) -> web.Response:
    """Take the place's own policy away."""
    fields = read_form(call)
    on = field(fields, "on")
    await require_place(call.services.database, actor=call.actor, action="configure", on=on)
    require_sure(fields, text("sure.retention", on=on), comes_to=text("sure.policy.then"))
    await retention.clear_retention(call, as_body(retention.RetentionQuery, {"on": on}), as_seen(call))
    return moved(call, path_on("/retention", on))


async def preview(call: Call) -> web.Response:
    """What would go now, and why: by the policy that counts, or by what a form says, which nobody set yet.

    With the same form again, to change what it says, or to set it."""
    query, fields = query_and_fields(call, PreviewQuery)
    members = _wanted(fields)
    wanted = given_body(retention.NewRetention, **members) if members else None
    found = await retention.preview_retention(
        call,
        given_body(
            retention.PreviewedRetention,
            on=query.on,
            policy=wanted,
            limit=SHOWN,
            skip=query.skip,
            staying=0 if query.skip else SHOWN,
            cursor=query.cursor,
        ),
    )
    kept = [("on", query.on), *sorted(fields.items())]
    path = "/retention/preview"
    return page(
        call.request,
        "retention-preview.html",
        title=text("retention.preview_title", on=query.on),
        on=query.on,
        here_tab="retention",
        found=found,
        is_set=wanted is None,
        manages=may(call, "delete", query.on),
        **_form(call, RetentionPolicy() if wanted is None else retention.policy_of_body(wanted)),
        seen=call.request.query.get("seen", ""),
        first_path=path + chosen([*kept, ("cursor", query.cursor)]) if query.skip else None,
        next_path=path + chosen([*kept, ("cursor", query.cursor), ("skip", str(query.skip + SHOWN))])
        if found.more and query.skip + SHOWN <= retention.SKIP_MAX
        else None,
        following=path + chosen([*kept, ("cursor", found.next)]) if found.next else None,
        lines=Lines(
            api=["POST /api/v1/retention/preview"],
            cli=[
                f"seatrial retention preview {query.on}",
                f"seatrial retention preview {query.on} --staying",
            ],
        ),
    )


async def begin_run(call: Call) -> web.Response:
    """Carry the policy out now."""
    fields = read_form(call)
    on = field(fields, "on")
    percent = whole_number(fields, "cap_percent")
    wanted = given_body(
        retention.NewRun,
        on=on,
        cap=whole_number(fields, "cap"),
        cap_percent=percent,
        policies=fields.get("seen"),
    )
    await retention.ask_retention(call, wanted)
    return moved(call, path_on("/retention/runs", on))


async def show_runs(call: Call) -> web.Response:
    """The runs at a place, the newest first, and the way to begin one."""
    query = read_query(call.request, OnQuery, leaves_out_empty=True)
    found = await retention.list_retention_runs(
        call, retention.RunsQuery(on=query.on, limit=SHOWN, cursor=query.cursor)
    )
    path = "/retention/runs"
    return page(
        call.request,
        "retention-runs.html",
        title=text("retention.runs_title", on=query.on),
        on=query.on,
        here_tab="retention",
        runs=found.items,
        manages=may(call, "configure", query.on) and may(call, "delete", query.on),
        next_path=path_on(path, query.on, found.next) if found.next else None,
        first_path=path_on(path, query.on) if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/retention/runs?on={query.on}", "POST /api/v1/retention/runs"],
            cli=[f"seatrial retention history {query.on}", f"seatrial retention run {query.on}"],
        ),
    )


async def show_run(call: Call) -> web.Response:
    """What a run has deleted, and why; and a button to bring it back."""
    run_id = call.request.match_info["run_id"]
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    run = await retention.show_retention_run(call, run_id)
    found = await retention.list_items_of(call, run, PageQuery(limit=SHOWN, cursor=query.cursor))
    path = f"/retention/runs/{run.id}"
    is_whole = not query.cursor and not found.next
    is_undone = is_whole and all(item.undone_at is not None for item in found.items)
    return page(
        call.request,
        "retention-run.html",
        title=text("retention.run_title", number=run.id, name=run.repository),
        on=run.repository,
        here_tab="retention",
        run=run,
        items=found.items,
        path=path,
        undoes=run.ended_at is not None
        and not is_undone
        and may(call, "push", run.repository)
        and may(call, "delete", run.repository),
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1{path}/items", f"POST /api/v1{path}/undo"],
            cli=[f"seatrial retention deleted {run.id}", f"seatrial retention undo {run.id}"],
        ),
    )


async def undo_run(call: Call) -> web.Response:
    """Bring some of it back; the page says what is left."""
    run_id = call.request.match_info["run_id"]
    await retention.undo_retention(call, run_id)
    return moved(call, f"/retention/runs/{run_id}")


def _wanted(fields: Fields) -> dict[str, object]:
    """The members of a policy that the form says."""
    rules = [rule for number in range(_ROWS_MAX) if (rule := _rule(fields, f"keep-{number}-"))]
    wanted: dict[str, object] = {"keep": rules} if rules else {}
    wanted |= {name: number for name in _NUMBERS if (number := whole_number(fields, name)) is not None}
    return wanted | ({"at": fields["at"]} if "at" in fields else {})


def _rule(fields: Fields, row: str) -> dict[str, object] | None:
    """A rule of the form; ``None``: its row says nothing."""
    by, pattern = fields.get(f"{row}by", ""), fields.get(f"{row}pattern", "")
    numbers = {name: whole_number(fields, f"{row}{name}") for name in ("last", "pulled_days", "moved_days")}
    rule: dict[str, object] = {name: number for name, number in numbers.items() if number is not None}
    if not rule and not pattern and by != "all":
        return None
    if pattern:
        rule["tags"] = {"by": "glob" if by in ("", "all") else by, "pattern": pattern}
    return rule | ({"order": fields[f"{row}order"]} if f"{row}order" in fields else {})


def _form(call: Call, policy: RetentionPolicy) -> dict[str, Any]:
    """What the form for a policy is drawn with."""
    empty = max(SPARE_RULES, rows_sent(call, "keep") - len(policy.keep))
    rules: Sequence[KeepRule | None] = [*policy.keep, *[None] * empty]
    return {
        "policy": policy,
        "rules": rules[:_ROWS_MAX],
        "kinds": get_args(MatchKind),
        "orders": get_args(Order),
        "all_tags": ALL,
    }
