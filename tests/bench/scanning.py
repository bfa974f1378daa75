"""What a scan costs: an image nobody has seen, a push on a base that is known, a layer of very many files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from registry.contract.limits import PrepareLimits
from registry.oci.platform import Platform
from sandbox.images.cache import Cache
from sandbox.images.pull import pull
from sandbox.images.snapshots import prepare
from sandbox.images.sourcefile import LayoutSource
from sandbox.scanners.layers import ScanLimits, make_scanner
from sandbox.scanners.scan import scan_image
from tests.bench.commands import in_memory
from tests.bench.figures import Figure, over
from tests.kit.images import (
    OCI_LAYER,
    Layer,
    file,
    make_image,
    make_layer,
    tiny_files,
    write_layout,
)
from tests.kit.toolfolder import tools_folder

ROUNDS = 3
MANY = 1_000_000
STATUS = b"Package: own\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n"


def scanning(folder: Path) -> Iterator[Figure]:
    """On one processor, the images in memory. Processor time is that of the worker and its children."""
    memory = folder / "memory"
    (packed,) = tools_folder().glob("debian-12-bare-*.tar.zst")
    with subprocess.Popen(["zstd", "-dc", packed], stdout=subprocess.PIPE) as unpacking:
        assert unpacking.stdout is not None
        base, size = _gzipped(iter(lambda: unpacking.stdout.read(1 << 20), b""))  # type: ignore[union-attr]
    with in_memory(memory):
        first = write_layout(memory / "first", make_image(base))
        cold = [_measured(first, memory / f"cold-{number}") for number in range(ROUNDS)]
        what = f"an image of {size / 1e6:.0f} MB with {cold[0]['packages']:.0f} packages that nobody has seen"
        yield over(
            f"{what}: pulled, unpacked, scanned", [one["cpu"] for one in cold], "s of CPU", at_most=5.0
        )
        yield over(f"{what}: of this the scan", [one["scan_cpu"] for one in cold], "s of CPU")
        yield over(f"{what}: peak memory of the scan", [one["peak_mib"] for one in cold], "MiB", at_most=256)
        state = memory / "known"
        _measured(first, state)
        again = []
        for number in range(ROUNDS):
            top = make_layer(file(f"app/{number}", os.urandom(100_000)), file("app/status.d/own", STATUS))
            again.append(_measured(write_layout(memory / f"top-{number}", make_image(base, top)), state))
        yield over(
            "a push on a base that is known: scanned",
            [one["scan_cpu"] for one in again],
            "s of CPU",
            at_most=0.5,
        )
        yield over(
            "a push on a base that is known: scanned, by the clock", [one["scan"] for one in again], "s"
        )
    crowd, size = _gzipped(chain(tiny_files(MANY), (b"\0" * 1024,)))
    layout = write_layout(folder / "crowd", make_image(crowd))
    most = _measured(layout, folder / "many", "--only-scan")
    yield Figure(
        f"a layer of {MANY} small files: peak memory of the scan", most["peak_mib"], "MiB", at_most=256
    )
    yield Figure(f"a layer of {MANY} small files: scanned", most["scan_cpu"], "s of CPU")


def _gzipped(pieces: Iterable[bytes]) -> tuple[Layer, int]:
    """A layer of these bytes, and how many they are; only what is compressed is held."""
    packer, whole, size = zlib.compressobj(1, wbits=31), hashlib.sha256(), 0
    blob = bytearray()
    for piece in pieces:
        whole.update(piece)
        size += len(piece)
        blob += packer.compress(piece)
    blob += packer.flush()
    return Layer(bytes(blob), f"{OCI_LAYER}+gzip", f"sha256:{whole.hexdigest()}"), size


def _measured(layout: Path, state: Path, *options: str) -> dict[str, float]:
    """In a process of its own, whose children are those of the scan."""
    program = [sys.executable, "-m", "tests.bench.scanning", str(layout), str(state), *options]
    done = subprocess.run(["taskset", "-c", "0", *program], check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


async def _scan(layout: Path, state: Path, *, unpack: bool) -> dict[str, float]:
    # How busy the machine is must not matter.
    scanner = replace(make_scanner(), limits=ScanLimits(layer_seconds=3600.0, seconds=3600.0))
    with Cache(state).used() as use, Cache(state).used() as blobs:
        began = _cpu()
        limits = PrepareLimits(files=2 * MANY)
        image = await pull(
            LayoutSource(layout), "", platform=Platform("linux", "amd64"), use=use, limits=limits
        )
        for blob in image.layers:
            blobs.hold(blob)
        if unpack:
            await prepare(image, limits, use)
        before, started = _cpu(), time.perf_counter()
        scan = await scan_image(image, use, scanner, digest=str(image.digest), platform=str(image.platform))
        if scan.incomplete:
            raise SystemExit(f"not complete: {scan.incomplete}")
        return {
            "packages": len(scan.packages),
            "cpu": _cpu() - began,
            "scan_cpu": _cpu() - before,
            "scan": time.perf_counter() - started,
            # The scan's child is the largest of all: no other loads the rules.
            "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        }


if __name__ == "__main__":
    measured = _scan(Path(sys.argv[1]), Path(sys.argv[2]), unpack="--only-scan" not in sys.argv)
    print(json.dumps(asyncio.run(measured)))
