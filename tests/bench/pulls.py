"""Pulls of a large blob beside nginx, which does nothing but send files."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench import peers
from tests.bench.figures import Figure, over, ratio
from tests.bench.load import GENERATOR_CORE, Target, on_core, request
from tests.bench.ours import PRIVATE, registry
from tests.bench.processes import tree_cpu_seconds
from tests.bench.pushing import MIB, content, push_blob

ROUNDS = 9
EACH = 5
LARGE_BYTES = 100 * MIB


def pulls(scratch: Path) -> Iterator[Figure]:
    """Throughput and CPU of pulls of 100 MiB over one kept connection, plain HTTP."""
    blob = content(LARGE_BYTES)
    with ExitStack() as stack:
        ours = stack.enter_context(registry(scratch / "ours", settings={"gate": "warn"}))
        others = {
            "distribution": stack.enter_context(peers.distribution(scratch / "distribution", logs=False)),
            "olareg": stack.enter_context(peers.olareg(scratch / "olareg")),
        }
        for target in (ours.pusher, *others.values()):
            push_blob(target, PRIVATE, blob)
        (scratch / "files").mkdir()
        with (scratch / "files/blob").open("wb") as file:
            file.writelines(blob.chunks(MIB))
        path = f"/v2/{PRIVATE}/blobs/{blob.digest}"
        asked = {name: (target, path) for name, target in {"ours": ours.puller("ours"), **others}.items()}
        asked["nginx"] = stack.enter_context(peers.nginx(scratch / "files")), "/blob"
        cpu: dict[str, list[float]] = defaultdict(list)
        rate: dict[str, list[float]] = defaultdict(list)
        for i in range(ROUNDS + 1):
            for name, (target, where) in asked.items():
                spent, took = _pull(target, where)
                if i:
                    cpu[name].append(spent)
                    rate[name].append(EACH * LARGE_BYTES / MIB / took)
    for name in asked:
        yield over(f"{name}, pull of 100 MiB: CPU", [1000 * spent / EACH for spent in cpu[name]], "ms")
        yield over(f"{name}, pull of 100 MiB: MiB/s", rate[name], "")
    yield ratio("pull of 100 MiB: throughput over nginx", rate["ours"], rate["nginx"], at_least=0.9)
    yield ratio("pull of 100 MiB: throughput over distribution", rate["ours"], rate["distribution"])
    yield ratio("pull of 100 MiB: CPU over nginx", cpu["ours"], cpu["nginx"])
    yield ratio("pull of 100 MiB: CPU over distribution", cpu["ours"], cpu["distribution"])


def _pull(target: Target, path: str) -> tuple[float, float]:
    """Seconds of CPU and of time for ``EACH`` pulls, every byte of them read."""
    asked, buffer = request("GET", path, target.headers), bytearray(MIB)
    with (
        on_core(GENERATOR_CORE),
        socket.create_connection(("127.0.0.1", target.port), 60) as connection,
    ):
        before, began = sum(map(tree_cpu_seconds, target.pids)), time.monotonic()
        for _ in range(EACH):
            connection.sendall(asked)
            head = connection.recv(65536)
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            head, _, body = head.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"answered {head[:300]!r}")
            left = LARGE_BYTES - len(body)
            while left:
                got = connection.recv_into(buffer, min(left, len(buffer)))
                if not got:
                    raise RuntimeError("the server closed the connection")
                left -= got
        took = time.monotonic() - began
        return sum(map(tree_cpu_seconds, target.pids)) - before, took
