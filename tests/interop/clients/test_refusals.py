"""The table of refusals: what each client prints, held against ``docs/reference/refusals.json``.

``make refusals`` writes the file, and the page that is made of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.refusals import ADVICE, HANGS, NOTES, SLOW, TABLE, read_table
from tests.kit.refusals import CLIENTS, Scene, opened_scene

AT_ONCE = 3


@pytest.fixture(scope="module")
def scene(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all rows."""
    if os.geteuid() != 0:
        pytest.skip("a full disk and containerd need root")
    with opened_scene(tmp_path_factory.mktemp("scene"), tools) as opened:
        yield opened


@pytest.mark.parametrize("refusal", ADVICE)
def test_the_last_line_says_what_to_do(scene: Scene, refusal: str) -> None:
    attempt = scene.attempts[refusal]
    if attempt.first is not None:
        attempt.first()
    scene.clients.sign_out()
    if attempt.login is not None:
        scene.clients.sign_in(attempt.registry.host, *attempt.login)
    writes = bool(os.environ.get("SEATRIAL_TEST_WRITE_REFUSALS"))
    left_out = HANGS if writes else HANGS | SLOW
    clients = [client for client in CLIENTS if (refusal, client) not in left_out]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = pool.map(lambda client: scene.last_line(refusal, client), clients)
        lines = dict(zip(clients, said, strict=True))
    if writes:
        table = read_table() | {refusal: lines}
        table = {name: table[name] for name in ADVICE if name in table}
        TABLE.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    unclear = {
        client: line
        for client, line in lines.items()
        if ADVICE[refusal] not in line and (refusal, client) not in NOTES
    }
    assert unclear == {}, f"none of these says {ADVICE[refusal]!r}"
    kept = {
        client: line for client, line in read_table()[refusal].items() if (refusal, client) not in left_out
    }
    assert lines == kept, "run: make refusals"
