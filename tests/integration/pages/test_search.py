"""Search: what begins so, what is named in full, who holds a package or what an advisory tells of."""

from __future__ import annotations

import re

from tests.kit.access import ask, make_repository
from tests.kit.pagecontent import MARKUP, fill
from tests.kit.pagereading import sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.trials import Port

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
