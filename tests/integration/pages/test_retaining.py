"""Pages about what a place keeps: its policy, what that would do, its runs; and tags that stand for good."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from registry.content import retaining, tagrules
from tests.integration.pages.test_managing import read
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import send, send_from, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.retention import carry_out, names, preview, pushed, set_policy
from tests.kit.trials import Port

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ON = "team/app"


async def test_a_policy_is_seen_before_it_is_set_and_then_undone(port: Port) -> None:
    await pushed(port.admin, *(f"v{number}" for number in range(5)), "keep")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "No policy counts here" in words_of(await read(person, f"/retention?on={ON}"))
        wanted = {"keep-0-by": "glob", "keep-0-pattern": "keep", "keep-1-pattern": "v*", "keep-1-last": "2"}
        query = "&".join(f"{name}={value}" for name, value in wanted.items())
        seen = await ask(person, "GET", f"/retention/preview?on={ON}&{query}&cap_percent=90")
        assert "From team/app 3 of 6 tags and 0 of 6 images would go." in words_of(seen)
        assert "v0 goes no rule keeps it" in words_of(seen)
        assert "keep stays rule 1 keeps it (glob keep)" in words_of(seen)
        assert "not set. Nothing was deleted" in words_of(seen)
        blown = await ask(person, "GET", f"/retention/preview?on={ON}&{query}&cap_percent=20")
        assert "A run would delete nothing: it would delete 3 of 6 tags" in words_of(blown)
        form = wanted | {"on": ON, "cap_percent": "90", "at": "02:30"}
        for headers in ({"Origin": "https://evil.example"}, {}):
            assert (await send_from(person, headers, "/retention", **form)).status == 403
        for bad in ({"cap": "many"}, {"at": "25:00"}, {"keep-0-last": "0"}, {"keep-0-by": "magic"}):
            assert (await send(person, port.registry, "/retention", **form | bad)).status == 400, bad
        assert (await send(person, port.registry, "/retention", **form)).status == 303
        shown = words_of(await read(person, f"/retention?on={ON}"))
        assert (
            "Tags go, but those that one of these rules keeps: glob keep glob v*: the last 2 by time" in shown
        )
        assert "each day at 02:30 UTC" in shown
        assert len(await names(port.admin)) == 6
        assert (await send_from(person, {}, "/retention/runs", on=ON)).status == 403
        run = await carry_out(port.admin, ON)
        assert await names(port.admin) == {"v3", "v4", "keep"}
        assert f"Run {run['id']} team/app done 3" in words_of(await read(person, f"/retention/runs?on={ON}"))
        path = f"/retention/runs/{run['id']}"
        assert "v0" in words_of(await read(person, path))
        assert (await send_from(person, {"Origin": "null"}, f"{path}/undo")).status == 403
        assert (await send(person, port.registry, f"{path}/undo")).status == 303
        assert len(await names(port.admin)) == 6
        undone = await read(person, path)
        assert "restored" in words_of(undone)
        assert f'action="{path}/undo"' not in undone.body.decode()
        assert (await send(person, port.registry, "/retention/clear", on="a" * 400)).status == 400
        assert (await send(person, port.registry, "/retention/clear", on=ON)).status == 303
        assert "No policy counts here" in words_of(await read(person, f"/retention?on={ON}"))


async def test_a_run_is_begun_by_a_form_also_below_a_namespace(port: Port) -> None:
    await pushed(port.admin, "a1", "b1")
    await set_policy(port.admin, "team/", keep=[{"tags": {"by": "glob", "pattern": "a*"}}], cap_percent=100)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        above = words_of(await read(person, f"/retention?on={ON}"))
        assert "This counts, set on team/" in above
        assert "Take this policy away" not in above
        assert "From team/app 1 of 2 tags" in words_of(
            await ask(person, "GET", "/retention/preview?on=team/")
        )
        begun = await send(person, port.registry, "/retention/runs", on="team/", cap="1")
        assert (begun.status, begun.headers["Location"]) == (303, "/retention/runs?on=team%2F")
        assert "Run 1 team/app" in words_of(await read(person, "/retention/runs?on=team/"))


async def test_what_goes_is_shown_a_page_at_a_time(port: Port) -> None:
    await pushed(port.admin, *(f"t{number}" for number in range(4)))
    policy = {"keep": [{"tags": {"by": "glob", "pattern": "none"}}]}
    whole = await preview(port.admin, ON, policy=policy)
    pages = [await preview(port.admin, ON, policy=policy, limit=3, skip=skip) for skip in (0, 3, 6)]
    assert [one for page in pages for one in page["items"]] == whole["items"]
    assert [page["more"] for page in pages] == [True, False, False]


async def test_a_preview_asks_once_more_for_each_thing_and_each_portion(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six queries; one for each thing that a policy asks about; one for each further portion of tags."""
    monkeypatch.setattr(retaining, "_PAGE", 5)
    simple = [{"tags": {"by": "glob", "pattern": "*"}}]
    asking = [
        {"tags": {"by": "glob", "pattern": "t*"}, "last": 2, "pulled_days": 3},
        {"tags": {"by": "glob", "pattern": "t*"}, "last": 2, "order": "version"},
    ]
    # Versions and pulls that are known, pulls, two orders, what no tag names, old referrers.
    things = 7
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)

        async def asked(**policy: Any) -> int:
            await set_policy(port.admin, ON, **policy)
            path = f"/retention/preview?on={ON}"
            await ask(person, "GET", path)  # whoever asks is then known
            with sent() as statements:
                assert (await ask(person, "GET", path)).status == 200
            return len(statements)

        await pushed(port.admin, *(f"t{number}" for number in range(3)))
        assert await asked(keep=simple) == 6
        # The state of an image comes with its tag.
        whole = {"failed_days": 3, "untagged_days": 3, "referrers_days": 3}
        assert await asked(keep=asking, **whole) == 6 + things
        await pushed(port.admin, *(f"t{number}" for number in range(3, 12)))
        assert await asked(keep=simple) == 6 + 2


async def test_who_may_only_pull_reads_and_changes_nothing(port: Port) -> None:
    await pushed(port.admin, "v1")
    await set_policy(port.admin, ON, untagged_days=7)
    password = await make_user(port.admin, "reader")
    await give_role(port.admin, ON, "user:reader", "reader")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry, name="reader", password=password)
        for path in ("/retention", "/tag-rules", "/retention/runs"):
            page = await read(person, f"{path}?on={ON}")
            assert "<form" not in page.body.decode().partition("<main")[2]
        assert (await ask(person, "GET", f"/retention/preview?on={ON}")).status == 403
        for path in ("/retention", "/retention/clear", "/retention/runs"):
            assert (await send(person, port.registry, path, on=ON, cap="1")).status == 403
        assert (await ask(person, "GET", "/retention?on=other/app")).status == 403


async def test_a_tag_rule_shows_what_it_would_hold(port: Port) -> None:
    await pushed(port.admin, "v1.0.0", "v1.1.0", "latest")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = f"/tag-rules?on={ON}"
        assert "every tag may move" in words_of(await read(person, path))
        seen = words_of(await read(person, f"{path}&by=semver&pattern=%2A&exceptions=v1.1%2A"))
        assert "Tags that * would hold v1.0.0 A new rule" in seen
        assert (await ask(person, "GET", f"{path}&by=regex&pattern=%28")).status == 400
        wanted = {"on": ON, "by": "semver", "pattern": "*", "exceptions": "v1.1*", "reason": MARKUP}
        assert (await send_from(person, {}, "/tag-rules", **wanted)).status == 403
        assert (await send(person, port.registry, "/tag-rules", **wanted)).status == 303
        twice = await send(person, port.registry, "/tag-rules", **wanted | {"reason": "once more"})
        assert twice.status == 409
        assert f"{ON} has this rule already" in words_of(twice)
        (rule,) = await api(port.admin, "GET", f"/tag-rules?on={ON}")
        assert rule["exceptions"] == [{"by": "glob", "pattern": "v1.1*"}]
        page = await read(person, path)
        (look,) = re.findall(r'href="(/tag-rules[^"]+)#held"', page.body.decode())
        looked = words_of(await read(person, html.unescape(look)))
        assert "Tags that * would hold v1.0.0 A new rule" in looked
        long = "%0A".join(f"v{number}-%2A" for number in range(450))
        kept = (await read(person, f"{path}&pattern=v%2A&exceptions={long}")).body.decode()
        assert "v449-*</textarea>" in kept
        (gone,) = re.findall(r'action="(/tag-rules/[0-9]+/delete)"', page.body.decode())
        assert (await send_from(person, {"Origin": "https://evil.example"}, gone, on=ON)).status == 403
        assert (await send(person, port.registry, gone, on=ON)).status == 303
        assert await api(port.admin, "GET", f"/tag-rules?on={ON}") == []
        assert "every tag may move" in words_of(await read(person, "/tag-rules?on=team/"))


async def test_a_tag_rule_is_looked_at_past_what_it_excepts(port: Port) -> None:
    await pushed(port.admin, "v0")
    for number in range(60):
        copy = "/repositories/team%2Fapp/tags/v0/copy"
        await api(port.admin, "POST", copy, json={"to": f"v0.{number}"})
    await api(port.admin, "POST", "/repositories/team%2Fapp/tags/v0/copy", json={"to": "v1"})
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        for exception in ("v0%2A", "semver%3D%3C1.0.0%0Av0%2A"):
            path = f"/tag-rules?on={ON}&pattern=v%2A&exceptions={exception}"
            assert "Tags that v* would hold v1 A new rule" in words_of(await read(person, path))


async def test_a_tag_rule_says_how_far_it_was_looked_at(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not say that it holds none where it has not looked at all; and asks six queries at most."""
    monkeypatch.setattr(tagrules, "_LOOKED_AT", 3)
    await pushed(port.admin, *(f"v{number}" for number in range(10, 24)), "w")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = f"/tag-rules?on={ON}&by=regex&pattern="
        assert "None of the first 12 tags by name" in words_of(await read(person, path + "w"))
        some = words_of(await read(person, path + "v(10|23)"))
        assert "would hold v10 Of the first 12 tags by name" in some
        # What the pattern begins with is looked for by it.
        alone = words_of(await read(person, f"/tag-rules?on={ON}&pattern=w%2A"))
        assert "would hold w A new rule" in alone
        assert "None that is there." in words_of(await read(person, f"/tag-rules?on={ON}&pattern=x%2A"))
