"""From a push to the verdict on it: how long, and what of that is not the run."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.commands import before_others
from tests.bench.figures import Figure, over
from tests.bench.processes import Service, service, tree
from tests.bench.pushing import answer, push_bytes
from tests.kit.images import OCI_MANIFEST, busybox_image

NAME = "bench/app"
PUSHES = 20
REST_SECONDS = 0.5
WARM_SECONDS, ADDED_MILLISECONDS = 1, 200
_OF_THE_RUNTIME = (
    "assign namespaces, mount, set resource limits",
    "pivot_root, give up privileges",
    "start through the kernel",
)
_THE_RUN = "run and observe"


def verdict(scratch: Path) -> Iterator[Figure]:
    """From the PUT of a busybox image's manifest to its verdict, layers known already, one worker at rest."""
    with service("up", scratch / "verdict", "--gate", "enforce") as running:
        cold = _tried(running, 0)
        with before_others(*tree(running.process.pid)):
            found = [_tried(running, number) for number in range(1, PUSHES + 1)]
    yield Figure("push of busybox to its verdict, cold", cold.seconds, "s")
    seconds = [one.seconds for one in found]
    yield over("push of busybox to its verdict, warm", seconds, "s", at_most=WARM_SECONDS)
    yield over("the run itself", [one.run_seconds * 1000 for one in found], "ms")
    yield over(
        "what the trial adds to it",
        [(one.seconds - one.run_seconds) * 1000 for one in found],
        "ms",
        at_most=ADDED_MILLISECONDS,
    )
    yield over("of that, create and start by the runtime", [one.runtime * 1000 for one in found], "ms")
    yield over("of that, the worker's other steps", [one.worker * 1000 for one in found], "ms")
    rest = [(one.seconds - one.run_seconds - one.runtime - one.worker) * 1000 for one in found]
    yield over("of that, the registry, and the way from it and to it", rest, "ms")


@dataclass(frozen=True, slots=True)
class _Tried:
    """A push whose image was tried; all in seconds. ``run_seconds`` is from the start of the command to its
    end, ``runtime`` and ``worker`` are the steps before and after, all by the report."""

    seconds: float
    run_seconds: float
    runtime: float
    worker: float


def _tried(running: Service, number: int) -> _Tried:
    image = busybox_image(["/bin/true"], env=[f"TRY={number}"])
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=90)
    for blob in (image.config, *(layer.blob for layer in image.layers)):
        push_bytes(connection, running.basic, NAME, blob)
    # The verdict before is being signed, and the worker looks at its cache.
    time.sleep(REST_SECONDS)
    headers = {**running.basic, "Content-Type": OCI_MANIFEST}
    began = time.perf_counter()
    connection.request("PUT", f"/v2/{NAME}/manifests/latest", body=image.manifest, headers=headers)
    answer(connection, 201)
    address = f"/api/v1/trials?image={NAME}&digest={image.digest}&wait=60"
    connection.request("GET", address, headers=running.basic)
    raw = connection.getresponse().read()
    seconds = time.perf_counter() - began
    connection.close()
    (trial,) = json.loads(raw)
    if trial["verdict"] != "pass":
        raise RuntimeError(f"no pass: {raw[:500]!r}")
    (part,), (run,) = trial["parts"], trial["runs"]
    steps = {one["name"]: one["seconds"] for one in part["record"]["steps"]}
    runtime = sum(steps.pop(name) for name in _OF_THE_RUNTIME)
    del steps[_THE_RUN]
    return _Tried(seconds, run["seconds"], runtime, sum(steps.values()))
