"""What more connections cost, and what a second process brings."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure, over, ratio
from tests.bench.load import Target, cpu_per_request
from tests.bench.ours import PRIVATE, TAG, Ours, fill, push_admitted, registry
from tests.bench.peers import MissingError
from tests.bench.processes import cpu_seconds, tree

ROUNDS = 5
COUNT = 2000
CONNECTIONS = (1, 10, 100)
SECONDS = 2
MANIFEST = f"/v2/{PRIVATE}/manifests/{TAG}"
PAGE = f"/v2/{PRIVATE}/tags/list"


def connections(scratch: Path) -> Iterator[Figure]:
    """CPU of a manifest GET over 1, 10 and 100 connections at once."""
    samples: dict[int, list[float]] = defaultdict(list)
    with registry(scratch / "data") as ours:
        push_admitted(ours)
        target = ours.puller("ours")
        for i in range(ROUNDS + 1):
            for many in CONNECTIONS:
                spent = cpu_per_request(target, "GET", MANIFEST, count=COUNT, connections=many)
                if i:
                    samples[many].append(spent)
    for many in CONNECTIONS:
        yield over(f"GET by tag, connections: {many}", samples[many], "us")
    yield ratio("GET by tag, 100 connections over 1", samples[100], samples[1], at_most=1.2)
    yield ratio("GET by tag, 100 connections over 10", samples[100], samples[10], at_most=1.2)


def processes(scratch: Path) -> Iterator[Figure]:
    """What two processes behind one port serve beside one.

    The generator needs its share of the same two cores, so that two processes cannot reach twice what one
    with a core of its own does; the dearer a request, the smaller is that share. Hence the throughput of
    pages of 1,000 tags, and of manifests what full cores would serve, from the CPU time of a request.
    """
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    shares: list[float] = []
    with ExitStack() as stack:
        running: dict[int, Ours] = {}
        for many in (1, 2):
            settings = {"processes": str(many)}
            data = scratch / f"processes{many}"
            running[many] = stack.enter_context(registry(data, core=None, settings=settings))
            push_admitted(running[many])
            fill(running[many], tags=1000, repositories=0)
        for i in range(ROUNDS + 1):
            for many, ours in running.items():
                target = ours.puller("ours")
                page = _load(target, PAGE)
                manifest = _load(target, MANIFEST)
                if i:
                    rates["page", many].append(page.rate)
                    rates["manifest", many].append(manifest.rate)
                    rates["full", many].append(many * manifest.requests / sum(manifest.spent))
                    if many > 1:
                        shares.append(100 * max(manifest.spent) / sum(manifest.spent))
    for many, words in ((1, "one process"), (2, "two processes")):
        yield over(f"{words}: pages of 1,000 tags a second", rates["page", many], "")
        yield over(f"{words}: manifests a second, the generator beside them", rates["manifest", many], "")
        yield over(f"{words}: manifests a second on a full core each", rates["full", many], "")
    yield over("two processes: share of the work that the busier does", shares, "%")
    for key, words in (("page", "pages of 1,000 tags"), ("full", "manifests on a full core each")):
        yield ratio(f"two processes over one: {words}", rates[key, 2], rates[key, 1], at_least=1.8)


@dataclass(frozen=True, slots=True)
class _Load:
    """``spent`` are the seconds of CPU of each process."""

    requests: int
    seconds: float
    spent: list[float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def _load(target: Target, path: str) -> _Load:
    """As many requests over 32 connections as there can be."""
    program = shutil.which("wrk")
    if program is None:
        raise MissingError("wrk is not installed: scripts/packages.sh bench")
    pids = [pid for root in target.pids for pid in tree(root)]
    before = [cpu_seconds(pid) for pid in pids]
    headers = [part for name, value in target.headers.items() for part in ("-H", f"{name}: {value}")]
    command = [program, "-t1", "-c32", f"-d{SECONDS}s", *headers, f"http://127.0.0.1:{target.port}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
    counted = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if counted is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk says:\n{said}")
    return _Load(int(counted[1]), float(counted[2]), spent)
