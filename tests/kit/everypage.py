"""Every page and every form of the table of pages, so that tests hold those too which nobody thought of.

Who adds a page whose path has a new placeholder, or that needs a query, says here what stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from string import Formatter
from urllib.parse import quote

from aiohttp import web

from registry.pages.table import PAGES
from registry.trials.livelog import PIECE_CHARACTERS
from tests.kit.access import api, make_token, make_user
from tests.kit.pagecontent import BAD, ENDLESS, MARKUP, TURNED, Content, fill
from tests.kit.retention import carry_out, set_policy
from tests.kit.trials import Port

QUERIES: Mapping[str, str] = {
    **dict.fromkeys(("/retention", "/retention/preview", "/retention/runs", "/tag-rules"), "?on={name}"),
    **dict.fromkeys(("/quota", "/schedules", "/trial-hooks", "/promotions"), "?on={name}"),
    **dict.fromkeys(("/secrets", "/scanners"), "?on={name}"),
    "/upstreams": "?on={namespace}/",
    "/promotions/preview": "?on={name}&source=team/app:2.0&tag=3.0",
    "/r/{name}/-/history/{tag}/rollback": "?to={digest}",
    "/r/{name}/-/compare": "?before=1.1&after=evil",
    "/trials/{trial}/live": "?wait=0",
    "/search": "?q=lodash",
}
"""Of pages that show nothing without one."""


async def furnish(port: Port) -> dict[str, str]:
    """A registry with something to show on each page, all of it meant to do harm; what stands for each
    placeholder."""
    content = await fill(port)
    await write_much(port)
    place = {"repository": "team/app"}
    hook = {"url": "https://receiver.example/hook", "kinds": ["tag.moved"], **place}
    made = await api(port.admin, "POST", "/webhooks", status=201, json=hook)
    waiver = {"image": f"team/app@{content.bad}", "states": ["fail"], "reason": MARKUP}
    ends = datetime.now(UTC) + timedelta(days=7)
    await api(port.admin, "POST", "/waivers", status=201, json={**waiver, "expires_at": ends.isoformat()})
    await set_to_work(port, content)
    block = {"image": f"team/app@{content.good}", "reason": MARKUP}
    await api(port.admin, "POST", "/gate/block", status=204, json=block)
    secret = {"name": "DB", "value": MARKUP, **place}
    await api(port.admin, "POST", "/secrets", status=201, json=secret)
    token = await make_token(port.admin, "repository:team/app:pull", name=MARKUP[:100])
    await set_policy(port.admin, "team/app", keep=[{"tags": {"by": "glob", "pattern": "*"}}])
    run = await carry_out(port.admin, "team/app")
    await api(port.admin, "PUT", "/robots/team%2Bci", status=201, json={})
    await make_user(port.admin, "alice")
    await api(port.admin, "PUT", "/groups/devs", status=201, json={})
    issuer = {
        "name": "ci",
        "url": "https://issuer.example",
        "groups_claim": "groups",
        "groups": {MARKUP: "devs"},
    }
    await api(port.admin, "POST", "/issuers", status=201, json=issuer)
    rule = {
        "name": "main",
        "issuer": "ci",
        "audience": f"{MARKUP} {TURNED[1:]}",
        "conditions": [{"claim": "sub", "equals": BAD}],
        "account": "team+ci",
        "scopes": ["repository:team/app:pull"],
    }
    await api(port.admin, "POST", "/workload-rules", status=201, json=rule)
    return {
        "name": "team/app",
        "user": "alice",
        "group": "devs",
        "issuer": "ci",
        "rule": "main",
        "worker": "tester",
        "namespace": "team",
        "robot": "ci",
        "run_id": str(run["id"]),
        "tag": "evil",
        "digest": content.hostile,
        "trial": content.trials[content.hostile],
        "waiting": content.trials[content.waiting],
        "webhook_id": made["id"],
        "token_id": token["id"],
    }


async def set_to_work(port: Port, content: Content) -> None:
    """What a place has done by itself, and a promotion."""
    on = {"on": "team/app", "every_hours": 24}
    await api(port.admin, "POST", "/schedules", status=201, json=on)
    hook = {"repository": "team/app", "name": "ci", "call_back": "https://receiver.example/"}
    await api(port.admin, "POST", "/hooks", status=201, json=hook)
    upstream = {"namespace": "team", "name": "hub", "host": "docker.example"}
    await api(port.admin, "POST", "/upstreams", status=201, json=upstream)
    await api(port.admin, "POST", "/repositories", status=201, json={"name": "prod/app"})
    promoted = {"source": f"team/app@{content.good}", "to": "prod/app:1", "reason": MARKUP}
    await api(port.admin, "POST", "/promotions", status=201, json=promoted)
    back = {"source": "prod/app:1", "to": "team/app:promoted", "reason": MARKUP}
    await api(port.admin, "POST", "/promotions", status=201, json=back)


async def write_much(port: Port) -> None:
    """Have a worker begin what waits, and tell of more than is read of a log at once."""
    worker = await port.worker("writing")
    job = await worker.claim()
    told = {"protocol": job["protocol"], "lease": job["lease"], "run": 0, "name": "smoke"}
    for number in range(5):
        text = f"{BAD}\n{ENDLESS}"[: PIECE_CHARACTERS - 100]
        answer = await worker.post("log", told | {"position": number * len(text), "text": text})
        assert answer.status == 200, answer.body


def read_pages(values: Mapping[str, str]) -> dict[str, str]:
    """Where each page is that people read, by its path in the table."""
    found = {}
    for route in PAGES:
        path = _shown_path(route.path)
        if route.method == "GET" and route.asks_who:
            found[path] = _filled(path + QUERIES.get(path, ""), values)
    return found


def sent_forms() -> dict[str, str]:
    """Where each form is sent to, by its path in the table. What it is about need not be there."""
    found = {}
    for route in PAGES:
        path = _shown_path(route.path)
        if route.method == "POST":
            names = {name for _, name, _, _ in Formatter().parse(path) if name}
            found[path] = _filled(path, dict.fromkeys(names, "1"))
    return found


def _shown_path(pattern: str) -> str:
    info = web.UrlDispatcher().add_resource(pattern).get_info()
    return str(info.get("formatter") or info["path"])


def _filled(path: str, values: Mapping[str, str]) -> str:
    if path.startswith("/n/") and "namespace" in values:
        values = {**values, "name": values["namespace"]}
    for _, name, _, _ in Formatter().parse(path):
        assert not name or name in values, f"tests/kit/everypage.py says nothing of {name!r} in {path}"
    return path.format_map({name: quote(value, safe="/:") for name, value in values.items()})
