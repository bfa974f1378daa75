"""Whether a clock tells a stranger that a private repository is there.

Pairs of refusals, one of a repository that is there and one of none, each pair in random order.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.load import GENERATOR_CORE, on_core
from tests.bench.ours import registry
from tests.bench.processes import Service
from tests.kit.access import basic, bearer, make_repository, make_token, make_user, registry_token
from tests.kit.server import Registry

PAIRS, WARM = 2000, 50
POINTS = 4
"""So far from half of the pairs: three and a half times what chance does with so many."""
NAMES = ("team/private", "team/missing")
ROUTES = (
    ("GET", "/v2/{name}/manifests/1"),
    ("GET", "/v2/{name}/tags/list"),
    ("HEAD", "/v2/{name}/blobs/sha256:" + "0" * 64),
    ("POST", "/v2/{name}/blobs/uploads/"),
    ("GET", "/api/v1/repositories/{coded}"),
    ("GET", "/token?service=seatrial&scope=repository:{name}:pull"),
)


def secrecy(scratch: Path) -> Iterator[Figure]:
    """Of nobody, of a user without roles, and of the same with a registry token."""
    with registry(scratch / "data") as ours, on_core(GENERATOR_CORE):
        for who, headers in asyncio.run(_callers(ours.service)).items():
            for method, path in ROUTES:
                if path.startswith("/token") and headers.get("Authorization", "").startswith("Bearer"):
                    continue  # takes no registry token
                private, missing = _answer_times(ours.service.port, method, path, headers)
                shown = path.partition("?")[0].partition("sha256:")[0]
                slower = sum(a > b for a, b in zip(private, missing, strict=True)) / PAIRS * 100
                medians = f"medians {statistics.median(private):.0f} and {statistics.median(missing):.0f} us"
                yield Figure(
                    f"{who}, {method} {shown}: from half of the pairs",
                    abs(slower - 50),
                    "points",
                    at_most=POINTS,
                    note=f"private is the slower one in {slower:.1f} % of the pairs; {medians}",
                )


async def _callers(service: Service) -> dict[str, dict[str, str]]:
    served = Registry(service.url.partition("//")[2], service.token)
    async with served.client() as admin, served.client(anonymous=True) as nobody:
        await make_repository(admin, NAMES[0])
        await make_user(admin, "bob")
        bob = basic("bob", (await make_token(admin, "repository:*:pull,push", account="bob"))["token"])
        asked = [f"repository:{name}:pull" for name in NAMES]
        return {
            "nobody": {},
            "a user": bob,
            "a user's registry token": bearer(await registry_token(nobody, *asked, headers=bob)),
        }


def _answer_times(
    port: int, method: str, path: str, headers: dict[str, str]
) -> tuple[list[float], list[float]]:
    """Microseconds until the head of each answer."""
    paths = {name: path.format(name=name, coded=name.replace("/", "%2F")) for name in NAMES}
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for i in range(-WARM, PAIRS):
            for name in random.sample(NAMES, 2):
                began = time.perf_counter_ns()
                connection.request(method, paths[name], headers=headers)
                answer = connection.getresponse()
                taken = (time.perf_counter_ns() - began) / 1000
                answer.read()
                if i >= 0:
                    found[name].append(taken)
    return found[NAMES[0]], found[NAMES[1]]
