"""What holds for every page and every form of the table, whatever they are about."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.kit.access import api, ask
from tests.kit.everypage import furnish, read_pages, sent_forms
from tests.kit.pagecontent import BAD, ENDLESS, TURNED
from tests.kit.pagereading import send, send_from, sign_in, visitor
from tests.kit.plans import sent
from tests.kit.receiver import running_receiver
from tests.kit.trials import Port, open_port

QUERIES_MAX = 6
CARRIED_OUT, CARRYING_MAX = "/promotions/preview", 110
"""It is the promotion itself, which is then taken back; test_automating.py counts it at two sizes."""
BYTES_MAX = 100_000
WHOLE = "/trials/{trial}/log"
"""It has a log of a megabyte, and shows all of it."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


async def test_each_is_cheap_small_and_harmless(port: Port) -> None:
    values = await furnish(port)
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        # While a trial goes on, its pages show more.
        pages = [*read_pages(values).items(), *read_pages(values | {"trial": values["waiting"]}).items()]
        for path, address in pages:
            await ask(person, "GET", address)  # whoever asks is then known
            with sent() as statements:
                answer = await ask(person, "GET", address)
            assert answer.status == 200, (path, answer.body[-1000:])
            texts = [one.text for one in statements]
            assert len(statements) <= (CARRYING_MAX if path == CARRIED_OUT else QUERIES_MAX), (path, texts)
            text = answer.body.decode()
            assert len(answer.body) < BYTES_MAX or path == WHOLE, path
            for harm in ("<script>", "<img src=x", 'onerror="', TURNED[0]):
                assert harm not in text, path
            assert CONTROL.search(text) is None, path


async def test_what_a_receiver_answers_is_only_shown(tmp_path: Path, database_url: str) -> None:
    opened = open_port(tmp_path / "data", database_url, outgoing_networks=("127.0.0.0/8",))
    async with opened as port, running_receiver(says=f"{BAD} {ENDLESS}") as receiver:
        receiver.answers = lambda _: 200
        made = await api(port.admin, "POST", "/webhooks", status=201, json={"url": receiver.url})
        receiver.secrets.append(made["secret"])
        await api(port.admin, "POST", f"/webhooks/{made['id']}/test", status=202)
        await receiver.until(1)
        async with visitor(port.registry) as person, asyncio.timeout(20):
            await sign_in(person, port.registry)
            page = ""
            while "onerror" not in page:
                page = (await ask(person, "GET", f"/webhooks/{made['id']}")).body.decode()
        assert "<img src=x" not in page
        assert CONTROL.search(page) is None
        assert len(page) < BYTES_MAX


async def test_no_form_counts_that_another_site_sends(port: Port) -> None:
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        forms = sent_forms()
        for path, address in forms.items():
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site", "Origin": port.registry.url},
                # A browser that says nothing; whoever signs in has nothing yet that could be misused.
                *([] if path == "/sign-in" else [{}]),
            ):
                assert (await send_from(person, headers, address)).status == 403, (path, headers)
        # All the time he was signed in.
        assert (await ask(person, "GET", "/account")).status == 200


async def test_no_address_has_a_nul(port: Port) -> None:
    async with visitor(port.registry) as person:
        for path in ("/trials/%00", "/trials/a%00b/log"):  # also of strangers
            assert (await ask(person, "GET", path)).status == 400
        await sign_in(person, port.registry)
        for path in ("/tokens/%00", "/webhooks/%00", "/workers/a%00"):
            assert (await ask(person, "GET", path)).status == 400
        assert (await send(person, port.registry, "/account/sessions/%00/revoke")).status == 400
