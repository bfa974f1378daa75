"""How large images are and how often they were pulled, on the pages that list them."""

from __future__ import annotations

import re

from tests.kit.access import ask
from tests.kit.pagecontent import fill
from tests.kit.pagereading import sign_in, visitor, words_of
from tests.kit.trials import Port


async def test_sizes_and_pulls_are_told_to_those_who_may_know(port: Port) -> None:
    content = await fill(port)
    for _ in range(3):
        assert (await port.pull("1.0")).status == 200
    async with visitor(port.registry) as stranger, visitor(port.registry) as manager:
        await sign_in(manager, port.registry)
        assert port.registry.services is not None
        await port.registry.services.pulls.flush(port.database)
        page = (await ask(manager, "GET", "/r/team/app")).body.decode()
        counts = re.findall(r'data-label="Pulls \(30 days\)" class="number">(\d+)<', page)
        assert counts == ["0", "0", "0", "3", "0"]
        assert "Pulls" not in words_of(await ask(stranger, "GET", "/r/team/app"))
        index = (await ask(stranger, "GET", "/r/team/app/-/tags/2.0")).body.decode()
        assert len(re.findall(r'data-label="Size" class="number">\d+ B<', index)) == 2
        assert content.index in index
