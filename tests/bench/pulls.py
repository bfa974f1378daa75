"""Pulls of a large blob beside nginx, which does nothing but send files."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.bench import peers
from tests.bench.figures import Figure, over, ratio
from tests.bench.load import GENERATOR_CORE, Target, on_core, request
from tests.bench.ours import PRIVATE, registry
from tests.bench.processes import tree_cpu_seconds
from tests.bench.pushing import MIB, Content, content, push_blob

ROUNDS = 7
EACH = 5
LARGE_BYTES = 100 * MIB
NO_GATE = {"gate": "warn"}


def pulls(scratch: Path) -> Iterator[Figure]:
    """Throughput and CPU of pulls of 100 MiB over one kept connection, without TLS and with it."""
    blob = content(LARGE_BYTES)
    files = scratch / "files"
    files.mkdir()
    with (files / "blob").open("wb") as file:
        file.writelines(blob.chunks(MIB))
    yield from _plain(scratch, files, blob)
    yield from _by_tls(scratch, files, blob)


def _plain(scratch: Path, files: Path, blob: Content) -> Iterator[Figure]:
    with ExitStack() as stack:
        ours = stack.enter_context(registry(scratch / "ours", settings=NO_GATE))
        others = {
            "distribution": stack.enter_context(peers.distribution(scratch / "distribution", logs=False)),
            "olareg": stack.enter_context(peers.olareg(scratch / "olareg")),
        }
        for target in (ours.pusher, *others.values()):
            push_blob(target, PRIVATE, blob)
        path = f"/v2/{PRIVATE}/blobs/{blob.digest}"
        asked = {name: (target, path) for name, target in {"ours": ours.puller("ours"), **others}.items()}
        asked["nginx"] = stack.enter_context(peers.nginx(files)), "/blob"
        rate, cpu = _measured(asked)
    yield from _shown("pull of 100 MiB", rate, cpu)
    yield ratio("pull of 100 MiB: throughput over nginx", rate["ours"], rate["nginx"], at_least=0.9)
    yield ratio("pull of 100 MiB: CPU over nginx", cpu["ours"], cpu["nginx"])
    yield ratio("pull of 100 MiB: CPU over distribution", cpu["ours"], cpu["distribution"])


def _by_tls(scratch: Path, files: Path, blob: Content) -> Iterator[Figure]:
    with ExitStack() as stack:
        ours = stack.enter_context(registry(scratch / "ours", settings={**NO_GATE, "tls": "self-signed"}))
        certificate, key = (next(scratch.glob(f"ours/**/{name}.pem")) for name in ("certificate", "key"))
        nginx = stack.enter_context(peers.nginx(files, certificate=(certificate, key)))
        path = f"/v2/{PRIVATE}/blobs/{blob.digest}"
        rate, cpu = _measured({"ours": (ours.puller("ours"), path), "nginx": (nginx, "/blob")})
    yield from _shown("pull of 100 MiB by TLS", rate, cpu)
    yield ratio("pull of 100 MiB by TLS: throughput over nginx", rate["ours"], rate["nginx"])
    yield ratio("pull of 100 MiB by TLS: CPU over nginx", cpu["ours"], cpu["nginx"])


def _measured(
    asked: Mapping[str, tuple[Target, str]],
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """MiB a second and seconds of CPU for one pull, by name."""
    rate: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    for i in range(ROUNDS + 1):
        for name, (target, path) in asked.items():
            spent, took = _pull(target, path)
            if i:
                cpu[name].append(spent / EACH)
                rate[name].append(EACH * LARGE_BYTES / MIB / took)
    return rate, cpu


def _shown(words: str, rate: Mapping[str, list[float]], cpu: Mapping[str, list[float]]) -> Iterator[Figure]:
    for name in rate:
        yield over(f"{name}, {words}: CPU", [1000 * spent for spent in cpu[name]], "ms")
        yield over(f"{name}, {words}: MiB/s", rate[name], "")


def _pull(target: Target, path: str) -> tuple[float, float]:
    """Seconds of CPU and of time for ``EACH`` pulls, every byte of them read."""
    asked, buffer = request("GET", path, target.headers), bytearray(MIB)
    with on_core(GENERATOR_CORE), target.connect() as connection:
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
