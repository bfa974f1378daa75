"""What it costs to hand out a registry token."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Figure, over
from tests.bench.load import cpu_per_request
from tests.bench.manifests import binaries
from tests.bench.ours import PRIVATE, push_admitted, registry
from tests.kit.access import basic
from tests.kit.postgres import running_postgres

ROUNDS = 5
COUNT = 500
MOST = 2000
"""Microseconds, argon2 not counted: a password is hashed once, and remembered until something changes."""


def token_service(scratch: Path) -> Iterator[Figure]:
    """``GET /token`` for a private repository: by API token, by password, and for nobody."""
    samples: dict[str, list[float]] = defaultdict(list)
    path = f"/token?service=seatrial&scope=repository:{PRIVATE}:pull,push"
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(binaries()))
        for where, url in (("SQLite", None), ("PostgreSQL", postgres.url(postgres.create()))):
            ours = stack.enter_context(registry(scratch / where, database_url=url))
            push_admitted(ours)
            user = {"name": "pia", "password": "a long enough password"}
            ours.service.request("/api/v1/users", method="POST", body=user)
            ways = {
                "by API token": ours.service.basic,
                "by password": basic(user["name"], user["password"]),
                "for nobody": {},
            }
            targets = {how: ours.puller(how, headers=headers) for how, headers in ways.items()}
            for i in range(ROUNDS + 1):
                for how, target in targets.items():
                    asked = path.replace(",push", "") if how == "for nobody" else path
                    spent = cpu_per_request(target, "GET", asked, count=COUNT)
                    if i:  # the first round warms up
                        samples[f"{how}, {where}"].append(spent)
    for name, values in samples.items():
        yield over(f"a registry token {name}", values, "us", at_most=MOST)
