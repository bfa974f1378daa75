"""Memory of the registry: under many transfers at once, and with one blob that is larger than it."""

from __future__ import annotations

import hashlib
import http.client
import selectors
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.load import Target, request
from tests.bench.ours import PRIVATE, Ours, registry
from tests.bench.peers import MissingError
from tests.bench.processes import peak_bytes, reset_peak, resident_bytes, tree, tree_cpu_seconds
from tests.bench.pushing import MIB, begin_upload, content, finish_upload, push_blob
from tests.kit.s3 import find_weed, running_seaweedfs

PULLS = 500
PUSHES = 50
PULLED_BYTES = 64 * MIB
PUSHED_BYTES = 10 * MIB
GROWTH_MB = 70
IDLE_MB = 150
MB = 1_000_000
GIB = 1024 * MIB
HUGE_BYTES = 20 * GIB
_BLOCK = hashlib.shake_256(b"bench").digest(MIB)


def transfers(scratch: Path) -> Iterator[Figure]:
    """Idle, and growth over it while 500 clients pull slowly and 50 push, with either store."""
    yield from _transfers("", scratch / "folder")
    weed = find_weed()
    if weed is None:
        raise MissingError("SeaweedFS is not installed: make setup")
    with running_seaweedfs(weed) as s3:
        yield from _transfers(
            ", S3",
            scratch / "s3",
            storage_url=s3.url("bench"),
            storage_credentials_file=str(s3.credentials),
        )


def _transfers(store: str, data: Path, **settings: str) -> Iterator[Figure]:
    with registry(data, core=None, settings={"gate": "warn", **settings}) as ours:
        blob = content(PULLED_BYTES)
        push_blob(ours.pusher, PRIVATE, blob)
        _pull_whole(ours.pusher, blob.digest, PULLED_BYTES)
        idle = _resident(ours)
        limit = IDLE_MB if store else None
        yield Figure(f"memory{store}, idle after a push and a pull", idle / MB, "MB", at_most=limit)
        _reset(ours)
        with _slow_pulls(ours.puller("ours"), f"/v2/{PRIVATE}/blobs/{blob.digest}"):
            pulling = _peak(ours)
            blobs = [content(PUSHED_BYTES) for _ in range(2 * PUSHES)]
            with ThreadPoolExecutor(PUSHES) as threads:
                for push in [threads.submit(push_blob, ours.pusher, PRIVATE, blob) for blob in blobs]:
                    push.result()
            both = _peak(ours)
        words = f"growth of memory{store}, 500 slow pulls"
        yield Figure(words, (pulling - idle) / MB, "MB")
        yield Figure(f"{words} and 50 pushes", (both - idle) / MB, "MB", at_most=GROWTH_MB)


def huge_blob(scratch: Path) -> Iterator[Figure]:
    """Growth of memory while one blob of 20 GiB is pushed and pulled."""
    free = shutil.disk_usage(scratch).free
    size = HUGE_BYTES if free > 3 * HUGE_BYTES else free // 4 // GIB * GIB
    note = "" if size == HUGE_BYTES else f"not 20 GiB: {free // GIB} GiB of disk are free"
    shown = f"{size / GIB:g} GiB"
    with registry(scratch / "data", core=None, settings={"gate": "warn"}) as ours:
        blob = content(MIB)
        push_blob(ours.pusher, PRIVATE, blob)
        _pull_whole(ours.pusher, blob.digest, MIB)
        idle, spent = _resident(ours), tree_cpu_seconds(ours.service.process.pid)
        _reset(ours)
        began = time.monotonic()
        digest = _push_huge(ours.pusher, size)
        pushed = time.monotonic() - began
        _pull_whole(ours.pusher, digest, size)
        pulled = time.monotonic() - began - pushed
        spent = tree_cpu_seconds(ours.service.process.pid) - spent
        grown = (_peak(ours) - idle) / MB
    yield Figure(f"growth of memory, a blob of {shown} pushed and pulled", grown, "MB", at_most=40, note=note)
    yield Figure(f"CPU for each GiB, {shown} pushed and pulled", spent / (size / GIB), "s")
    yield Figure(f"push of {shown}, hashed by the client meanwhile", size / MIB / pushed, "MiB/s")
    yield Figure(f"pull of {shown}", size / MIB / pulled, "MiB/s")


def _resident(ours: Ours) -> int:
    return sum(map(resident_bytes, tree(ours.service.process.pid)))


def _reset(ours: Ours) -> None:
    for pid in tree(ours.service.process.pid):
        reset_peak(pid)


def _peak(ours: Ours) -> int:
    return sum(map(peak_bytes, tree(ours.service.process.pid)))


@contextmanager
def _slow_pulls(target: Target, path: str) -> Iterator[None]:
    """500 clients that take 16 KiB about every half second while the block runs, all of them served."""
    stop = threading.Event()
    failures: list[str] = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(PULLS):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
            one.connect(("127.0.0.1", target.port))
            one.sendall(request("GET", path, target.headers))
            selector.register(one, selectors.EVENT_READ)
        for asked in list(selector.get_map().values()):
            assert isinstance(asked.fileobj, socket.socket)
            if not (head := asked.fileobj.recv(16 * 1024)).startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"answered {head[:200]!r}")

        def read() -> None:
            while not stop.wait(0.5):
                for ready, _ in selector.select(0):
                    assert isinstance(ready.fileobj, socket.socket)
                    if not ready.fileobj.recv(16 * 1024):
                        failures.append("a slow pull was broken off")
                        selector.unregister(ready.fileobj)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            time.sleep(2)
            yield
        finally:
            stop.set()
            reader.join()
    if failures:
        raise RuntimeError(f"{failures[0]} ({len(failures)} of {PULLS})")


def _push_huge(target: Target, size: int) -> str:
    """Push as many bytes, hashed while they go; the digest."""
    hashed = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        for _ in range(size // MIB):
            hashed.update(_BLOCK)
            yield _BLOCK

    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=600)
    location = begin_upload(connection, target.headers, PRIVATE, blocks(), size)
    digest = f"sha256:{hashed.hexdigest()}"
    finish_upload(connection, target.headers, location, digest)
    connection.close()
    return digest


def _pull_whole(target: Target, digest: str, size: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=600)
    connection.request("GET", f"/v2/{PRIVATE}/blobs/{digest}", headers=dict(target.headers))
    response, buffer, got = connection.getresponse(), bytearray(MIB), 0
    while more := response.readinto(buffer):
        got += more
    connection.close()
    if response.status != 200 or got != size:
        raise RuntimeError(f"{response.status} with {got} bytes instead of 200 with {size}")
