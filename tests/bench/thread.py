"""The figures of the first thread: start, memory of a large blob, push to verdict."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.processes import Service, resident_bytes, service
from tests.kit.images import busybox_image, write_layout

MIB = 1024 * 1024


def start(scratch: Path) -> Iterator[Figure]:
    """From the command line to ``/readyz``, with an empty data folder and with a used one."""
    fresh = []
    for i in range(3):
        with service("serve", scratch / f"start{i}") as running:
            fresh.append(running.start_seconds)
    with service("serve", scratch / "start0") as running:
        again = running.start_seconds
        idle = resident_bytes(running.process.pid)
    yield Figure("start of serve, empty data folder", statistics.median(fresh), "s", at_most=3)
    yield Figure("start of serve, used data folder", again, "s", at_most=3)
    yield Figure("memory of serve after start", idle / MIB, "MiB")


def verdict(scratch: Path) -> Iterator[Figure]:
    """From the start of ``skopeo copy`` of a 2 MB busybox image to its verdict, layers known already."""
    seconds = []
    with service("up", scratch / "verdict", "--gate", "enforce") as running:
        for i in range(6):
            layout = write_layout(scratch / f"layout{i}", busybox_image(["/bin/true"], env=[f"TRY={i}"]))
            began = time.monotonic()
            _skopeo_push(running, layout)
            found = running.request("/api/v1/trials?image=bench/app&tag=latest&wait=60")
            seconds.append(time.monotonic() - began)
            if '"pass"' not in json.dumps(found):
                raise RuntimeError(f"no pass: {json.dumps(found)[:500]}")
    yield Figure("push of busybox to its verdict, cold", seconds[0], "s")
    yield Figure("push of busybox to its verdict, warm", statistics.median(seconds[1:]), "s", at_most=3)


def _skopeo_push(running: Service, layout: Path) -> None:
    subprocess.run(
        [
            "skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false",
            "--dest-creds", f"admin:{running.token}",
            f"oci:{layout}:latest", f"docker://127.0.0.1:{running.port}/bench/app:latest",
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
