"""Pushes of large blobs beside the peers', and many at once."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from tests.bench import peers
from tests.bench.figures import Figure, over, ratio
from tests.bench.load import Target
from tests.bench.ours import PRIVATE, registry
from tests.bench.processes import tree_cpu_seconds
from tests.bench.pushing import MIB, Content, content, push_blob

ROUNDS = 7
LARGE_BYTES = 100 * MIB
AT_ONCE = 50
MEDIUM_BYTES = 10 * MIB
WAYS: dict[Literal["stream", "whole"], str] = {
    "stream": "push of 100 MiB as podman and docker do it",
    "whole": "push of 100 MiB in one PUT",
}


def pushes(scratch: Path) -> Iterator[Figure]:
    """CPU and throughput of one push of 100 MiB, and whether 50 of 10 MiB at once all end well."""
    with ExitStack() as stack:
        targets = {
            "ours": stack.enter_context(registry(scratch / "ours", core=None)).pusher,
            "olareg": stack.enter_context(peers.olareg(scratch / "olareg", core=None)),
            "distribution": stack.enter_context(
                peers.distribution(scratch / "distribution", logs=False, core=None)
            ),
            "docker-registry": stack.enter_context(peers.docker_registry(scratch / "debian", core=None)),
        }
        for way, words in WAYS.items():
            cpu: dict[str, list[float]] = defaultdict(list)
            seconds: dict[str, list[float]] = defaultdict(list)
            for i in range(ROUNDS + 1):
                blob = content(LARGE_BYTES)
                for name, target in targets.items():
                    spent, took = _push(target, blob, way)
                    if i:
                        cpu[name].append(spent)
                        seconds[name].append(took)
            for name in targets:
                yield over(f"{name}, {words}: CPU", cpu[name], "s")
                yield over(f"{name}, {words}: MiB/s", [100 / took for took in seconds[name]], "")
            yield ratio(f"{words}: CPU over olareg", cpu["ours"], cpu["olareg"], at_most=1)
            yield ratio(f"{words}: CPU over distribution", cpu["ours"], cpu["distribution"])
            yield ratio(f"{words}: CPU over docker-registry", cpu["ours"], cpu["docker-registry"])
            yield ratio(
                f"{words}: throughput over distribution",
                seconds["distribution"],
                seconds["ours"],
                at_least=1,
            )
        failed, took = _push_at_once(targets["ours"])
        yield Figure("50 pushes of 10 MiB at once: errors", failed, "", at_most=0)
        yield Figure("50 pushes of 10 MiB at once: seconds in all", took, "s")


def _push(target: Target, blob: Content, way: Literal["stream", "whole"]) -> tuple[float, float]:
    """Seconds of CPU and of time. What others wrote is on the disk first: it is not this push's cost."""
    os.sync()
    before, began = sum(map(tree_cpu_seconds, target.pids)), time.monotonic()
    push_blob(target, PRIVATE, blob, how=way)
    took = time.monotonic() - began
    return sum(map(tree_cpu_seconds, target.pids)) - before, took


def _push_at_once(target: Target) -> tuple[int, float]:
    blobs = [content(MEDIUM_BYTES) for _ in range(AT_ONCE)]
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        running = [threads.submit(push_blob, target, PRIVATE, blob) for blob in blobs]
        failures = [error for push in running if (error := push.exception()) is not None]
    for error in failures:
        print(f"      {error!r}"[:300])
    return len(failures), time.monotonic() - began
