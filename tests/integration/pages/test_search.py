"""Search: what begins so, what is named in full, who holds a package or what an advisory tells of."""

from __future__ import annotations

import re

from tests.kit.access import api, ask, make_repository
from tests.kit.advisories import affects, record
from tests.kit.distribution import push_image
from tests.kit.matching import advise
from tests.kit.pagecontent import MARKUP, fill
from tests.kit.pagereading import sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.trials import Port, tiny_image

QUERIES_MAX = 6


async def test_what_has_a_name_is_found_by_those_who_may_see_it(port: Port) -> None:
    content = await fill(port)
    for name in ("team/apple", "team/hidden", "teams/app"):
        await make_repository(port.admin, name)
    async with visitor(port.registry) as stranger, visitor(port.registry) as person:
        await sign_in(person, port.registry)

        async def found(client: object, words: str) -> list[str]:
            with sent() as statements:
                answer = await ask(
                    person if client is person else stranger, "GET", "/search", params={"q": words}
                )
            assert answer.status == 200
            assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
            assert "<script>" not in answer.body.decode()
            return re.findall(r'href="(/r/[^"]+)"', answer.body.decode())

        assert await found(person, "team/app") == ["/r/team/app", "/r/team/apple"]
        assert await found(person, "team") == [
            "/r/team/app",
            "/r/team/apple",
            "/r/team/hidden",
            "/r/teams/app",
        ]
        assert await found(stranger, "team") == ["/r/team/app"]
        assert await found(stranger, "team/app:1.0") == ["/r/team/app/-/tags/1.0", "/r/team/app"]
        holder = f"/r/team/app/-/images/{content.hostile}/findings"
        assert await found(person, "lodash") == [holder]
        assert await found(person, "GHSA-evil") == [holder]
        assert await found(stranger, "lodash") == []
        assert await found(person, "") == []
        assert await found(person, f"{MARKUP}") == []
        page = words_of(await ask(person, "GET", "/search", params={"q": MARKUP}))
        assert "Nothing of that name" in page


async def test_an_image_is_found_by_its_digest(port: Port) -> None:
    content = await fill(port)
    await push_image(port.admin, "other/hidden", "1", tiny_image(Env=["A=b"], ExposedPorts={"80/tcp": {}}))
    digest = await push_image(port.admin, "other/hidden", "secret", tiny_image(Env=["ONLY=here"]))
    async with visitor(port.registry) as stranger, visitor(port.registry) as person:
        await sign_in(person, port.registry)
        for words in (content.good, content.good[:15]):
            page = (await ask(stranger, "GET", "/search", params={"q": words})).body.decode()
            assert f'href="/r/team/app/-/images/{content.good}"' in page
            assert "other/hidden" not in page
        assert "Nothing of that name" in words_of(await ask(stranger, "GET", "/search", params={"q": digest}))
        page = (await ask(person, "GET", "/search", params={"q": digest})).body.decode()
        assert f'href="/r/other/hidden/-/images/{digest}"' in page
        assert "secret" in page
    (found,) = await api(port.admin, "GET", f"/images?digest={digest[:20]}")
    assert (found["repository"], found["digest"], found["tags"]) == ("other/hidden", digest, ["secret"])
    async with port.registry.client(anonymous=True) as nobody:
        assert await api(nobody, "GET", f"/images?digest={digest}") == []
    for wrong in ("sha256:1234567", "sha256:1234567G", "12345678", ""):
        await api(port.admin, "GET", f"/images?digest={wrong}", status=400)


async def test_a_vulnerability_is_found_by_each_of_its_names(port: Port) -> None:
    content = await fill(port)
    told = record(
        "GHSA-aaaa-bbbb-cccc",
        affects("npm", "lodash", "introduced=0", "fixed=4.17.19"),
        aliases=["CVE-2026-0001", "SNYK-JS_x"],
    )
    await advise(port, told, day=2)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        for name in ("CVE-2026-0001", "GHSA-aaaa-bbbb-cccc", "SNYK-JS_x"):
            page = (await ask(person, "GET", "/search", params={"q": name})).body.decode()
            assert f'href="/r/team/app/-/images/{content.hostile}/findings"' in page, name
        for name in ("GHSA-aaaa-bbbb-ccc", "GHSA-aaaa_bbbb-cccc", "SNYK-JSax"):
            page = (await ask(person, "GET", "/search", params={"q": name})).body.decode()
            assert "/findings" not in page, name
