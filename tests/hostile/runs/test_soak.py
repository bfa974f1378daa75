"""The first fifty of ``make soak``: hostile images, eight at once, with and without kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.worker import why_no_runs
from tests.soak.runs import FORK_SECONDS, ROOM_FOR_CACHES_BYTES, run_again_and_again

RUNS = 50


@pytest.mark.parametrize("kill_every", [None, 20])
@pytest.mark.timeout(600)
async def test_nothing_is_lost_and_nothing_left(kill_every: int | None, tmp_path: Path) -> None:
    why = why_no_runs()
    if why is not None:
        pytest.skip(why)
    count = await run_again_and_again(tmp_path, runs=RUNS, kill_every=kill_every, seed=1)
    assert count.violations == []
    assert (count.runs, sum(count.verdicts.values())) == (RUNS, RUNS)
    # Some more end while it is down.
    assert count.kills in ((1, 2) if kill_every else (0,))
    assert kill_every or count.grown_bytes() < ROOM_FOR_CACHES_BYTES
    # Half of them, not all but a few as in a long run alone: other tests run too.
    assert count.fork_of_100(50) < FORK_SECONDS
