"""A form that is refused comes again as it was typed; and who was slower than another is told."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from registry.pages.table import PAGES
from registry.pages.visible import visible
from tests.kit.access import Answer, api, ask, make_token, make_user
from tests.kit.everypage import furnish, read_pages
from tests.kit.pagereading import send, send_from, sign_in, visitor, words_of
from tests.kit.retention import pushed, set_policy
from tests.kit.trials import Port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

TYPED = "typed <b>\N{SNOWMAN}</b> & 'this' \N{RIGHT-TO-LEFT OVERRIDE} " * 40
"""It is no name, no number, and too long for a reason."""
LONG = TYPED * 60
"""Too long for a README as well."""
SECRET = "hunter2"
ON = "team/app"
SCOPE = "repository:team/app:pull"
NOT_TYPED = {"hidden", "password", "checkbox"}
ON_NO_PAGE = {
    "/sign-in",
    "/sign-out",
    "/waivers/{waiver_id}/grant",
    "/waivers/{waiver_id}/revoke",
    "/promotions/{promotion_id}/grant",
    "/promotions/{promotion_id}/end",
    "/promotions/{promotion_id}/undo",
}
"""Nothing is typed in these, or they have a page of their own for what is refused."""

TOLD = "/administration/htpasswd-imports"
"""What is wrong with a line is told beside what the others made."""


@dataclass
class Sheet:
    """A form of a page."""

    action: str
    hidden: dict[str, str] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    secret: set[str] = field(default_factory=set)

    def filled(self, words: str) -> dict[str, str]:
        """As a browser sends it, with these words in each field."""
        return self.hidden | dict.fromkeys(self.typed, words) | dict.fromkeys(self.secret, SECRET)


class _Sheets(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Sheet] = []
        self._sheet: Sheet | None = None
        self._area: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._sheet = Sheet(given.get("action", "")) if given.get("method") == "post" else None
            self.found += [self._sheet] if self._sheet else []
        if self._sheet is None or not given.get("name"):
            return
        kind = given.get("type", "text")
        if tag == "textarea" and given.get("autocomplete") == "off":
            self._sheet.secret.add(given["name"])
        elif tag == "textarea":
            self._area = given["name"]
            self._sheet.typed[self._area] = ""
        elif tag == "input" and kind == "hidden":
            self._sheet.hidden[given["name"]] = given.get("value", "")
        elif tag == "input" and kind == "password":
            self._sheet.secret.add(given["name"])
        elif tag == "input" and kind not in NOT_TYPED:
            self._sheet.typed[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = None
        elif tag == "form":
            self._sheet = None

    def handle_data(self, data: str) -> None:
        if self._area and self._sheet:
            self._sheet.typed[self._area] += data


def sheets_of(answer: Answer) -> list[Sheet]:
    """The forms of a page that change something."""
    return _Sheets(answer.body.decode()).found


def sheet_of(answer: Answer, action: str) -> Sheet:
    """That with an address."""
    (found,) = (one for one in sheets_of(answer) if one.action == action)
    return found


async def test_each_form_comes_again_with_what_was_typed(port: Port) -> None:
    values = await furnish(port)
    seen: set[str] = set()
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        pages = {**read_pages(values), "delete": f"/r/{ON}/-/tags/evil/delete"}
        for address in pages.values():
            for sheet in sheets_of(await ask(person, "GET", address)):
                if sheet.action in {*seen, *ON_NO_PAGE, TOLD} or not sheet.typed:
                    continue
                seen.add(sheet.action)
                words = LONG if sheet.action.endswith("/readme") else TYPED
                sent = sheet.filled(words)
                answer = await send(person, port.registry, html.unescape(sheet.action), **sent)
                assert 400 <= answer.status < 500, (sheet.action, answer.status)
                assert 'role="alert"' in answer.body.decode(), sheet.action
                assert "<b>\N{SNOWMAN}" not in answer.body.decode(), sheet.action
                assert SECRET not in answer.body.decode(), sheet.action
                forms = [one for one in sheets_of(answer) if one.action == sheet.action]
                assert sheet.hidden in [one.hidden for one in forms], sheet.action
                again = next(one for one in forms if one.hidden == sheet.hidden)
                kept = {name: visible(value.removeprefix("\n")) for name, value in again.typed.items()}
                assert kept == dict.fromkeys(sheet.typed, visible(words)), sheet.action
    # So many that none was left out because a page could not be read.
    assert len(seen) >= 40, sorted(seen)


def test_each_form_says_on_which_page_it_stands(database_url: str) -> None:
    del database_url
    without = {route.path for route in PAGES if route.method == "POST" and route.stands_on is None}
    assert without == ON_NO_PAGE


async def test_a_name_that_is_taken_is_still_in_its_field(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        wanted = {"name": ON, "visibility": "internal", "gate": "hold"}
        answer = await send(person, port.registry, "/repositories", **wanted)
        assert (answer.status, "there is a repository team/app already" in words_of(answer)) == (409, True)
        page = answer.body.decode()
        assert 'name="name" required maxlength="255" value="team/app"' in page
        assert '<option value="internal" selected>' in page
        assert '<option value="hold" selected>' in page
        missing = await send(person, port.registry, "/repositories", gate="hold")
        assert re.search('name="name"[^>]*aria-invalid="true"', missing.body.decode())
        assert 'aria-describedby="refused name-hint"' in missing.body.decode()


async def test_what_cannot_be_shown_again_is_told_to_be_copied(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        answer = await send(
            person, port.registry, "/r/team/gone/-/signatures", name="release key", secret=SECRET
        )
        assert answer.status == 404
        assert "What you sent, to be copied name release key" in words_of(answer)
        assert SECRET not in answer.body.decode()


async def test_whose_session_is_over_loses_nothing_but_that(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as stranger:
        headers = {"Origin": port.registry.url, "Referer": f"{port.registry.url}/r/team/app/-/signatures"}
        fields = {"name": "release key", "secret": SECRET}
        answer = await send_from(stranger, headers, "/r/team/app/-/signatures", **fields)
        assert answer.status == 401
        assert "What you sent, to be copied name release key" in words_of(answer)
        assert SECRET not in answer.body.decode()
        assert 'name="next" value="/r/team/app/-/signatures"' in answer.body.decode()
        assert 'name="name" value=""' in answer.body.decode()


async def test_a_program_is_told_as_before(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        headers = {"Origin": port.registry.url, "Accept": "application/json"}
        answer = await ask(person, "POST", f"/r/{ON}/-/settings", data={"gate": "?"}, headers=headers)
        assert (answer.status, answer.headers["Content-Type"]) == (400, "application/json")


@dataclass(frozen=True)
class Race:
    """A form, what somebody types into it, and by which request somebody else was faster."""

    page: str
    action: str
    typed: Mapping[str, str]
    request: tuple[str, str, Mapping[str, object]]
    stands: str


RACES = {
    "settings": Race(
        "/r/team/app/-/settings",
        "/r/team/app/-/settings",
        {"visibility": "public", "gate": "off"},
        ("PATCH", "/repositories/team%2Fapp", {"gate": "warn"}),
        "Gate: warns",
    ),
    "trials": Race(
        "/r/team/app/-/settings",
        "/r/team/app/-/settings/trials",
        {"trial_tags": "mine", "turned_bad": "warn"},
        ("PATCH", "/repositories/team%2Fapp", {"trial_tags": ["theirs"]}),
        "theirs",
    ),
    "what is kept": Race(
        "/r/team/app/-/settings",
        "/r/team/app/-/settings/keeping",
        {"trial_keep_days": "9", "log_keep_bytes": "2 GiB"},
        ("PATCH", "/repositories/team%2Fapp", {"trial_keep_days": 30}),
        ": 30",
    ),
    "run spec": Race(
        "/r/team/app/-/run-spec",
        "/r/team/app/-/run-spec",
        {"spec": "version: 1\nexpect: {exit: 7}\n"},
        ("PATCH", "/repositories/team%2Fapp", {"run_spec": {"version": 1, "expect": {"exit": 5}}}),
        "exit: 5",
    ),
    "namespace": Race(
        "/n/team/-/settings",
        "/n/team/-/settings",
        {"gate": "off", "trial_queue_max": "7"},
        ("PATCH", "/namespaces/team", {"trial_queue_max": 5}),
        ": 5",
    ),
    "user": Race(
        "/administration/users/alice",
        "/administration/users/alice/change",
        {"admin": "yes"},
        ("PATCH", "/users/alice", {"auditor": True}),
        "yes",
    ),
    "retention": Race(
        "/retention?on=team/app",
        "/retention",
        {"keep-0-by": "glob", "keep-0-pattern": "mine*", "untagged_days": "9"},
        ("PUT", "/retention", {"on": ON, "untagged_days": 30}),
        ": 30",
    ),
    "findings policy": Race(
        "/r/team/app/-/findings-policy",
        "/r/team/app/-/findings-policy",
        {"rule-0-severity": "high", "rule-0-score": "7.5", "rule-0-then": "warn"},
        ("PUT", "/findings-policy", {"on": ON, "policy": {"version": 1, "advisories_max_age_days": 3}}),
        ": 3",
    ),
    "quota": Race(
        "/quota?on=team/app",
        "/quota",
        {"tags": "9"},
        ("PATCH", "/quota", {"on": ON, "tags": 5}),
        ": 5",
    ),
    "worker": Race(
        "/workers/w",
        "/workers/w/bind",
        {"labels": "mine", "slots": "2"},
        ("PATCH", "/workers/w", {"labels": ["theirs"]}),
        "theirs",
    ),
    "token": Race(
        "/tokens/{token}",
        "/tokens/{token}/change",
        {"name": "mine", "networks": "10.1.0.0/16"},
        ("PATCH", "/tokens/{token}", {"name": "theirs", "networks": ["10.0.0.0/8"]}),
        "theirs",
    ),
    "webhook": Race(
        "/webhooks/{webhook}",
        "/webhooks/{webhook}/change",
        {"url": "https://mine.example/", "kinds": "trial.*"},
        ("PATCH", "/webhooks/{webhook}", {"url": "https://theirs.example/"}),
        "theirs.example",
    ),
    "issuer": Race(
        "/administration/issuers/ci",
        "/administration/issuers/ci/change",
        {
            "name_claim": "mine",
            "conditions": "hd=mine.example",
            **dict.fromkeys(("client_id", "scopes", "groups_claim", "run_url", "commit_claim"), ""),
        },
        ("PATCH", "/issuers/ci", {"name_claim": "theirs"}),
        "theirs",
    ),
    "rule for jobs": Race(
        "/administration/workload-rules/main",
        "/administration/workload-rules/main/change",
        {"audience": "mine", "conditions": "sub=mine", "account": "admin", "scopes": SCOPE, "seconds": "90"},
        ("PATCH", "/workload-rules/main", {"audience": "theirs"}),
        "theirs",
    ),
}


async def made_for(port: Port) -> dict[str, str]:
    """What the races are about; what the webhook's id and the token's are."""
    await port.push(tiny_image())
    await port.worker("w")
    await make_user(port.admin, "alice")
    await api(
        port.admin, "POST", "/issuers", status=201, json={"name": "ci", "url": "https://issuer.example"}
    )
    rule = {"name": "main", "issuer": "ci", "audience": "a", "account": "admin", "scopes": [SCOPE]}
    conditions = [{"claim": "sub", "equals": "x"}]
    await api(port.admin, "POST", "/workload-rules", status=201, json={**rule, "conditions": conditions})
    hook = {"repository": ON, "url": "https://receiver.example/x"}
    token = await make_token(port.admin, SCOPE)
    webhook = await api(port.admin, "POST", "/webhooks", status=201, json=hook)
    return {"webhook": webhook["id"], "token": token["id"]}


@pytest.mark.parametrize("race", RACES.values(), ids=list(RACES))
async def test_who_was_slower_is_told_and_loses_nothing(port: Port, race: Race) -> None:
    ids = await made_for(port)
    page, action = race.page.format(**ids), race.action.format(**ids)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        sheet = with_fields(await ask(person, "GET", page), race.typed)
        sent = sheet.hidden | race.typed
        method, path, body = race.request
        answered = await ask(port.admin, method, f"/api/v1{path.format(**ids)}", json=body)
        assert answered.status in (200, 201), answered.body
        slower = await send(person, port.registry, action, **sent)
        assert slower.status == 412
        said = words_of(slower)
        assert "Somebody changed this after your page was drawn" in said
        assert race.stands in said.partition("What stands now:")[2], said
        again = with_fields(slower, race.typed)
        for name in race.typed.keys() & again.typed.keys():
            assert again.typed[name].removeprefix("\n") == race.typed[name]
        # Sent once more it counts: he has seen what stood.
        assert again.hidden["seen"] != sheet.hidden["seen"]
        assert (await send(person, port.registry, action, **again.hidden | race.typed)).status == 303


async def test_who_mistyped_is_still_told_that_it_changed(port: Port) -> None:
    await port.push(tiny_image())
    path = f"/r/{ON}/-/settings/trials"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        sent = with_fields(await ask(person, "GET", f"/r/{ON}/-/settings"), {"trial_tags": ""}).hidden
        await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"trial_tags": ["theirs"]})
        mistyped = await send(person, port.registry, path, **sent, turned_bad_days="soon")
        assert mistyped.status == 400
        again = with_fields(mistyped, {"trial_tags": ""})
        assert again.typed["turned_bad_days"] == "soon"
        told = await send(person, port.registry, path, **again.hidden, turned_bad_days="3")
        assert (told.status, "theirs" in words_of(told)) == (412, True)
        assert (await api(port.admin, "GET", "/repositories/team%2Fapp"))["trial_tags"] == ["theirs"]


async def test_a_run_is_of_the_policy_that_was_looked_at(port: Port) -> None:
    await pushed(port.admin, "v1", "v2", "keep")
    await set_policy(port.admin, ON, keep=[{"tags": {"by": "glob", "pattern": "*"}}], cap_percent=100)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        looked = sheet_of(await ask(person, "GET", f"/retention/preview?on={ON}"), "/retention/runs")
        await set_policy(port.admin, ON, keep=[{"tags": {"by": "glob", "pattern": "keep"}}], cap_percent=100)
        refused = await send(person, port.registry, "/retention/runs", **looked.hidden)
        assert refused.status == 409
        said = words_of(refused)
        assert "what counts on team/app is not what was looked at any more, and nothing was begun" in said
        assert "From team/app 2 of 3 tags" in said
        assert (await api(port.admin, "GET", f"/retention/runs?on={ON}"))["items"] == []
        begun = await send(
            person, port.registry, "/retention/runs", **sheet_of(refused, "/retention/runs").hidden
        )
        assert begun.status == 303


async def test_a_tag_is_taken_back_from_where_it_was_seen(port: Port) -> None:
    first = await port.push(tiny_image(), tag="1")
    await port.push(tiny_image(), tag="1")
    page = f"/r/{ON}/-/history/1/rollback"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        sheet = sheet_of(await ask(person, "GET", f"{page}?to={first}"), page)
        third = await port.push(tiny_image(), tag="1")
        refused = await send(person, port.registry, page, **sheet.hidden, reason="two is bad")
        assert refused.status == 409
        assert f"team/app:1 stands at {third}, and not at {sheet.hidden['seen']}" in words_of(refused)
        again = sheet_of(refused, page)
        assert (again.typed, again.hidden["seen"]) == ({"reason": "two is bad"}, third)
        assert (await send(person, port.registry, page, **again.hidden | again.typed)).status == 303
    assert (await api(port.admin, "GET", "/repositories/team%2Fapp/tags/1"))["digest"] == first


async def test_a_tag_is_moved_from_where_its_page_showed_it(port: Port) -> None:
    for name in ("1", "2", "3"):
        await port.push(tiny_image(name=name), tag=name)
    page, tags = "/r/team/app/-/tags/1", "/repositories/team%2Fapp/tags"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        sheet = sheet_of(await ask(person, "GET", page), f"{page}/move")
        third = (await api(port.admin, "POST", f"{tags}/1/move", json={"to": "3"}))["digest"]
        refused = await send(person, port.registry, f"{page}/move", **sheet.hidden, to="2", reason="newer")
        assert refused.status == 409
        assert f"team/app:1 stands at {third}, and not at {sheet.hidden['seen']}" in words_of(refused)
        assert (await api(port.admin, "GET", f"{tags}/1"))["digest"] == third
        again = sheet_of(refused, f"{page}/move")
        assert (again.typed, again.hidden["seen"]) == ({"to": "2", "reason": "newer"}, third)
        # After what is wrong in itself he has not seen what stands now.
        wrong = await send(person, port.registry, f"{page}/move", **sheet.hidden, to="no tag")
        assert wrong.status == 400
        assert sheet_of(wrong, f"{page}/move").hidden == sheet.hidden
        done = await send(person, port.registry, f"{page}/move", **again.hidden | again.typed)
        assert done.status == 303
    second = (await api(port.admin, "GET", f"{tags}/2"))["digest"]
    assert (await api(port.admin, "GET", f"{tags}/1"))["digest"] == second


async def test_what_is_promoted_is_what_was_looked_at(port: Port) -> None:
    worker = await port.worker("w")
    for tag in ("1", "2"):
        await port.push(tiny_image(), tag=tag)
        await worker.report(await worker.claim())
    page = f"/promotions/preview?on={ON}&source={ON}:1&tag=stable&reason=good"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        sheet = sheet_of(await ask(person, "GET", page), "/promotions")
        assert sheet.hidden["seen"] == "nowhere"
        await api(port.admin, "POST", "/repositories/team%2Fapp/tags/2/copy", json={"to": "stable"})
        refused = await send(person, port.registry, "/promotions", **sheet.hidden)
        assert refused.status == 409
        assert "team/app:stable stands at" in words_of(refused)
        again = sheet_of(refused, "/promotions")
        await api(port.admin, "POST", "/repositories/team%2Fapp/tags/1/move", json={"to": "2"})
        other = await send(person, port.registry, "/promotions", **again.hidden)
        assert (other.status, "and not at" in words_of(other)) == (409, True)
        last = sheet_of(other, "/promotions")
        assert last.hidden["reason"] == "good"
        assert (await send(person, port.registry, "/promotions", **last.hidden)).status == 303


def with_fields(answer: Answer, names: Iterable[str]) -> Sheet:
    """The form of a page that has fields of all these names, also lists and boxes."""
    body = answer.body.decode()
    parts = re.split(r"(?=<form\b)", body)[1:]
    known = [set(re.findall(r'name="([^"]+)"', part.partition("</form>")[0])) for part in parts]
    (found,) = (part for part, own in zip(parts, known, strict=True) if {"seen", *names} <= own)
    (sheet,) = _Sheets(found.partition("</form>")[0] + "</form>").found
    return sheet
