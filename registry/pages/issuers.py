"""OIDC issuers: how each is trusted, which of their groups are ours, and who of them is which user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.errors import ConflictError, UnavailableError
from registry.http.api import issuers
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.http.authentication import base_url
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.claims import conditions_in, require_showable, shown_conditions
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    SENT,
    CursorQuery,
    as_body,
    as_seen,
    field,
    given_body,
    moved,
    read_form,
    require_confirmed,
    unchanged,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from registry.http.api.issuers import Issuer, IssuerCheck

SHOWN = 50
LIST = "/administration/issuers"
ROLES = ("administrator", "auditor")
NULLABLE = ("client_id", "groups_claim", "run_url", "commit_claim")


async def show_issuers(call: Call) -> web.Response:
    """All issuers by name, and a form for another one."""
    cursor = read_query(call.request, CursorQuery, leaves_out_empty=True).cursor
    found = await issuers.list_issuers(call, PageQuery(limit=SHOWN, cursor=cursor))
    return page(
        call.request,
        "issuers.html",
        title=text("administration.issuers"),
        issuers=found.items,
        next_path=LIST + chosen([("cursor", found.next)]) if found.next else None,
        first_path=LIST if cursor else None,
        lines=Lines(
            api=["GET /api/v1/issuers", "POST /api/v1/issuers"],
            cli=["seatrial issuer list", "seatrial issuer create NAME --url URL --client-id ID"],
        ),
    )


async def create_issuer(call: Call) -> web.Response:
    """Trust an issuer; its page has what else is to be said of it."""
    fields = read_form(call)
    wanted = given_body(issuers.NewIssuer, name=field(fields, "name"), url=field(fields, "url"))
    made = await issuers.create_issuer(call, wanted)
    return moved(call, f"{LIST}/{made.name}")


async def show_issuer(call: Call) -> web.Response:
    """An issuer: what its groups are here, and who of it is which user."""
    return await _issuer(call)


async def check_issuer(call: Call) -> web.Response:
    """Ask an issuer what it says of itself, and show that, or why it cannot be used."""
    try:
        return await _issuer(call, check=await issuers.check_issuer(call, _name(call)))
    except UnavailableError as error:
        return await _issuer(call, unavailable=error)


async def change_issuer(call: Call) -> web.Response:
    """Change how its people sign in and what its jobs tell, as it was seen; a secret that is left empty
    stays. All else that is empty is cleared, and so has to be there."""
    fields = read_form(call)
    for name in (*NULLABLE, "scopes", "conditions"):
        field(call.request[SENT].fields, name)
    issuer = await issuers.show_issuer(call, _name(call))
    require_showable(issuer.conditions, f"seatrial issuer set {issuer.name}")
    # Null is said and not left out: nobody signs in, no groups, no address, no commit.
    wanted: dict[str, object] = {name: fields.get(name) for name in NULLABLE}
    wanted |= {
        "scopes": tuple(fields.get("scopes", "").split()),
        "name_claim": fields.get("name_claim", ""),
        "create_accounts": fields.get("create_accounts") == "yes",
        "conditions": conditions_in(fields),
    }
    if "client_secret" in fields:
        wanted["client_secret"] = fields["client_secret"]
    await issuers.change_issuer(call, _name(call), as_body(issuers.IssuerChange, wanted), as_seen(call))
    return moved(call, _path(call))


async def move_issuer(call: Call) -> web.Response:
    """Trust it at another address: its secret and who was whom are forgotten, the tokens of jobs end."""
    fields = read_form(call)
    require_confirmed(fields, _name(call))
    wanted = given_body(issuers.IssuerChange, url=field(fields, "url"))
    await issuers.change_issuer(call, _name(call), wanted, as_seen(call))
    return moved(call, _path(call))


async def delete_issuer(call: Call) -> web.Response:
    """Trust it no longer."""
    require_confirmed(read_form(call), _name(call))
    await issuers.delete_issuer(call, _name(call), NO_CONDITIONS)
    return moved(call, LIST)


async def map_value(call: Call) -> web.Response:
    """Let a value of the groups' claim stand for a group here, or for what a user is. What it stands for
    already is taken away first: the form says nothing of it."""
    fields = read_form(call)
    value, kind = field(fields, "value"), field(fields, "kind")
    issuer = await issuers.show_issuer(call, _name(call))
    if kind in ROLES:
        return await _changed(call, issuer, roles=_with(issuer.roles, value, kind))
    return await _changed(call, issuer, groups=_with(issuer.groups, value, field(fields, "to")))


async def unmap_value(call: Call) -> web.Response:
    """Let a value stand for nothing any more."""
    fields = read_form(call)
    value = field(fields, "value")
    issuer = await issuers.show_issuer(call, _name(call))
    if fields.get("kind") == "role":
        return await _changed(call, issuer, roles=_without(issuer.roles, value))
    return await _changed(call, issuer, groups=_without(issuer.groups, value))


async def link_person(call: Call) -> web.Response:
    """Say which user somebody of an issuer is."""
    fields = read_form(call)
    wanted = given_body(
        issuers.NewIdentity, subject=field(fields, "subject"), account=field(fields, "account")
    )
    await issuers.create_identity(call, _name(call), wanted)
    return moved(call, _path(call))


async def unlink_person(call: Call) -> web.Response:
    """Let somebody of an issuer be no user any more."""
    await issuers.delete_identity(call, _name(call), field(read_form(call), "subject"))
    return moved(call, _path(call))


async def _changed(call: Call, issuer: Issuer, **changes: object) -> web.Response:
    """Change what was just read: another's change in between is not overwritten."""
    wanted = given_body(issuers.IssuerChange, **changes)
    await issuers.change_issuer(call, issuer.name, wanted, unchanged(issuer.etag))
    return moved(call, _path(call))


async def _issuer(
    call: Call, *, check: IssuerCheck | None = None, unavailable: UnavailableError | None = None
) -> web.Response:
    name, path = _name(call), _path(call)
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    issuer = await issuers.show_issuer(call, name)
    people = await issuers.list_identities(call, name, PageQuery(limit=SHOWN, cursor=query.cursor))
    return page(
        call.request,
        "issuer.html",
        title=name,
        issuer=issuer,
        people=people.items,
        conditions="\n".join(shown_conditions(issuer.conditions)),
        check=check,
        refused=unavailable.message if unavailable else "",
        way_back=f"{base_url(call.request)}/oauth/callback/{name}",
        roles=ROLES,
        status=unavailable.status if unavailable else 200,
        path=path,
        next_path=path + chosen([("cursor", people.next)]) if people.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"PATCH /api/v1/issuers/{name}", f"POST /api/v1/issuers/{name}/identities"],
            cli=[
                f"seatrial issuer set {name} --client-id ID --client-secret-file FILE",
                f"seatrial issuer set {name} --group VALUE=GROUP",
                f"seatrial issuer link {name} SUBJECT ACCOUNT",
                f"seatrial issuer check {name}",
            ],
        ),
    )


def _with(mapped: Mapping[str, str], value: str, to: str) -> Mapping[str, str]:
    before = mapped.get(value, to)
    if before != to:
        raise ConflictError(f"{value!r} stands for {before} already; remove that first")
    return {**mapped, value: to}


def _without(given: Mapping[str, str], value: str) -> dict[str, str]:
    return {other: to for other, to in given.items() if other != value}


def _name(call: Call) -> str:
    return call.request.match_info["issuer"]


def _path(call: Call) -> str:
    return f"{LIST}/{_name(call)}"
