"""The README of a repository: who writes it, what is kept, and how it is shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from registry.content.readmes import README_MAX_BYTES
from registry.main import run
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.pagecontent import BAD, ENDLESS, MARKUP, TURNED
from tests.kit.pagereading import send, send_from, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.trials import Port, tiny_image

PATH = "/repositories/team%2Fapp/readme"
PAGE = "/r/team/app/-/readme"
QUERIES_MAX = 6


async def test_it_is_set_changed_and_taken_away(port: Port) -> None:
    await port.push(tiny_image())
    await api(port.admin, "GET", PATH, status=404)
    made = await api(port.admin, "PUT", PATH, status=201, json={"text": "# app\n"})
    assert (made["text"], made["updated_by"]) == ("# app\n", "admin")
    same = await api(port.admin, "PUT", PATH, json={"text": "# app\n"})
    assert same["updated_at"] == made["updated_at"]
    changed = await api(port.admin, "PUT", PATH, json={"text": "# ä\n"})
    assert changed == await api(port.admin, "GET", PATH)
    await api(port.admin, "DELETE", PATH, status=204)
    await api(port.admin, "DELETE", PATH, status=404)
    found = await api(port.admin, "GET", "/audit?repository=team/app&action=repository.changed")
    told = [one["data"]["readme"] for one in found["items"]]
    assert [[bool(digest) for digest in pair] for pair in told] == [
        [True, False],
        [True, True],
        [False, True],
    ]


@pytest.mark.parametrize(
    "text", ["", " \n", "x" * (README_MAX_BYTES + 1), "ä" * (README_MAX_BYTES // 2 + 1), "a\x1b[2J", "a\0"]
)
async def test_what_is_no_readme_changes_nothing(port: Port, text: str) -> None:
    await port.push(tiny_image())
    await api(port.admin, "PUT", PATH, status=201, json={"text": "kept"})
    await api(port.admin, "PUT", PATH, status=400, json={"text": text})
    assert (await api(port.admin, "GET", PATH))["text"] == "kept"


async def test_who_was_slower_is_told(port: Port) -> None:
    await port.push(tiny_image())
    first = await ask(port.admin, "PUT", f"/api/v1{PATH}", json={"text": "one"})
    await api(port.admin, "PUT", PATH, json={"text": "two"})
    slower = {"If-Match": first.headers["ETag"]}
    for method, body in (("PUT", {"text": "three"}), ("DELETE", None)):
        answer = await ask(port.admin, method, f"/api/v1{PATH}", json=body, headers=slower)
        assert answer.status == 412
    again = await ask(
        port.admin, "PUT", f"/api/v1{PATH}", json={"text": "three"}, headers={"If-None-Match": "*"}
    )
    assert again.status == 412
    assert (await api(port.admin, "GET", PATH))["text"] == "two"


async def test_many_at_once_leave_one_and_each_is_told(port: Port) -> None:
    await port.push(tiny_image())
    answers = await asyncio.gather(
        *(ask(port.admin, "PUT", f"/api/v1{PATH}", json={"text": f"text {number}"}) for number in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    found = await api(port.admin, "GET", "/audit?repository=team/app&action=repository.changed")
    told = [one["data"]["readme"] for one in found["items"]][::-1]
    assert told[0][0] is None
    assert [before for before, _ in told[1:]] == [after for _, after in told[:-1]]


async def test_it_stands_on_the_page_of_its_repository(port: Port) -> None:
    await port.push(tiny_image(), tag="1.0")
    await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"visibility": "public"})
    text = (
        f"# What it does\n\n[site](https://x.example) {BAD.replace(chr(27), '').replace(chr(7), '')}\n\n"
        + "y" * 9000
    )
    await api(port.admin, "PUT", PATH, status=201, json={"text": text})
    async with visitor(port.registry) as stranger:
        for path in ("/r/team/app", PAGE):
            await ask(stranger, "GET", path)
            with sent() as statements:
                answer = await ask(stranger, "GET", path)
            assert answer.status == 200
            assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
            page = answer.body.decode()
            assert "<h3>What it does</h3>" in page
            assert '<a href="https://x.example" rel="nofollow noopener noreferrer">site</a>' in page
            assert "<script>" not in page
            assert "<img src=x" not in page
            assert TURNED[0] not in page
        assert "What it does" not in words_of(await ask(stranger, "GET", "/r/team/app?find=1"))
        assert "<textarea" not in (await ask(stranger, "GET", PAGE)).body.decode()


async def test_a_form_writes_it(port: Port) -> None:
    await port.push(tiny_image())
    password = await make_user(port.admin, "pusher")
    await give_role(port.admin, "team/app", "user:pusher", "writer")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry, name="pusher", password=password)
        assert "It has no README yet." in words_of(await ask(person, "GET", PAGE))
        wanted = f"# {MARKUP}\n\n{TURNED}\n\n" + "z" * 5000
        for headers in ({"Origin": "https://evil.example"}, {}):
            assert (await send_from(person, headers, PAGE, text=wanted)).status == 403
        assert (await send(person, port.registry, PAGE, seen="", text=wanted)).status == 303
        shown = (await ask(person, "GET", PAGE)).body.decode()
        assert TURNED[0] not in shown
        assert "&#8238;" in shown
        assert "z" * 5000 in shown
        assert (await api(port.admin, "GET", PATH))["text"] == wanted
        seen = shown.partition('name="seen" value="')[2].partition('"')[0]
        slower = await send(person, port.registry, PAGE, seen="", text=f"not {MARKUP} lost")
        assert slower.status == 412
        assert f"not {MARKUP} lost" in words_of(slower)
        assert "look at it again" in words_of(slower)
        long = await send(person, port.registry, PAGE, seen=seen, text=ENDLESS[:70_000])
        assert long.status == 400
        assert ENDLESS[:70_000] in long.body.decode()
        assert (await send(person, port.registry, PAGE, seen=seen, text=ENDLESS)).status == 413
        assert (await send(person, port.registry, PAGE, seen=seen, text="two\r\nlines")).status == 303
        assert (await api(port.admin, "GET", PATH))["text"] == "two\nlines"
        assert (await send(person, port.registry, PAGE, seen=seen, text="")).status == 412
        seen = (
            (await ask(person, "GET", PAGE))
            .body.decode()
            .partition('name="seen" value="')[2]
            .partition('"')[0]
        )
        assert (await send(person, port.registry, PAGE, seen=seen, text="")).status == 303
        await api(port.admin, "GET", PATH, status=404)


async def test_a_command_shows_and_sets_it(
    port: Port, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await port.push(tiny_image())
    token = tmp_path / "token"
    token.write_text(port.registry.token)
    file = tmp_path / "README.md"
    file.write_text("# app\n\ngpj.\N{RIGHT-TO-LEFT OVERRIDE}exe\n")

    async def command(*arguments: str) -> tuple[int, str]:
        given = ["repo", "readme", *arguments, "--server", port.registry.url, "--token-file", str(token)]
        code = await asyncio.to_thread(run, given)
        said = capsys.readouterr()
        # The registry writes its log there as well.
        errors = [line for line in said.err.splitlines(keepends=True) if not line.startswith("{")]
        return code, said.out + "".join(errors)

    assert await command("team/app") == (2, "seatrial: team/app has no README\n")
    code, said = await command("team/app", "--set", str(file))
    assert code == 0
    assert "updated by" in said
    assert await command("team/app") == (0, "# app\n\ngpj.?exe\n")
    code, said = await command("team/app", "--json")
    assert json.loads(said)["text"] == file.read_text()
    assert (await command("team/app", "--set", str(tmp_path / "none.md")))[0] == 64
    assert (await command("team/app", "--set", "none"))[0] == 0
    await api(port.admin, "GET", PATH, status=404)
