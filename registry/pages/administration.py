"""The way to what is about the whole registry: people, what decides, and what the service does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from registry.auth.access import require_auditor
from registry.auth.policy import may_administer
from registry.pages.rendering import Lines, page
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.http.api.routes import Call

Group = Literal["people", "deciding", "service"]


@dataclass(frozen=True, slots=True)
class AdministrationLink:
    """A page that is reached from here. ``key`` is of its texts: ``administration.KEY`` is what it is called,
    ``administration.KEY.says`` what it is for. ``auditors``: whether it is for them too, or for
    administrators only."""

    group: Group
    key: str
    path: str
    auditors: bool = True


ADMINISTRATION: tuple[AdministrationLink, ...] = (
    AdministrationLink("people", "users", "/administration/users"),
    AdministrationLink("people", "groups", "/administration/groups"),
    AdministrationLink("people", "namespaces", "/namespaces"),
    AdministrationLink("people", "robots", "/administration/robots"),
    AdministrationLink("people", "tokens", "/administration/tokens", auditors=False),
    AdministrationLink("people", "issuers", "/administration/issuers", auditors=False),
    AdministrationLink("people", "workload-rules", "/administration/workload-rules", auditors=False),
    AdministrationLink("people", "keys", "/administration/keys", auditors=False),
    AdministrationLink("people", "access", "/access"),
    AdministrationLink("people", "audit", "/administration/audit"),
    AdministrationLink("service", "settings", "/administration/settings", auditors=False),
    AdministrationLink("service", "workers", "/workers", auditors=False),
    AdministrationLink("service", "queue", "/queue", auditors=False),
    AdministrationLink("service", "advisories", "/advisories"),
    AdministrationLink("service", "storage", "/storage", auditors=False),
    AdministrationLink("service", "quotas", "/quotas"),
    AdministrationLink("service", "webhooks", "/webhooks", auditors=False),
    AdministrationLink("service", "promotions", "/promotions"),
)


async def show_administration(call: Call) -> web.Response:
    """Links to those pages that the visitor may see."""
    require_auditor(call.actor, "look at the administration")
    manages = may_administer(call.actor)
    links = [link for link in ADMINISTRATION if manages or link.auditors]
    return page(
        call.request,
        "administration.html",
        title=text("administration.title"),
        groups=[(group, [link for link in links if link.group == group]) for group in get_args(Group)],
        lines=Lines(api=["GET /api/v1/whoami"], cli=["seatrial whoami"]),
    )
