"""Verdicts and scans are signed as long as the process runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from registry.http.sweeps import tried, woken
from registry.trials.signing import Attester

if TYPE_CHECKING:
    from registry.http.services import Services
    from registry.storage.threads import Threads

ATTEST_SECONDS = 5.0
"""How long what another replica left unsigned may lie."""
GATHER_SECONDS = 0.05
"""Every commit rings; so often is enough to look."""


async def keep_attested(services: Services, parsers: Threads) -> None:
    """Sign verdicts and scans until the process ends: at once those of this process, and soon what another
    left."""
    attester = Attester(services.database, services.blobs, services.settings, services.secret_key, parsers)
    bell = services.database.bell
    while not (bell.muted or services.settings.read_only):
        heard = bell.listen()
        await tried("verdicts", attester.sign_all(), done="signed")
        await woken(heard, within=ATTEST_SECONDS)
        await asyncio.sleep(GATHER_SECONDS)
