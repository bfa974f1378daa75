"""The page of what was found in an image: whose it is, what is excused, files, and the way to a waiver."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from tests.kit.access import api, ask, give_role, make_user
from tests.kit.advisories import CVSS3, affects, record
from tests.kit.images import file, make_image, make_layer
from tests.kit.matching import advise
from tests.kit.pagecontent import MARKUP, VULNERABLE
from tests.kit.pagereading import send, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.scans import SCANNING, make_found, make_package, make_scan
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import Port, make_report, tiny_image

CVE = "CVE-2020-8203"
OLD = make_package("zlib1g", "1:1.2.11")
QUERIES_MAX = 6


async def pushed_on_a_base(port: Port) -> str:
    """An image with a vulnerability of its base's layer and one of its own."""
    worker = await port.worker("w")
    await advise(
        port,
        record(
            CVE,
            affects("npm", "lodash", "introduced=0", "fixed=4.17.19"),
            severity=[{"type": "CVSS_V3", "score": CVSS3}],
        ),
        record("DSA-1", affects("Debian:12", "zlib1g", "introduced=0")),
        day=1,
    )
    lower, upper = make_layer(file("lower", b"l")), make_layer(file("upper", b"u"))
    await port.push(make_image(lower, config={"Cmd": ["/app"]}), repository="base/small", tag="12")
    image = make_image(lower, upper, config={"Cmd": ["/app"]})
    digest = await port.push(image, tag="1")
    for _ in range(2):
        job = await worker.claim(mechanisms=SCANNING)
        lines = {"d": "ADD rootfs", "e": f"RUN npm install {MARKUP}"}
        layers = {
            "layers": [
                {"diff_id": f"sha256:{letter * 64}", "created_by": line} for letter, line in lines.items()
            ]
        }
        packages = (OLD, VULNERABLE | {"layer": 1}) if job["digest"] == digest else (OLD,)
        token = make_found(layer=1, title=f"a token {MARKUP}", remedy="revoke it")
        answer = await worker.post("scan", make_scan(job, *packages, found=[token, make_found()], **layers))
        assert answer.status == 204, answer.body
        assert (await worker.post("report", make_report(job))).status == 204
    return digest


async def test_what_came_with_the_base_is_told_apart(port: Port) -> None:
    digest = await pushed_on_a_base(port)
    path = f"/r/team/app/-/images/{digest}/findings"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        await ask(person, "GET", path)
        with sent() as statements:
            answer = await ask(person, "GET", path)
        assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
        page = words_of(answer)
        assert "Its lowest layer is that of base/small@" in page
        assert (CVE in page, "DSA-1" in page) == (True, True)
        assert b"<script>document" not in answer.body
        own = words_of(await ask(person, "GET", f"{path}?whose=own"))
        assert (CVE in own, "DSA-1" in own) == (True, False)
        base = words_of(await ask(person, "GET", f"{path}?whose=base"))
        assert (CVE in base, "DSA-1" in base) == (False, True)
        assert "layer 1 of the base ADD rootfs" in base
        assert "layer 2 RUN npm install <script>" in own
        secret = f"a token {MARKUP} secret github-token high opt/token ghp_… layer 2 revoke it"
        assert [secret in one for one in (page, own, base)] == [True, True, False]
        assert "a token of GitHub secret github-token high opt/token ghp_… layer 1 of the base" in base
        chosen = (await ask(person, "GET", f"{path}?severity=critical&whose=own")).body.decode()
        assert "a token" not in chosen
        assert re.findall(r'aria-current="true">([^<]+)<', chosen) == ["its own", "critical"]
        assert "severity=high&amp;whose=own" in chosen
        assert (await ask(person, "GET", f"{path}?whose=mine")).status == 400
        # Each file is there for who sees the page.
        links = re.findall(
            r'<a href="(/api/[^"]+/report\?format=([a-z]+))" download="([^"]+)"', answer.body.decode()
        )
        assert [form for _, form, _ in links] == ["table", "json", "sarif", "cyclonedx", "spdx", "openvex"]
        assert {name for *_, name in links} >= {f"team-app-{digest[7:19]}.sarif.json"}
        for link, *_ in links:
            report = await ask(person, "GET", html.unescape(link), headers={"Sec-Fetch-Site": "same-origin"})
            assert report.status == 200, link
        await port.push(tiny_image(), tag="2")
        compared = await ask(person, "GET", f"/r/team/app/-/compare?before={digest}&after=2")
        assert compared.status == 200
        assert 'action="/r/team/app/-/compare"' in answer.body.decode()
        small = await api(port.admin, "GET", "/repositories/base%2Fsmall/tags/12")
        alone = f"/r/base/small/-/images/{small['digest']}/findings?whose=own"
        assert (await ask(person, "GET", alone)).status == 404


async def test_a_finding_leads_to_its_waiver_and_shows_it(port: Port) -> None:
    digest = await pushed_on_a_base(port)
    password = await make_user(port.admin, "pusher")
    await give_role(port.admin, "team/app", "user:pusher", "writer")
    path = f"/r/team/app/-/images/{digest}/findings"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry, name="pusher", password=password)
        page = (await ask(person, "GET", path)).body.decode()
        assert "/-/blocks?kind=package" not in page
        links = [html.unescape(one) for one in re.findall(r'href="(/r/team/app/-/waivers\?[^"]+)"', page)]
        (link,) = [one for one in links if CVE in one]
        assert parse_qs(urlsplit(link).query) == {"digest": [digest], "finding": [CVE], "package": ["lodash"]}
        form = (await ask(person, "GET", link)).body.decode()
        assert all(f'value="{value}"' in form for value in (digest, CVE, "lodash"))
        wanted = {"digest": digest, "finding": CVE, "package": "lodash", "days": "7", "reason": MARKUP}
        assert (await send(person, port.registry, "/r/team/app/-/waivers", **wanted)).status == 303
        answer = await ask(person, "GET", path)
        page = words_of(answer)
        assert "Waiver 1: asked for, ends in 6 days" in page
        assert b"<script>document" not in answer.body
        assert not any(CVE in one for one in re.findall(r'href="(/r/[^"]+)"', answer.body.decode()))
        await api(port.admin, "POST", "/waivers/1/grant")
        assert "Waiver 1: granted" in words_of(await ask(person, "GET", path))
        # Of another image, of another package and what is over are not shown.
        await api(port.admin, "POST", "/waivers/1/revoke")
        other = await port.push(tiny_image(), tag="2")
        for image, package in ((other, "lodash"), (digest, "zlib1g")):
            body = {
                "image": f"team/app@{image}",
                "finding": CVE,
                "package": package,
                "reason": "r",
                "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
            }
            await api(port.admin, "POST", "/waivers", status=201, json=body)
        assert "Waiver" not in words_of(await ask(person, "GET", path)).replace("Waivers", "")


async def test_a_statement_of_vex_stands_beside_its_finding(port: Port) -> None:
    digest = await pushed_on_a_base(port)
    path = f"/r/team/app/-/images/{digest}/findings"
    statement = {
        "vulnerability": {"name": CVE},
        "products": [{"@id": "pkg:npm/lodash"}],
        "status": "not_affected",
        "justification": "component_not_present",
    }
    document = {"@context": "https://openvex.dev/ns/v0.2.0", "author": "us", "statements": [statement]}
    key, other = new_key(), new_key()
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        rule = {"on": "team/app", "name": "ours", "public_pem": public_pem(key)}
        await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
        for one, told in ((other, False), (key, True)):
            bundle = signature_of(digest, one, kind="https://openvex.dev/ns", predicate=document)
            await attach(port.admin, "team/app", digest, bundle)
            await ask(person, "GET", path)  # whoever asks is then known
            with sent() as statements:
                page = words_of(await ask(person, "GET", path))
            assert ("us states: not_affected, component_not_present" in page) == told
            # With a base, waivers and statements of VEX it takes as many as it ever does.
            assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
