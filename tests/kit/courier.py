"""A process that gives positions and delivers, to be killed: ``python -m tests.kit.courier URL``."""

from __future__ import annotations

import asyncio
import sys
from ipaddress import ip_network

from registry.auth.secretkey import SecretKey
from registry.db.engine import Database
from registry.events.attempts import Pace
from registry.events.courier import Courier
from registry.net.guarded import GuardedClient

PACE = Pace(
    attempt_seconds=0.5,
    lease_seconds=2,
    poll_seconds=0.02,
    first_retry_seconds=0.05,
    last_retry_seconds=0.2,
)


async def deliver(url: str) -> None:
    """Until killed; the secret key is all zeros."""
    client = GuardedClient([ip_network("127.0.0.0/8")])
    await Courier(Database(url), client, SecretKey(bytes(32)), source="http://r", pace=PACE).run()


if __name__ == "__main__":
    asyncio.run(deliver(sys.argv[1]))
