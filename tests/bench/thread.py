"""The figures of the first thread: start, memory of a large blob, push to verdict."""

from __future__ import annotations

import hashlib
import http.client
import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.figures import Figure
from tests.bench.processes import Service, cpu_seconds, peak_bytes, reset_peak, resident_bytes, service
from tests.bench.pushing import answer
from tests.kit.images import busybox_image, write_layout

MIB = 1024 * 1024
BLOB_BYTES = 1024 * MIB


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


def large_blob(scratch: Path) -> Iterator[Figure]:
    """Growth of the registry's memory while one blob of 1 GiB is pushed and pulled."""
    with service("serve", scratch / "large") as running:
        pid = running.process.pid
        _push_and_pull(running, MIB)
        before, cpu = resident_bytes(pid), cpu_seconds(pid)
        reset_peak(pid)
        _push_and_pull(running, BLOB_BYTES)
        yield Figure(
            "growth of memory, 1 GiB pushed and pulled", (peak_bytes(pid) - before) / MIB, "MiB", at_most=40
        )
        yield Figure("CPU of serve, 1 GiB pushed and pulled", cpu_seconds(pid) - cpu, "s")


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


def _push_and_pull(running: Service, size: int) -> None:
    block = bytes(range(256)) * 4096
    digest = hashlib.sha256()
    for _ in range(size // len(block)):
        digest.update(block)
    name = f"sha256:{digest.hexdigest()}"
    headers = running.basic
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=600)
    connection.request("POST", "/v2/bench/large/blobs/uploads/", headers=headers)
    location = answer(connection, 202).getheader("Location") or ""
    body = (block for _ in range(size // len(block)))
    stream = {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(size)}
    connection.request("PATCH", location, body=body, headers=stream)
    location = answer(connection, 202).getheader("Location") or ""
    joint = "&" if urlsplit(location).query else "?"
    connection.request("PUT", f"{location}{joint}digest={name}", headers={**headers, "Content-Length": "0"})
    answer(connection, 201)
    connection.request("GET", f"/v2/bench/large/blobs/{name}", headers=headers)
    pulled, blob = hashlib.sha256(), connection.getresponse()
    while chunk := blob.read(MIB):
        pulled.update(chunk)
    connection.close()
    if blob.status != 200 or pulled.digest() != digest.digest():
        raise RuntimeError(f"the blob came back with {blob.status} and another digest")
