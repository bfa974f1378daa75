"""The packages in an image: listed, looked for, page by page, and taken along as SBOMs."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.kit.access import api, ask
from tests.kit.pagecontent import MARKUP, TURNED, fill
from tests.kit.pagereading import sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.scans import SCANNING, make_package, make_scan
from tests.kit.trials import Port, make_report, tiny_image

QUERIES_MAX = 6


async def scanned(port: Port, *packages: Any) -> str:
    worker = await port.worker("w")
    digest = await port.push(tiny_image(), tag="many")
    job = await worker.claim(mechanisms=SCANNING)
    assert (await worker.post("scan", make_scan(job, *packages))).status == 204
    assert (await worker.post("report", make_report(job))).status == 204
    return digest


async def test_packages_are_found_by_their_words_page_by_page(port: Port) -> None:
    many = [make_package(f"lib{number:03}", "1.0", kind="npm", ecosystem="npm") for number in range(130)]
    licensed = make_package("other", "2.5-beta", kind="npm", ecosystem="npm", licences=("MIT", "Apache-2.0"))
    digest = await scanned(port, *many, licensed)
    path = f"/r/team/app/-/images/{digest}/packages"
    async with visitor(port.registry) as person:
        assert (await ask(person, "GET", path)).status == 401
        await sign_in(person, port.registry)
        await ask(person, "GET", path)  # whoever asks is then known
        seen, following = [], path
        while following:
            with sent() as statements:
                page = (await ask(person, "GET", following)).body.decode()
            assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
            seen += re.findall(r"<th scope=\"row\">(\S+) <small>", page)
            following = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        assert sorted(seen) == sorted(["other", *(f"lib{number:03}" for number in range(130))])
        for words, found in (("LIB12", 10), ("apache", 1), ("2.5-BETA", 1), ("nothing", 0)):
            page = (await ask(person, "GET", f"{path}?find={words}")).body.decode()
            assert page.count('<th scope="row">') == found, words
            asked = f"/repositories/team%2Fapp/scans/{digest}/packages?find={words}"
            assert len((await api(port.admin, "GET", asked))["items"]) == found
        assert "Apache-2.0" in words_of(await ask(person, "GET", f"{path}?find=other"))
        links = re.findall(r'<a href="([^"]+)" download=', (await ask(person, "GET", path)).body.decode())
        assert len(links) == 4
        for link in links:
            answer = await ask(person, "GET", link)
            assert answer.status == 200, link
            shown = json.dumps(json.loads(answer.body))
            assert ("lib001" in shown) or "format=sarif" in link, link


async def test_names_of_packages_do_no_harm(port: Port) -> None:
    digest = await scanned(
        port,
        make_package(
            f"{MARKUP}{TURNED}"[:290],
            MARKUP[:290],
            kind="npm",
            ecosystem="npm",
            licences=(MARKUP[:100],),
            path=f"a/{TURNED}",
        ),
    )
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        answer = await ask(person, "GET", f"/r/team/app/-/images/{digest}/packages")
        text = answer.body.decode()
        assert "<script>" not in text
        assert TURNED[0] not in text
        assert "<script>" in words_of(answer)


async def test_of_an_index_and_of_what_was_not_scanned(port: Port) -> None:
    content = await fill(port)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        index = await ask(person, "GET", f"/r/team/app/-/images/{content.index}/packages")
        assert "linux/amd64" in words_of(index)
        waiting = await ask(person, "GET", f"/r/team/app/-/images/{content.waiting}/packages")
        assert "nothing is known of what is in it" in words_of(waiting)
