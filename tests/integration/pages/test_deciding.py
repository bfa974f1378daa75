"""Pages of what decides who may pull: run specs, the gate, findings policies, signatures, blocks."""

from __future__ import annotations

import html
import re

import pytest

from registry.contract.findingspolicy import RULES_MAX
from registry.contract.specfile import parse_run_spec
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.images import file, make_image, make_layer
from tests.kit.pagecontent import MARKUP, VULNERABLE, fill
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.porting import command
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import Port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PLACE = "/r/team/app/-"
TURNED = "\N{RIGHT-TO-LEFT OVERRIDE}"
SPEC = "version: 1\nenv: {EXPONENT: '1e5', DAY: '2026-01-01', TEXT: \"a\\nb\\n\"}\nexpect:\n  exit: 0\n"


def typed_in(page: bytes) -> str:
    """What stands in the textarea of a run spec."""
    (found,) = re.findall(r'<textarea id="spec".*?>\n(.*?)</textarea>', page.decode(), re.DOTALL)
    return str(found)


async def test_long_lists_of_a_policy_are_not_cut(port: Port) -> None:
    await port.push(tiny_image())
    path, names = f"{PLACE}/findings-policy", [f"LicenseRef-of-a-long-name-{one}" for one in range(100)]
    policy = {"version": 1, "licences": {"deny": names}, "misconfigurations": names}
    await api(port.admin, "PUT", "/findings-policy", json={"on": "team/app", "policy": policy})
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        page = (await read(person, path)).body.decode()
        assert "\n".join(names) in page
        assert " ".join(names) in page
        nowhere = f"/r/{'a' * 400}/-/findings-policy/clear"
        assert (await send(person, port.registry, nowhere)).status == 400


async def test_a_run_spec_is_checked_saved_and_taken_away(port: Port) -> None:
    await port.push(tiny_image())
    path = f"{PLACE}/run-spec"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "has no run spec" in words_of(await read(person, path))
        assert "version: 1" in typed_in((await read(person, f"{path}?example=web-server")).body)
        assert (await ask(person, "GET", f"{path}?example=none")).status == 400
        wrong = f"version: 1\nexpect:\n  exits: 0\n# {MARKUP}\n"
        for where in (path, f"{path}/check", f"{path}/try"):
            answer = await send(person, port.registry, where, spec=wrong, image="1")
            assert answer.status == 400
            assert "Line 3, column 3: expect.exits : there is no such key; did you mean 'exit'?" in words_of(
                answer
            )
            assert "<script>" not in answer.body.decode()
            assert "<script>" in html.unescape(typed_in(answer.body))
        assert (await api(port.admin, "GET", "/repositories/team%2Fapp"))["run_spec"] is None
        turned = f"# {TURNED}\n{wrong}"
        for where in (path, f"{path}/check"):
            assert TURNED not in (await send(person, port.registry, where, spec=turned)).body.decode(), where
        turned = f"version: 1\nenv: {{A: 'a{TURNED}'}}\n"
        assert TURNED not in (await send(person, port.registry, f"{path}/check", spec=turned)).body.decode()
        checked = await send(person, port.registry, f"{path}/check", spec=SPEC)
        assert checked.status == 200
        assert "It can be used:" in words_of(checked)
        assert "the command exits 0" in words_of(checked)
        too_long = "version: 1\nattempts: 5\nlimits: {wall_seconds: 800}\nexpect: {exit: 0}\n"
        refused = await send(person, port.registry, f"{path}/check", spec=too_long)
        assert (refused.status, "ceiling of wall_seconds" in words_of(refused)) == (400, True)
        for headers in ({"Origin": "https://evil.example"}, {}):
            assert (await send_from(person, headers, path, spec=SPEC)).status == 403
        assert (await send(person, port.registry, path, spec=SPEC)).status == 303
        told = await api(port.admin, "GET", "/repositories/team%2Fapp")
        assert told["run_spec"]["env"] == {"EXPONENT": "1e5", "DAY": "2026-01-01", "TEXT": "a\nb\n"}
        # What is shown says the same again.
        page = await read(person, path)
        shown = html.unescape(typed_in(page.body))
        assert parse_run_spec(shown) == parse_run_spec(SPEC)
        assert (await send(person, port.registry, f"{path}/clear")).status == 303
        assert (await api(port.admin, "GET", "/repositories/team%2Fapp"))["run_spec"] is None


async def test_an_image_is_tried_by_a_run_spec_that_is_not_saved(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    await worker.report(await worker.claim())
    password = await make_user(port.admin, "pusher")
    await give_role(port.admin, "team/app", "user:pusher", "writer")
    path = f"{PLACE}/run-spec"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry, name="pusher", password=password)
        page = words_of(await read(person, path))
        assert "Save it" not in page
        assert "Try an image by it now" in page
        for image in ("none", "", "no tag"):
            answer = await send(person, port.registry, f"{path}/try", spec=SPEC, image=image)
            assert answer.status in (400, 404), image
            assert "EXPONENT" in typed_in(answer.body)
        assert (await send(person, port.registry, path, spec=SPEC)).status == 403
        for image in ("1", digest):
            started = await send(person, port.registry, f"{path}/try", spec=SPEC, image=image)
            assert started.status == 303
            job = await worker.claim()
            assert job["spec"]["expect"]["exit"] == 0
            await worker.report(job)
            assert started.headers["Location"].startswith("/trials/")
        assert "another one:" in words_of(await read(person, path))


async def test_a_stricter_gate_is_seen_before_it_is_set(port: Port) -> None:
    worker = await port.worker("w")
    await port.push(tiny_image())
    await worker.report(await worker.claim(), met=False, exit_code=3)
    await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"gate": "warn"})
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert (await port.pull("1")).status == 200
        assert port.registry.services is not None
        await port.registry.services.pulls.flush(port.database)
        asked = await send(person, port.registry, f"{PLACE}/settings", gate="enforce", visibility="private")
        assert asked.headers["Location"] == f"{PLACE}/gate?gate=enforce&visibility=private"
        assert (await api(port.admin, "GET", "/repositories/team%2Fapp"))["gate"] == "warn"
        page = await ask(person, "GET", asked.headers["Location"])
        assert "1 of the images that were pulled in the last 30 days would be refused" in words_of(page)
        assert "are refused" in words_of(page)
        assert "admin (may push)" in words_of(page)
        assert 'href="/r/team/app/-/tags/1"' in page.body.decode()
        for headers in ({"Origin": "null"}, {}):
            assert (await send_from(person, headers, f"{PLACE}/gate", gate="enforce")).status == 403
        assert (await send(person, port.registry, f"{PLACE}/gate", gate="strict")).status == 400
        assert (await send(person, port.registry, f"{PLACE}/gate", gate="enforce")).status == 303
        assert "Enforces" in words_of(await read(person, f"{PLACE}/gate")).replace("enforces", "Enforces")
        assert (await port.pull("1")).status == 403
        for hours in ("0", "169", "x", "1" * 400):
            wanted = {"namespace": "team", "hours": hours, "reason": "a release"}
            assert (await send(person, port.registry, f"{PLACE}/gate/pause", **wanted)).status == 400
        wanted = {"namespace": "team", "hours": "2", "reason": MARKUP}
        assert (await send(person, port.registry, f"{PLACE}/gate/pause", **wanted)).status == 303
        assert MARKUP in words_of(await read(person, f"{PLACE}/gate"))
        assert (await port.pull("1")).status == 200
        assert (await send(person, port.registry, f"{PLACE}/gate/resume", namespace="team")).status == 303
        assert (await port.pull("1")).status == 403


async def test_a_findings_policy_is_filled_in_seen_and_counts(port: Port) -> None:
    content = await fill(port)
    path = f"{PLACE}/findings-policy"
    wanted = {
        "rule-0-severity": "low",
        "rule-0-then": "warn",
        "rule-0-kev": "yes",
        "rule-1-then": "fail",
        "rule-4-fixable": "yes",
        "rule-4-then": "fail",
        "malware": "info",
        "deny": "AGPL-*\nGPL-3.0-only WITH Classpath-exception-2.0",
        "licences-then": "fail",
        "misconfigurations": "ST-USER-ROOT ST-OTHER",
        "advisories_max_age_days": "3000",
        **dict.fromkeys(
            ("scan_missing", "licence_unknown", "ecosystem_not_covered", "advisories_missing"), "warn"
        ),
        **dict.fromkeys(("incomplete", "version_unknown", "severity_unknown"), "error"),
    }
    async with visitor(port.registry) as person, visitor(port.registry) as stranger:
        await sign_in(person, port.registry)
        assert "No findings policy counts here" in words_of(await read(person, path))
        assert "Let it count" not in words_of(await read(stranger, path))
        assert (await send(stranger, port.registry, f"{path}/preview", **wanted)).status == 401
        bad = await send(person, port.registry, f"{path}/preview", **wanted | {"rule-4-epss": "much"})
        assert bad.status == 400
        assert "Rule 5 epss: " in words_of(bad)
        assert re.search('name="rule-4-epss"[^>]*aria-invalid="true"', bad.body.decode())
        assert 'value="much"' in bad.body.decode()
        strange = await send(person, port.registry, path, **wanted | {"deny": f"No-Such\n{MARKUP}"})
        assert strange.status == 400
        assert "<script>" not in strange.body.decode()
        seen = await send(person, port.registry, f"{path}/preview", **wanted)
        assert seen.status == 200
        assert "would be refused by what was found in them" in words_of(seen)
        assert content.hostile[:19] in words_of(seen)
        assert "GHSA-evil in lodash" in words_of(seen)
        assert "No findings policy counts here" in words_of(await read(person, path))
        for headers in ({"Origin": "https://evil.example"}, {}):
            assert (await send_from(person, headers, path, **wanted)).status == 403
        assert (await send(person, port.registry, path, **wanted)).status == 303
        told = await api(port.admin, "GET", "/findings-policy", params={"on": "team/app"})
        assert told["policy"]["vulnerabilities"] == [
            {"kev": True, "severity": "low", "then": "warn"},
            {"fixable": True},
        ]
        page = words_of(await read(person, path))
        assert "Refused: a vulnerability of which all of this holds: with a fix." in page
        assert "by the policy of this repository" in page
        # The form that is shown says the same again.
        fields = {"scan_missing": "fail"} | {
            key: value for key, value in wanted.items() if key != "scan_missing"
        }
        assert (await send(person, port.registry, path, **fields)).status == 303
        assert (await send(person, port.registry, f"{path}/clear")).status == 303
        assert (await send(person, port.registry, f"{path}/clear")).status == 404
        await api(
            port.admin,
            "PUT",
            "/findings-policy",
            json={"on": "team/", "policy": {"version": 1, "secrets": "high"}},
        )
        page = words_of(await read(person, path))
        assert "by the policy of team/" in page
        assert "Take the policy away" not in page


@pytest.mark.parametrize("age", ["0", "-0", "1_0", "\u0663", "1e1", "inf"])
async def test_what_is_no_age_of_advisories_is_refused_as_the_api_does(port: Port, age: str) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        path = "/r/team/app/-/findings-policy"
        answer = await send(person, port.registry, path, malware="high", advisories_max_age_days=age)
        assert answer.status == 400
        assert "advisories_max_age_days" in words_of(answer)


async def test_no_number_of_a_row_makes_a_large_page(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        wrong = {"rule-999-then": "x", "advisories_max_age_days": "x"}
        answer = await send(person, port.registry, "/r/team/app/-/findings-policy", **wrong)
        assert answer.status == 400
        rows = set(re.findall(r'name="rule-([0-9]+)-severity"', answer.body.decode()))
        assert rows == {str(number) for number in range(RULES_MAX)}


async def test_signatures_are_required_met_and_no_longer(port: Port) -> None:
    await api(
        port.admin, "POST", "/repositories", status=201, json={"name": "team/app", "visibility": "public"}
    )
    signed, unsigned = await port.push(tiny_image(), tag="1"), await port.push(tiny_image(), tag="2")
    key = new_key()
    await attach(port.admin, "team/app", signed, signature_of(signed, key))
    path = f"{PLACE}/signatures"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "No signature is required" in words_of(await read(person, path))
        bad = await send(person, port.registry, path, name=MARKUP, public_pem="-----BEGIN")
        assert bad.status == 400
        assert "public_pem" in words_of(bad)
        assert b"-----BEGIN</textarea>" in bad.body
        wanted = {"name": "the release key", "public_pem": public_pem(key)}
        for headers in ({"Origin": "null"}, {}):
            assert (await send_from(person, headers, path, **wanted)).status == 403
        assert (await send(person, port.registry, path, **wanted)).status == 303
        page = await read(person, path)
        assert f"1 yes the release key {signed[:19]}" in words_of(page)
        assert f"2 no — {unsigned[:19]}" in words_of(page)
        found = await api(port.admin, "GET", "/repositories/team%2Fapp/signatures", params={"limit": 1})
        assert found == {
            "items": [{"tag": "1", "digest": signed, "signed": True, "rules": ["the release key"]}],
            "next": "1",
        }
        above = {"on": "team/", "name": "our pipeline", "issuer": "https://issuer.example", "subject": "ci"}
        await api(port.admin, "POST", "/signature-rules", status=201, json=above)
        page = await read(person, path)
        assert "our pipeline ci as named by https://issuer.example team/" in words_of(page)
        assert f"1 no the release key {signed[:19]}" in words_of(page)
        (rule,) = re.findall(r'name="rule" value="([0-9]+)"', page.body.decode())
        assert (await send(person, port.registry, f"{path}/remove", rule=rule)).status == 303
        assert (await send(person, port.registry, f"{path}/remove", rule=rule)).status == 404


async def test_a_block_is_seen_before_it_is_made(port: Port) -> None:
    content = await fill(port)
    path = f"{PLACE}/blocks"
    wanted = {"kind": "package", "what": "npm/lodash<4.17.19", "on": "team/app"}
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "Nothing is blocked" in words_of(await read(person, path))
        began = (await read(person, f"{path}?kind=package&what=npm/{VULNERABLE['name']}")).body.decode()
        assert 'value="npm/lodash"' in began
        for what in ("lodash", MARKUP, "npm/lodash<x"):
            answer = await send(person, port.registry, f"{path}/preview", **wanted | {"what": what})
            assert answer.status == 400
            assert "<script>" not in answer.body.decode()
        seen = await send(person, port.registry, f"{path}/preview", **wanted)
        assert "Images that it would refuse now: 1" in words_of(seen)
        assert f"team/app@{content.hostile[:19]} evil lodash 4.17.15 no" in words_of(seen)
        newer = await send(person, port.registry, f"{path}/preview", **wanted | {"what": "npm/lodash>=5"})
        assert "Images that it would refuse now: 0" in words_of(newer)
        assert (await send(person, port.registry, path, **wanted)).status == 400  # no reason
        assert (await port.pull(content.good)).status == 200
        one = {"kind": "image", "what": content.good, "on": "team/"}
        image = await send(person, port.registry, f"{path}/preview", **one)
        assert f"team/app@{content.good[:19]} 1.0 — no" in words_of(image)
        for headers in ({"Origin": "null"}, {}):
            assert (await send_from(person, headers, path, **wanted, reason="r")).status == 403
        one |= {"on": "team/app", "reason": MARKUP}
        assert (await send(person, port.registry, path, **one)).status == 303
        assert (await port.pull(content.good)).status == 403
        page = await read(person, path)
        assert MARKUP in words_of(page)
        (block,) = re.findall(r'name="block" value="([0-9]+)"', page.body.decode())
        layer = {"kind": "layer", "what": "sha256:" + "0" * 64, "on": "*"}
        nothing = await send(person, port.registry, f"{path}/preview", **layer)
        assert "Images that it would refuse now: 0" in words_of(nothing)
        assert (await send(person, port.registry, f"{path}/lift", block=block)).status == 303
        assert (await port.pull(content.good)).status == 200


async def test_many_blocks_and_many_images_are_asked_for_at_once(port: Port) -> None:
    """A page of blocks, and one of what a block would refuse, take six queries however many they show."""
    layer = make_layer(file("shared", b"s"))
    for number in range(10):
        image = make_image(layer, config={"Cmd": ["/app"], "User": f"{number}"})
        digest = await port.push(image, tag=f"v{number}")
        await port.push(image, tag=f"also{number}")
        block = {"on": "team/app", "digest": digest, "reason": f"number {number}"}
        await api(port.admin, "POST", "/gate/blocks", status=201, json=block)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        words = words_of(await read(person, f"{PLACE}/blocks"))
        assert all(f"number {number}" in words for number in range(10))
        wanted = {"kind": "layer", "what": layer.digest, "on": "team/app"}
        with sent() as statements:
            seen = words_of(await send(person, port.registry, f"{PLACE}/blocks/preview", **wanted))
        assert "Images that it would refuse now: 10" in seen
        assert "also3, v3" in seen
        # Whoever sends a form is looked up once more.
        asked = [one.text for one in statements if "FROM sessions" not in one.text]
        assert len(asked) <= 6, asked


async def test_a_narrower_visibility_is_seen_before_it_is_set(port: Port) -> None:
    await api(
        port.admin,
        "POST",
        "/repositories",
        status=201,
        json={"name": "team/app", "visibility": "public", "gate": "off"},
    )
    await port.push(tiny_image())
    member, outsider = await make_user(port.admin, "member"), await make_user(port.admin, "outsider")
    await make_user(port.admin, "gone")
    await give_role(port.admin, "team/app", "user:member", "reader")
    assert port.registry.services is not None
    for name, password in (("member", member), ("outsider", outsider), (None, None)):
        options = {"anonymous": True} if name is None else {}
        async with port.registry.client(password, user=name, **options) as client:
            assert (await ask(client, "GET", "/v2/team/app/manifests/1")).status == 200
    await port.registry.services.pulls.flush(port.database)

    async def losing(visibility: str, **query: str) -> list[str]:
        path = "/repositories/team%2Fapp/visibility/preview"
        page = await api(port.admin, "GET", path, params={"visibility": visibility, **query})
        return [one["actor"] for one in page["items"]]

    assert await losing("private") == ["anonymous", "outsider"]
    assert await losing("internal") == ["anonymous"]
    assert await losing("public") == []
    assert await losing("private", limit="1") == ["anonymous"]
    assert await losing("private", cursor="anonymous") == ["outsider"]
    assert await losing("private", since="2999-01-01T00:00:00Z") == []
    assert "2 of those who pulled could not any more" in await command(port, "repo", "preview", "team/app")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        wider = {"visibility": "public", "gate": "off"}
        assert (await send(person, port.registry, f"{PLACE}/settings", **wider)).headers[
            "Location"
        ] == f"{PLACE}/settings"
        asked = await send(person, port.registry, f"{PLACE}/settings", visibility="private", gate="off")
        assert asked.headers["Location"] == f"{PLACE}/gate?gate=off&visibility=private"
        page = words_of(await ask(person, "GET", asked.headers["Location"]))
        assert "anonymous : pulls: 1," in page
        assert "outsider : pulls: 1," in page
        assert "member :" not in page
        assert (await api(port.admin, "GET", "/repositories/team%2Fapp"))["visibility"] == "public"
        assert (
            await send(person, port.registry, f"{PLACE}/gate", visibility="private", gate="off")
        ).status == 303
        assert (await api(port.admin, "GET", "/repositories/team%2Fapp"))["visibility"] == "private"
