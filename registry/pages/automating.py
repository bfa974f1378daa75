"""What asks for trials by itself at a place: schedules, hooks that others call, and other registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from registry.contract.sizes import parse_size_bytes
from registry.errors import RequestInvalidError
from registry.events.signatures import Scheme
from registry.http.api import hooks, schedules, upstreams
from registry.http.api.places import PlaceQuery
from registry.http.api.routes import Call, read_query
from registry.http.api.trials import Request, start_trial
from registry.pages.once import show_once
from registry.pages.places import OnQuery, may, named_on, path_on
from registry.pages.rendering import Lines, page
from registry.pages.serving import (
    as_body,
    field,
    given_body,
    moved,
    read_form,
    require_here,
    require_sure,
    whole_number,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


async def show_schedules(call: Call) -> web.Response:
    """When the images of a place are tried again, and a form for another time."""
    on = read_query(call.request, OnQuery, leaves_out_empty=True).on
    return page(
        call.request,
        "schedules.html",
        title=text("schedules.title", on=on),
        on=on,
        here_tab="schedules",
        schedules=await schedules.list_schedules(call, schedules.ScheduleQuery(on=on)),
        manages=may(call, "configure", on),
        lines=Lines(
            api=[f"GET /api/v1/schedules?on={on}", "POST /api/v1/schedules"],
            cli=[f"seatrial schedule list {on}", f"seatrial schedule create {on} --every 24h"],
        ),
    )


async def create_schedule(call: Call) -> web.Response:
    """Have images tried again and again."""
    fields = read_form(call)
    on = field(fields, "on")
    wanted = given_body(
        schedules.NewSchedule,
        on=on,
        every_hours=whole_number(fields, "every_hours"),
        at=fields.get("at"),
        older_hours=whole_number(fields, "older_hours"),
    )
    await schedules.create_schedule(call, wanted)
    return moved(call, path_on("/schedules", on))


async def delete_schedule(call: Call) -> web.Response:
    """Have a schedule no longer."""
    fields = read_form(call)
    on, number = field(fields, "on"), call.request.match_info["schedule_id"]
    here = await schedules.list_schedules(call, as_body(schedules.ScheduleQuery, {"on": on}))
    require_here(is_here=number in [str(one.id) for one in here], what="schedule")
    require_sure(fields, text("sure.schedule", number=number, on=on), comes_to=text("sure.schedule.then"))
    await schedules.delete_schedule(call, number)
    return moved(call, path_on("/schedules", on))


async def show_hooks(call: Call) -> web.Response:
    """Hooks of a place, and a form for another one."""
    query = read_query(call.request, OnQuery, leaves_out_empty=True)
    found = await hooks.list_hooks(call, PlaceQuery(limit=SHOWN, cursor=query.cursor, **named_on(query.on)))
    path = "/trial-hooks"
    return page(
        call.request,
        "hooks.html",
        title=text("hooks.title", on=query.on),
        on=query.on,
        here_tab="trial-hooks",
        hooks=found.items,
        schemes=get_args(Scheme),
        next_path=path_on(path, query.on, found.next) if found.next else None,
        first_path=path_on(path, query.on) if query.cursor else None,
        lines=Lines(
            api=["GET /api/v1/hooks", "POST /api/v1/hooks"],
            cli=["seatrial hook list", "seatrial hook create NAME"],
        ),
    )


async def create_hook(call: Call) -> web.Response:
    """Make a hook, and show its secrets this once."""
    fields = read_form(call)
    on = field(fields, "on")
    mapping: object = "docker"
    if fields.get("mapping") != "docker":
        mapping = {
            name: fields[name] for name in ("image", "repository", "tag", "digest", "spec") if name in fields
        }
    wanted = given_body(
        hooks.NewHook,
        name=field(fields, "name"),
        scheme=fields.get("scheme"),
        mapping=mapping or None,
        call_back=fields.get("call_back"),
        upstream=fields.get("upstream"),
        **named_on(on),
    )
    made = await hooks.create_hook(call, wanted)
    return _secret_once(call, on, made.secret, made.call_back_secret)


async def rotate_hook(call: Call) -> web.Response:
    """Replace the secret of a hook, and show the new one this once."""
    fields = read_form(call)
    on = field(fields, "on")
    body = hooks.HookRotation(at_once="at_once" in fields)
    made = await hooks.rotate_hook(call, await _hook_on(call, on), body)
    return _secret_once(call, on, made.secret)


async def delete_hook(call: Call) -> web.Response:
    """Take no more messages for a hook."""
    fields = read_form(call)
    on = field(fields, "on")
    name = await _hook_on(call, on)
    require_sure(fields, text("sure.hook", name=name), comes_to=text("sure.hook.then"))
    await hooks.delete_hook(call, name)
    return moved(call, path_on("/trial-hooks", on))


async def show_upstreams(call: Call) -> web.Response:
    """Other registries whose images may be tried in a namespace, and a form for another one."""
    query = read_query(call.request, OnQuery, leaves_out_empty=True)
    namespace = _namespace(query.on)
    found = await upstreams.list_upstreams(
        call, upstreams.UpstreamsQuery(namespace=namespace, limit=SHOWN, cursor=query.cursor)
    )
    path = "/upstreams"
    return page(
        call.request,
        "upstreams.html",
        title=text("upstreams.title", on=query.on),
        on=query.on,
        here_tab="upstreams",
        upstreams=found.items,
        manages=may(call, "configure", query.on),
        tries=may(call, "trial", query.on),
        next_path=path_on(path, query.on, found.next) if found.next else None,
        first_path=path_on(path, query.on) if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/upstreams?namespace={namespace}", "POST /api/v1/upstreams"],
            cli=[
                f"seatrial upstream list --namespace {namespace}",
                f"seatrial upstream add NAME HOST --namespace {namespace}",
            ],
        ),
    )


async def add_upstream(call: Call) -> web.Response:
    """Let the writers of a namespace have images of another registry tried."""
    fields = read_form(call)
    on = field(fields, "on")
    size = fields.get("max_bytes", "").replace(" ", "")
    wanted = given_body(
        upstreams.NewUpstream,
        name=field(fields, "name"),
        namespace=_namespace(on),
        host=field(fields, "host"),
        repositories=fields["repositories"].split() if "repositories" in fields else None,
        username=fields.get("username"),
        secret=fields.get("secret"),
        max_bytes=parse_size_bytes(size) if size else None,
    )
    await upstreams.add_upstream(call, wanted)
    return moved(call, path_on("/upstreams", on))


async def try_upstream(call: Call) -> web.Response:
    """Start a trial of an image of another registry, and go to it."""
    fields = read_form(call)
    name = await _upstream_on(call, field(fields, "on"))
    wanted = given_body(Request, image=field(fields, "image"), upstream=name)
    begun = await start_trial(call, wanted)
    return moved(call, f"/trials/{begun.id}")


async def replace_credential(call: Call) -> web.Response:
    """Ask an upstream with another password or token, or with none."""
    fields = read_form(call)
    on = field(fields, "on")
    body = upstreams.NewCredential(username=fields.get("username"), secret=fields.get("secret"))
    await upstreams.replace_upstream_credential(call, await _upstream_on(call, on), body)
    return moved(call, path_on("/upstreams", on))


async def delete_upstream(call: Call) -> web.Response:
    """Forget an upstream."""
    fields = read_form(call)
    on = field(fields, "on")
    name = await _upstream_on(call, on)
    require_sure(fields, text("sure.upstream", name=name), comes_to=text("sure.upstream.then"))
    await upstreams.delete_upstream(call, name)
    return moved(call, path_on("/upstreams", on))


def _secret_once(call: Call, on: str, secret: str, call_back_secret: str | None = None) -> web.Response:
    secrets = [("", secret)]
    if call_back_secret is not None:
        secrets.append((text("hooks.call_back_secret"), call_back_secret))
    return show_once(
        call,
        title=text("hooks.secret"),
        once=text("tokens.once"),
        secrets=secrets,
        hint=text("hooks.hint"),
        back=path_on("/trial-hooks", on),
    )


async def _hook_on(call: Call, on: str) -> str:
    """The hook that the address names, if it is one of the place."""
    hook = await hooks.show_hook(call, call.request.match_info["hook"])
    require_here(is_here=hook.place == on, what="hook")
    return hook.name


async def _upstream_on(call: Call, on: str) -> str:
    """The upstream that the address names, if it is one of the namespace."""
    upstream = await upstreams.show_upstream(call, call.request.match_info["upstream"])
    require_here(is_here=upstream.place == on, what="upstream")
    return upstream.name


def _namespace(on: str) -> str:
    if not on.endswith("/"):
        raise RequestInvalidError("on: other registries are of a namespace, with a slash at its end")
    return on.removesuffix("/")
