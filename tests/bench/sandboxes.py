"""What the worker costs: unpacking an image, starting a run, memory beside a running container."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from registry.contract.limits import Limits, PrepareLimits
from registry.contract.report import Report
from registry.contract.runspec import RunSpec
from registry.oci.platform import platform_of_machine
from sandbox.attempt import Task, Workplace, try_image
from sandbox.images.cache import Cache, Use
from sandbox.images.pull import PulledImage, pull
from sandbox.images.snapshots import prepare
from sandbox.images.source import open_source
from sandbox.images.sourcefile import LayoutSource
from sandbox.workplace import opened_workplace
from tests.bench.cold import cold
from tests.bench.commands import LIMITS, before_others, in_memory, podman_at, processor_seconds, run, timed
from tests.bench.figures import Figure, over, ratio
from tests.bench.peers import MissingError
from tests.bench.processes import SEATRIAL, tree
from tests.kit.images import Layer, busybox_image, file, folder, make_image, make_layer, write_layout

MB, MIB = 1_000_000, 1024 * 1024
FILES, FOLDERS, TOTAL_BYTES = 6500, 600, 128 * MIB
ROUNDS, STARTS, AT_ONCE = 5, 20, 8
_PLATFORM = platform_of_machine(os.uname().machine)
_RUN = RunSpec.model_validate_json('{"version": 1, "expect": {"exit": 0}}')
_WAIT = RunSpec.model_validate_json(
    '{"version": 1, "expect": {"alive": true}, "limits": {"alive_seconds": 20}}'
)


def unpacking(scratch: Path) -> Iterator[Figure]:
    """One layer like a small Debian, from gzip: beside GNU tar and umoci; and one image cold."""
    _needs("umoci", "podman", "runc")
    scratch.chmod(0o711)
    image = make_image(_layer(FILES, TOTAL_BYTES), config={"Cmd": ["/bin/true"]})
    layout = write_layout(scratch / "layout", image)
    memory = scratch / "memory"
    ours, tar, umoci = [], [], []
    spent, spent_tar = [], []
    with before_others(), in_memory(memory), Cache(memory / "cache").used() as use:
        pulled = asyncio.run(_pulled(layout, use))
        for number in range(ROUNDS):
            with Cache(memory / "cache").used() as again:
                again.hold(pulled.layers[0])
                work = timed(lambda: asyncio.run(prepare(pulled, PrepareLimits(), again)))
                ours.append(work[0])
                spent.append(work[1])
            shutil.rmtree(memory / "cache/snapshots")
            target = memory / f"{number}"
            target.mkdir()
            work = timed(lambda: run("tar", "-xzf", str(pulled.layers[0]), "-C", str(target)))  # noqa: B023
            tar.append(work[0])
            spent_tar.append(work[1])
            shutil.rmtree(target)
            work = timed(lambda: run("umoci", "unpack", "--image", f"{layout}:latest", str(target)))  # noqa: B023
            umoci.append(work[0])
            shutil.rmtree(target)
    what = f"{FILES} files, {TOTAL_BYTES // MIB} MiB, gzip, in memory"
    yield over(f"unpack: {what}, diff ID checked", ours, "s")
    yield ratio("time to unpack, beside GNU tar, which checks nothing", ours, tar, at_most=1)
    yield ratio("time to unpack, beside umoci unpack", ours, umoci, at_most=1)
    yield ratio("CPU to unpack, beside GNU tar and gzip", spent, spent_tar)
    yield from cold(scratch)


def running(scratch: Path) -> Iterator[Figure]:
    """What a run costs beside the runtime alone, and the memory of eight at once."""
    _needs("podman", "runc")
    scratch.chmod(0o711)
    layout = write_layout(scratch / "layout", busybox_image(["/bin/true"]))
    sleeper = write_layout(scratch / "sleeper", busybox_image(["/bin/sleep", "100"]))
    bundle = scratch / "bundle"
    run(str(SEATRIAL), "bundle", f"oci:{layout}", str(bundle))
    with opened_workplace(scratch / "state", runtime="runc", allowed_downgrades=frozenset()) as (
        workplace,
        _,
    ):
        asyncio.run(_tried(workplace, layout, _RUN))
        with before_others(*tree(os.getpid())):
            yield from _starts(workplace, layout, bundle, scratch)
        yield from _memory(workplace, sleeper)


def _starts(workplace: Workplace, layout: Path, bundle: Path, scratch: Path) -> Iterator[Figure]:
    bare, bare_cpu, ours, ours_cpu, whole, foreground, podman = [], [], [], [], [], [], []
    below = _spent_below()
    runc = str(workplace.runtime.info.path)
    with podman_at(scratch / "p") as command:
        # It names an image by this path, and not every path is a name.
        run(*command, "pull", f"oci:{layout.name}:latest", cwd=scratch)
        name = subprocess.run(
            [*command, "images", "-q"], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        for number in range(STARTS):
            began, before = time.monotonic(), processor_seconds()
            run(runc, "create", "--bundle", str(bundle), f"bench-{number}")
            run(runc, "start", f"bench-{number}")
            bare.append(time.monotonic() - began)
            run(runc, "delete", "--force", f"bench-{number}")
            bare_cpu.append(processor_seconds() - before)
            began, before = time.monotonic(), processor_seconds()
            report = asyncio.run(_tried(workplace, layout, _RUN))
            whole.append(time.monotonic() - began)
            ours_cpu.append(processor_seconds() - before)
            ours.append(_until_started(report))
            foreground.append(timed(lambda: run(runc, "run", "--bundle", str(bundle), "bench"))[0])
            podman.append(timed(lambda: run(*command, "run", "--rm", *LIMITS, "--network", "none", name))[0])
    added = [(a - b) * 1000 for a, b in zip(ours, bare, strict=True)]
    below = _spent_below() - below
    added_cpu = (sum(ours_cpu) + below - sum(bare_cpu)) / STARTS * 1000
    yield over(f"create and start, {workplace.runtime.info} alone", [one * 1000 for one in bare], "ms")
    yield over("until the command runs, from the shared snapshot", [one * 1000 for one in ours], "ms")
    yield over("of that, added by the worker", added, "ms", at_most=60)
    note = "mounting, checks, fence, probes, teardown and report; create, start and delete alone taken off"
    yield Figure("CPU of a container, create, start and delete alone", sum(bare_cpu) / STARTS * 1000, "ms")
    yield Figure("CPU that the worker adds to a run", added_cpu, "ms", note=note)
    yield ratio("a whole run, beside podman run --network none", whole, podman)
    yield ratio("a whole run, beside runc run", whole, foreground)


def _until_started(report: Report) -> float:
    """Seconds from the mount to the executed command, by the report's own steps."""
    total = 0.0
    for step in report.steps:
        if step.name not in ("pull", "unpack"):
            total += step.seconds
        if step.name == "start through the kernel":
            return total
    raise RuntimeError(report.model_dump_json())


def _memory(workplace: Workplace, sleeper: Path) -> Iterator[Figure]:
    own = os.getpid()

    async def measured() -> tuple[int, int, int]:
        await _tried(workplace, sleeper, _RUN.model_copy(update={"command": ("/bin/true",)}))
        idle = _proportional_bytes(tree(own))
        runs = [asyncio.create_task(_tried(workplace, sleeper, _WAIT)) for _ in range(AT_ONCE)]
        while sum(_is_of_a_run(pid) for pid in tree(own)) < AT_ONCE:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        pids = tree(own)
        ours = _proportional_bytes([pid for pid in pids if not _is_of_a_run(pid)])
        theirs = _proportional_bytes([pid for pid in pids if _is_of_a_run(pid)])
        for one in runs:
            one.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        return idle, ours, theirs

    idle, ours, theirs = asyncio.run(measured())
    grown = (ours - idle) / AT_ONCE / MB
    note = (
        f"{AT_ONCE} at once: worker, supervisors and what they are forked from; shared pages by their shares"
    )
    yield Figure("memory of a running container, beside its own", grown, "MB", at_most=15, note=note)
    yield Figure("memory of the container itself, a busybox that sleeps", theirs / AT_ONCE / MB, "MB")


async def _tried(workplace: Workplace, layout: Path, spec: RunSpec) -> Report:
    async with open_source(f"oci:{layout}", credentials=None, insecure=False) as (source, reference):
        task = Task(
            reference=reference,
            platform=_PLATFORM,
            spec=spec,
            image_spec_allowed=False,
            limits=Limits(),
            ceiling=Limits(alive_seconds=60),
            prepare=PrepareLimits(),
        )
        report = await try_image(source, task, workplace=workplace)
    if report.error is not None:
        raise RuntimeError(report.error.message)
    return report


async def _pulled(layout: Path, use: Use) -> PulledImage:
    return await pull(LayoutSource(layout), "", platform=_PLATFORM, use=use, limits=PrepareLimits())


def _layer(files: int, total_bytes: int) -> Layer:
    """Files of many sizes in many folders, half of whose bytes compress away."""
    chance = random.Random(1)
    sizes = [chance.lognormvariate(0, 1.5) for _ in range(files)]
    scale = total_bytes / sum(sizes)
    block = b"".join(chance.randbytes(48) + b"of a kind " * 5 for _ in range(MIB // 98))
    members = [folder(f"d{number}") for number in range(FOLDERS)]
    for number, size in enumerate(sizes):
        start, wanted = chance.randrange(len(block)), int(size * scale)
        content = (block[start:] + block * (wanted // len(block) + 1))[:wanted]
        members.append(file(f"d{number % FOLDERS}/f{number}", content))
    return make_layer(*members)


def _spent_below() -> float:
    """The same of what lives below this process: supervisors are waited for by what they were forked from."""
    ticks = 0
    for pid in tree(os.getpid())[1:]:
        with suppress(FileNotFoundError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _proportional_bytes(pids: Sequence[int]) -> int:
    """What processes hold of memory, pages that several have by their shares."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _is_of_a_run(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid >= 65536
    except FileNotFoundError:
        return False


def _needs(*programs: str) -> None:
    if os.geteuid() != 0:
        raise MissingError("needs root")
    for program in programs:
        if shutil.which(program) is None:
            raise MissingError(f"{program} is not installed: make bench")
