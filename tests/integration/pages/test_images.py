"""The pages of repositories and images: what they say, to whom, at what cost, whatever the image says."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.kit.access import api, ask, give_role, make_user
from tests.kit.distribution import push_image
from tests.kit.images import file, make_image, make_index, make_layer
from tests.kit.pagecontent import MARKUP, TURNED, Content, fill
from tests.kit.pagereading import HTML, read, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import Port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

QUERIES_MAX = 6
PAGES = (
    "/r/team/app",
    "/r/team/app?find=1&state=pass&order=updated",
    "/r/team/app/-/tags/1.0",
    "/r/team/app/-/tags/1.1",
    "/r/team/app/-/tags/1.2",
    "/r/team/app/-/tags/2.0",
    "/r/team/app/-/tags/evil",
    "/r/team/app/-/images/{hostile}",
    "/r/team/app/-/images/{referrer}",
    "/r/team/app/-/images/{hostile}/referrers",
    "/r/team/app/-/images/{bad}/trials",
)
FOR_WRITERS = ("/r/team/app/-/images/{hostile}/findings", "/r/team/app/-/images/{index}/findings")


def paths(content: Content, *more: str) -> list[str]:
    digests = {name: getattr(content, name) for name in ("good", "bad", "index", "hostile", "referrer")}
    return [path.format(**digests) for path in (*PAGES, *more)]


async def test_each_page_is_whole_harmless_and_cheap(port: Port) -> None:
    content = await fill(port)
    async with visitor(port.registry) as writer, visitor(port.registry) as stranger:
        await sign_in(writer, port.registry)
        for client, wanted in ((writer, paths(content, *FOR_WRITERS)), (stranger, paths(content))):
            for path in wanted:
                await ask(client, "GET", path)  # whoever asks is then known
                with sent() as statements:
                    answer = await ask(client, "GET", path)
                assert answer.status == 200, (path, answer.body[-2000:])
                assert len(statements) <= QUERIES_MAX, (path, [one.text for one in statements])
                text = answer.body.decode()
                assert "<script>" not in text, path
                assert "<img src=x" not in text, path
                assert TURNED[0] not in text, path
                assert re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) is None, path
                assert len(answer.body) < 100_000, path
                assert "The same from a program" in words_of(answer)


async def test_a_refused_image_takes_no_more_whatever_could_let_it_pass(port: Port) -> None:
    """It failed, signatures are required, it has them; a waiver of an index that lists it, and a pause."""
    worker, key = await port.worker("w"), new_key()
    index = await port.push(make_index(tiny_image()), tag="1")
    job = await worker.claim()
    assert (await worker.report(job, met=False, exit_code=1)).status == 204
    rule = {"on": "team/", "name": "ours", "public_pem": public_pem(key)}
    await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
    await attach(port.admin, "team/app", job["digest"], signature_of(job["digest"], key))
    password = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/app", "user:reader", "reader")
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    path = f"/r/team/app/-/images/{job['digest']}"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry, name="reader", password=password)

        async def words() -> str:
            return words_of(await read(person, path))

        assert "failed its trial" in await words()
        pause = {"namespace": "team", "until": ends, "reason": "a move"}
        await api(port.admin, "POST", "/gate/pauses", status=201, json=pause)
        assert "a move" in await words()
        waiver = {"image": f"team/app@{index}", "states": ["fail"], "reason": "we know", "expires_at": ends}
        await api(port.admin, "POST", "/waivers", status=201, json=waiver)
        await api(port.admin, "POST", "/waivers/1/grant")
        assert "we know" in await words()


async def test_tags_come_in_order_and_by_what_is_asked_for(port: Port) -> None:
    await fill(port)
    async with visitor(port.registry) as stranger:

        async def tags(query: str) -> list[str]:
            page = (await ask(stranger, "GET", f"/r/team/app?{query}")).body.decode()
            return re.findall(r"/-/tags/([^\"]+)\"", page)

        assert await tags("") == ["2.0", "1.2", "1.1", "1.0", "evil"]
        assert await tags("order=name") == ["1.0", "1.1", "1.2", "2.0", "evil"]
        assert await tags("state=fail&find=&order=name") == ["1.1", "evil"]
        assert await tags("find=1.&order=name") == ["1.0", "1.1", "1.2"]
        assert await tags("find=*0&order=name") == ["1.0", "2.0"]
        assert await tags("find=nothing") == []
        for length in (198, 199, 200, 201):
            assert (await ask(stranger, "GET", f"/r/team/app?find={'x' * length}")).status == 400, length
        assert (await ask(stranger, "GET", "/r/team/app?order=size")).status == 400


async def test_pages_of_tags_follow_each_other(port: Port) -> None:
    image = tiny_image()
    for number in range(60):
        await push_image(port.admin, "team/many", f"1.{number}", image)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        seen, path = [], "/r/team/many"
        while path:
            page = (await ask(person, "GET", path)).body.decode()
            seen += re.findall(r"/-/tags/([^\"]+)\"", page)
            path = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        assert seen == [f"1.{number}" for number in reversed(range(60))]


async def test_why_an_image_is_refused_is_told_and_what_is_in_it_is_not(port: Port) -> None:
    content = await fill(port)
    async with visitor(port.registry) as stranger, visitor(port.registry) as writer:
        for path in ("/r/team/app/-/tags/1.1", f"/r/team/app/-/images/{content.bad}"):
            refused = words_of(await ask(stranger, "GET", path))
            assert f"team/app@{content.bad} failed its trial: expected: exit code is 0" in refused
            assert "seen: exit code 3" in refused
            assert "You may not pull it: the gate enforces and the state is fail." in refused
            assert "What it is made of is not shown" in refused
            assert "Configuration" not in refused
        waits = words_of(await ask(stranger, "GET", "/r/team/app/-/tags/1.2"))
        assert "is still being tried" in waits
        await sign_in(writer, port.registry)
        shown = words_of(await ask(writer, "GET", "/r/team/app/-/tags/1.1"))
        assert "who may push reads what was pushed" in shown
        assert "Configuration" in shown
        await api(
            port.admin, "POST", "/gate/block", status=204, json={"image": "team/app:1.0", "reason": MARKUP}
        )
        blocked = await ask(writer, "GET", "/r/team/app/-/tags/1.0")
        assert "is blocked: <script>" in words_of(blocked)
        assert "Configuration" not in words_of(blocked)


async def test_an_image_is_shown_with_layers_platforms_and_commands(port: Port) -> None:
    content = await fill(port)
    async with visitor(port.registry) as stranger:
        one = words_of(await ask(stranger, "GET", "/r/team/app/-/tags/1.0"))
        assert f"podman pull {port.registry.host}/team/app:1.0" in one
        assert f"image: {port.registry.host}/team/app@{content.good}" in one
        assert "80/tcp" in one
        assert "A=b" in one
        many = words_of(await ask(stranger, "GET", "/r/team/app/-/tags/2.0"))
        assert "linux/amd64" in many
        assert "linux/arm64" in many
        about = await ask(stranger, "GET", f"/r/team/app/-/images/{content.referrer}")
        assert f"/-/images/{content.hostile}" in about.body.decode()


async def test_findings_are_for_those_who_may_push(port: Port) -> None:
    content = await fill(port)
    path = f"/r/team/app/-/images/{content.hostile}/findings"
    async with visitor(port.registry) as stranger, visitor(port.registry) as writer:
        assert (await ask(stranger, "GET", path)).status == 401
        assert "/findings" not in (await ask(stranger, "GET", "/r/team/app/-/tags/evil")).body.decode()
        await sign_in(writer, port.registry)
        found = words_of(await ask(writer, "GET", path))
        assert "GHSA-evil <script>" in found
        assert "4.17.15 Mended" not in found
        assert "4.17.19" in found
        unscanned = f"/r/team/app/-/images/{content.waiting}/findings"
        assert "nothing is known of what is in it" in words_of(await ask(writer, "GET", unscanned))


async def test_strangers_cannot_tell_what_is_private_from_what_is_not(port: Port) -> None:
    await push_image(port.admin, "team/hidden", "1", tiny_image())
    async with port.registry.client(anonymous=True) as stranger:
        for rest in ("", "/-/tags/1", "/-/images/sha256:" + "0" * 64):
            pages = []
            for name in ("team/hidden", "team/absent"):
                answer = await ask(stranger, "GET", f"/r/{name}{rest}", headers=HTML)
                assert answer.status == 401
                body = answer.body.decode().replace(name, "IT").replace(answer.headers["X-Request-ID"], "ID")
                pages.append(body)
            assert pages[0] == pages[1]
            assert "Sign in first" in pages[0]


async def test_layers_are_a_picture(port: Port) -> None:
    layers = [make_layer(file(name, name.encode() * 4000)) for name in ("a", "b", "c")]
    await port.push(make_image(*layers, config={"Cmd": ["/a"]}), tag="layers")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        page = (await ask(person, "GET", "/r/team/app/-/tags/layers")).body.decode()
        picture = page.partition('<svg class="stack"')[2].partition("</svg>")[0]
        drawn = [
            (float(x), float(width)) for x, width in re.findall(r'x="([\d.]+)" width="([\d.]+)"', picture)
        ]
        assert len(drawn) == 3
        assert drawn[0][0] == 0
        for (begins, width), (following, _) in itertools.pairwise(drawn):
            assert abs(begins + width - following) < 0.05
        assert abs(sum(drawn[-1]) - 100) < 0.05
