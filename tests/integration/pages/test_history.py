"""The history of a tag, and back: shown to readers, done by those who may push."""

from __future__ import annotations

import re

import pytest

from tests.kit.access import api, ask, give_role, make_user
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.trials import Port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

QUERIES_MAX = 6
PATH = "/r/team/app/-/history/1"


async def test_a_tag_goes_back_by_a_form(port: Port) -> None:
    first = await port.push(tiny_image())
    second = await port.push(tiny_image())
    password = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/app", "user:reader", "reader")
    async with visitor(port.registry) as person, visitor(port.registry) as reader:
        await sign_in(person, port.registry)
        await sign_in(reader, port.registry, name="reader", password=password)
        with sent() as statements:
            answer = await ask(person, "GET", PATH)
        assert len(statements) <= QUERIES_MAX
        shown = words_of(answer)
        assert f"pushed by admin {first[:19]} {second[:19]}" in shown
        assert f"Back to {first[:19]}" in shown
        assert "Back to" not in words_of(await ask(reader, "GET", PATH))

        back = f"{PATH}/rollback"
        assert (await ask(reader, "GET", back, params={"to": first})).status == 403
        confirm = words_of(await ask(person, "GET", back, params={"to": first}))
        assert f"It stands at {second} It will stand at {first}" in confirm
        assert (await ask(person, "GET", back, params={"to": "sha256:none"})).status == 400
        for answer in (
            await send_from(person, {"Origin": "https://evil.example"}, back, to=first),
            await send_from(person, {}, back, to=first),
            await send(reader, port.registry, back, to=first),
        ):
            assert answer.status == 403
        assert (await send(person, port.registry, back)).status == 400
        assert (await send(person, port.registry, back, to=first, reason="two\nlines")).status == 400
        never = await send(person, port.registry, back, to="sha256:" + "0" * 64)
        assert never.status == 409
        assert "never stood at" in words_of(never)

        answer = await send(person, port.registry, back, to=first, reason="<b>it</b> broke")
        assert (answer.status, answer.headers["Location"]) == (303, PATH)
        page = await ask(person, "GET", PATH)
        assert "rolled back by admin" in words_of(page)
        assert "<b>it</b> broke" in words_of(page)
        assert b"<b>it" not in page.body
        standing = await api(port.admin, "GET", "/repositories/team%2Fapp/tags/1")
        assert standing["digest"] == first


async def test_a_tag_is_deleted_and_brought_back(port: Port) -> None:
    image = tiny_image()
    digest = await port.push(image)
    path = "/r/team/app/-/deleted"
    password = await make_user(port.admin, "writer")
    await give_role(port.admin, "team/app", "user:writer", "writer")
    async with visitor(port.registry) as person, visitor(port.registry) as writer:
        await sign_in(person, port.registry)
        await sign_in(writer, port.registry, name="writer", password=password)
        assert "No tag was deleted" in words_of(await read(person, path))
        gone = "/r/team/app/-/tags/1/delete"
        assert f'href="{gone}"' in (await read(person, PATH)).body.decode()
        assert f'href="{gone}"' not in (await read(writer, PATH)).body.decode()
        assert (await ask(writer, "GET", gone)).status == 403
        assert digest in words_of(await read(person, gone))
        assert (await send(writer, port.registry, gone, reason="x")).status == 403
        for headers in ({"Origin": "https://evil.example"}, {}):
            assert (await send_from(person, headers, gone)).status == 403
        assert (await send(person, port.registry, gone, reason="two\nlines")).status == 400
        # It moved after somebody had looked where it stands.
        (seen,) = re.findall(r'name="seen" value="([^"]+)"', (await read(person, gone)).body.decode())
        await port.push(tiny_image())
        assert (await send(person, port.registry, gone, seen=seen)).status == 412
        assert (await ask(port.admin, "GET", "/v2/team/app/manifests/1")).status == 200
        assert await port.push(image) == digest
        done = await send(person, port.registry, gone, seen=seen, reason=MARKUP)
        assert (done.status, done.headers["Location"]) == (303, path)
        assert (await ask(port.admin, "GET", "/v2/team/app/manifests/1")).status == 404
        shown = await read(writer, path)
        assert f"1 just now by admin {digest[:19]} {MARKUP}" in words_of(shown)
        assert (await send_from(writer, {"Origin": "null"}, f"{path}/restore", tag="1")).status == 403
        assert (await send(writer, port.registry, f"{path}/restore", tag="none")).status == 404
        back = await send(writer, port.registry, f"{path}/restore", tag="1")
        assert (back.status, back.headers["Location"]) == (303, PATH)
        assert (await ask(port.admin, "GET", "/v2/team/app/manifests/1")).status == 200
        assert "brought back by writer" in words_of(await read(writer, PATH))
        assert "No tag was deleted" in words_of(await read(writer, path))
