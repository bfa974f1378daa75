"""Hostile images by the hundred through one real worker, eight at once: its memory stays flat and the host
responsive; and the same with the worker killed (-9) again and again: at the end nothing of it is left.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from registry.contract.limits import MIB
from registry.trials.reading import LIST_MAX
from tests.kit.access import ask
from tests.kit.distribution import push_blob, put_manifest
from tests.kit.evilimages import EVIL
from tests.kit.images import Image, busybox_image, to_json
from tests.kit.internet import internet, network
from tests.kit.server import RegistryProcess
from tests.kit.trials import worker_token
from tests.kit.worker import WorkerProcess, worker_process

SLOTS = 8
AHEAD = 3 * SLOTS
"""So many images wait, so that no slot has nothing to do."""
WARM_RUNS = 3 * SLOTS
ROOM_FOR_CACHES_BYTES = 24 * MIB
FORK_SECONDS = 0.05
_STUCK_SECONDS = 180.0
_END_SECONDS = 60.0
_SUBREAPER = 36
SETTINGS = {
    "trial_on_push": "true",
    "trial_attempts": "10",
    "lease_seconds": "3",
    "limits__memory_bytes": str(64 * MIB),
    "limits__pids": "64",
    "limits__written_bytes": str(16 * MIB),
    "limits__wall_seconds": "60",
    "limits__alive_seconds": "0.5",
    "limits__cpus": "0.5",
    "limits__log_bytes": "65536",
}
NETWORKED = "networked"
_SPEC = {
    "version": 1,
    "network": {"egress": [{"host": "192.0.2.1", "port": 80}]},
    "expect": {"exit": 0},
}
SCRIPTS: Mapping[str, str] = {
    "nothing": "exit 0",
    "processes": ":(){ :|:& };:",
    "memory": "x=0123456789abcdef; while :; do x=$x$x; done",
    "disk": "while cat /bin/busybox >>/big; do :; done; exit 7",
    "names": "i=0; while : >/n$i; do i=$((i+1)); done; exit 7",
    "log": "yes storm",
    "signals": "trap '' TERM HUP INT; kill -KILL -1; while :; do :; done",
    "orphans": "for i in 1 2 3 4 5 6 7 8 9; do (setsid sleep 100 &) done; exit 0",
    "processor": "for i in 1 2 3 4; do (while :; do :; done) & done; wait",
    "ends badly": "exit 3",
}
LAYERS = (
    "link to the host, and a file below",
    "whiteout that climbs",
    "/dev is a link",
    "the program is a FIFO",
    "wrong diff ID",
)
_NETWORKED = "with a network"
PASS = frozenset({"nothing", "orphans", _NETWORKED})
NEVER_PASS = frozenset(LAYERS)


@dataclass(slots=True)
class Count:
    """What became of it all."""

    runs: int = 0
    seconds: float = 0.0
    kills: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    memory_bytes: list[int] = field(default_factory=list)
    """Of the worker, resident, as time went by; with kills that of the last one."""
    fork_seconds: list[float] = field(default_factory=list)
    """What the host took to fork: whatever keeps all others from it is in this."""
    program_seconds: list[float] = field(default_factory=list)
    """What it took with a program in the child, to its end: that must get a processor, too."""
    late_seconds: list[float] = field(default_factory=list)
    """What it took, at the same times, to wake a process that slept."""
    violations: list[str] = field(default_factory=list)

    def grown_bytes(self) -> int:
        """How much more memory the worker had in the last quarter than in the first."""
        quarter = max(1, len(self.memory_bytes) // 4)
        return int(_median(self.memory_bytes[-quarter:]) - _median(self.memory_bytes[:quarter]))

    def memory_median(self) -> float:
        """Bytes."""
        return _median(self.memory_bytes)

    def fork_of_100(self, number: int) -> float:
        """Seconds of the call that so many of a hundred are not slower than."""
        return sorted(self.fork_seconds)[len(self.fork_seconds) * number // 100]


async def run_again_and_again(
    folder: Path,
    *,
    runs: int,
    kill_every: int | None,
    seed: int,
    go_on: Callable[[Count], bool] = lambda _: True,
    runtime: str | None = None,
) -> Count:
    """Let a worker try ``runs`` images, killing it after every ``kill_every``; stop early when ``go_on``,
    which is asked twice a second, says so. ``runtime`` is one by name that connects its runs to no network;
    ``None``: the one that the worker chooses."""
    count, began = Count(), time.monotonic()
    process = RegistryProcess(folder / "data", **SETTINGS)
    try:
        with internet(), adopting() as strays:
            before = network()
            registry = process.start()
            async with registry.client() as admin:
                token = await worker_token(admin, "soak")
                with worker_process(registry.url, token, slots=SLOTS) as worker:
                    database = folder / "data" / "seatrial.db"
                    yard = Yard(database, admin, worker, count, random.Random(seed), strays, runtime)
                    await _play(yard, runs, kill_every, go_on)
                    await _judge(yard)
                    _end(worker, count)
                    count.violations += [f"left behind: {one}" for one in worker.left_behind()]
            process.stop()
            deadline = time.monotonic() + _END_SECONDS
            while (left := strays()) and time.monotonic() < deadline:
                time.sleep(0.1)  # noqa: ASYNC251  (nothing else goes on any more)
            count.violations += [f"left behind: process {one}" for one in left]
            after = network()
            count.violations += [] if before == after else [f"left behind: of the network {after}"]
    finally:
        process.stop()
    count.seconds = time.monotonic() - began
    return count


@dataclass(slots=True)
class Yard:
    """One worker at one registry, and what was pushed to it, by digest."""

    database: Path
    admin: aiohttp.ClientSession
    worker: WorkerProcess
    count: Count
    chance: random.Random
    strays: Callable[[], list[str]]
    runtime: str | None
    pushed: dict[str, str] = field(default_factory=dict)
    blobs: set[tuple[str, str]] = field(default_factory=set)


async def _play(yard: Yard, runs: int, kill_every: int | None, go_on: Callable[[Count], bool]) -> None:
    count, worker = yard.count, yard.worker
    answer = await ask(yard.admin, "POST", "/api/v1/repositories", json={"name": NETWORKED})
    assert answer.status == 201, answer.body
    answer = await ask(yard.admin, "PATCH", f"/api/v1/repositories/{NETWORKED}", json={"run_spec": _SPEC})
    assert answer.status < 300, answer.body
    arguments = (
        *("--metrics", f"unix:{worker.folder}/metrics"),
        *(("--runtime", yard.runtime) if yard.runtime else ("--allow-egress", "192.0.2.1/32:80")),
        *("--cache-size", "64MiB", "--keep-free", "1MiB"),
    )
    worker.start(*arguments)
    killed_at, moved = 0, time.monotonic()
    async with _forking(count):
        while count.runs < runs and go_on(count):
            while len(yard.pushed) < min(runs, count.runs + AHEAD):
                await _push(yard, len(yard.pushed))
            await asyncio.sleep(0.25)
            done = _done(yard.database)
            moved = time.monotonic() if done > count.runs else moved
            count.runs = done
            if count.runs >= WARM_RUNS:
                count.memory_bytes.append(_resident_bytes(worker))
            if time.monotonic() - moved > _STUCK_SECONDS:
                count.violations.append(f"no run has ended for {_STUCK_SECONDS:.0f} s")
                break
            if kill_every and count.runs - killed_at >= kill_every:
                # Not from where it stands: some have ended meanwhile, and the kills would become fewer.
                killed_at += kill_every
                await asyncio.sleep(yard.chance.uniform(0, 0.5))
                worker.kill()
                count.kills += 1
                yard.strays()
                worker.start(*arguments)


async def _push(yard: Yard, number: int) -> None:
    name, image = _image(number, yard.chance)
    repository = NETWORKED if name == _NETWORKED else "plain"
    for digest, content in image.blobs().items():
        if content != image.manifest and (repository, digest) not in yard.blobs:
            await push_blob(yard.admin, repository, content)
            yard.blobs.add((repository, digest))
    answer = await put_manifest(yard.admin, repository, f"{number}", image.manifest, image.media_type)
    assert answer.status == 201, answer.body
    yard.pushed[image.digest] = name


def _image(number: int, chance: random.Random) -> tuple[str, Image]:
    """Every eighth with a network, every fourth with an evil layer, the others with an evil command."""
    if number % 8 == 0:
        return _NETWORKED, busybox_image(("true",), env=[f"SOAK={number}"])
    if number % 4 == 1:
        name = LAYERS[number // 4 % len(LAYERS)]
        evil = EVIL[name].image()
        manifest = json.loads(evil.manifest) | {"annotations": {"soak": f"{number}"}}
        return name, replace(evil, manifest=to_json(manifest))
    name = chance.choice(list(SCRIPTS))
    return name, busybox_image(("/bin/sh", "-c", SCRIPTS[name]), env=[f"SOAK={number}"])


def _done(database: Path) -> int:
    """How many have their verdict. Not by the registry's metrics: who is killed while it waits for an answer
    has reported, and is not counted."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM parts WHERE state = 'done'").fetchone()
    return int(count)


async def _judge(yard: Yard) -> None:
    """Compare each verdict with what the image deserves. Where the worker was killed a run may be lost too
    often; then it is an error, and never a pass or a fail."""
    count = yard.count
    refused = {_NETWORKED} if yard.runtime else set()
    for repository in (NETWORKED, "plain"):
        query = {"image": repository, "limit": f"{LIST_MAX}"}
        while True:
            answer = await ask(yard.admin, "GET", "/api/v1/trials", params=query)
            assert answer.status == 200, answer.body
            for trial in answer.json:
                name, verdict = yard.pushed[trial["digest"]], trial["verdict"]
                if verdict is None:
                    continue
                count.verdicts[verdict] += 1
                wrong = (
                    (verdict == "pass")
                    if name in NEVER_PASS | refused
                    else (verdict == "fail")
                    if name in PASS
                    else False
                )
                lost = verdict == "error" and name in PASS - refused and not count.kills
                if wrong or lost:
                    count.violations.append(f"{name}: {verdict}: {trial['reason']}")
            if len(answer.json) < LIST_MAX:
                break
            query["cursor"] = answer.json[-1]["id"]


def _end(worker: WorkerProcess, count: Count) -> None:
    worker.stop()
    lines = worker.log.splitlines()
    for number, line in enumerate(lines):
        if "Traceback" in line or '"level": "error"' in line:
            said = "\n".join(lines[number : number + 30])
            count.violations.append(f"the worker said: {said[:4000]}")
            break


@asynccontextmanager
async def _forking(count: Count) -> AsyncIterator[None]:
    """Have the host fork, again and again, while the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.forking"),
        cwd=Path(__file__).resolve().parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    reading = asyncio.create_task(_read_forks(process.stdout, count))
    try:
        yield
    finally:
        process.stdin.close()
        await reading
        await process.wait()


async def _read_forks(lines: asyncio.StreamReader | None, count: Count) -> None:
    assert lines is not None
    async for line in lines:
        late, forked, took = map(float, line.split())
        count.late_seconds.append(late)
        count.fork_seconds.append(forked)
        count.program_seconds.append(took)


def _resident_bytes(worker: WorkerProcess) -> int:
    pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def adopting() -> Iterator[Callable[[], list[str]]]:
    """Become the parent of every orphan below this process; gives what tells those that are still alive."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    before = set(_children())

    def strays() -> list[str]:
        found = []
        for pid in _children():
            if pid not in before:
                with suppress(ChildProcessError):
                    if os.waitpid(pid, os.WNOHANG)[0] == 0:
                        found.append(f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes()!r}"[:200])
        return found

    try:
        yield strays
    finally:
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)


def _children() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    yield int(entry.name)


def _median(values: list[int] | list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
