"""What the readers of packages cost over the root file system of a Debian image, in their own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.peers import MissingError, built
from tests.kit.toolfolder import tools_folder

ROUNDS = 3
_MEASURE = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
"""


def inventory(folder: Path) -> Iterator[Figure]:
    """Processor time and memory, start of the interpreter included."""
    (packed,) = tools_folder().glob("debian-12-bare-*.tar.zst")
    root = folder / "root"
    root.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", packed, "-C", root, "--exclude=./dev/*"], check=True)
    found = [_measured(root) for _ in range(ROUNDS)]
    files = sum(len(names) for _, _, names in os.walk(root))
    what = f"inventory of a Debian root file system: {found[0]['packages']:.0f} packages in {files} files"
    cpu = sorted(one["cpu_seconds"] for one in found)
    peak = sorted(one["peak_mib"] for one in found)
    yield Figure(f"{what}, processor time", cpu[1], "s", low=cpu[0], high=cpu[-1])
    yield Figure(f"{what}, peak memory", peak[1], "MiB", low=peak[0], high=peak[-1])
    # Of trivy the database of Java archives is not asked for: without it, it would end at the first one.
    trivy = ["rootfs", "--offline-scan", "--skip-db-update", "--skip-java-db-update", "--format", "cyclonedx"]
    skipped = ["--skip-files", "**/*.jar", "--cache-dir", str(folder / "trivy"), str(root)]
    for name, options, of_cpu, of_peak in (
        ("syft", [f"dir:{root}", "--output", "json"], None, None),
        ("trivy", [*trivy, *skipped], 1.0, 1 / 3),
    ):
        measures = (("cpu_seconds", "processor time", of_cpu), ("peak_mib", "peak memory", of_peak))
        try:
            theirs = [_peer(built(name), *options) for _ in range(ROUNDS)]
        except MissingError as missing:
            # What was measured beside the other is kept.
            for _, measure, most in measures:
                yield Figure(f"{what}, {measure} beside {name}", None, "", at_most=most, note=str(missing))
            continue
        for key, measure, most in measures:
            ratio = sorted(one[key] for one in found)[1] / sorted(one[key] for one in theirs)[1]
            note = f"{name}: {sorted(one[key] for one in theirs)[1]:.2f}"
            yield Figure(f"{what}, {measure} beside {name}", ratio, "times", at_most=most, note=note)


def _peer(program: str, *options: str) -> dict[str, float]:
    """What another scanner takes. Measured by a small process: what a child has taken counts from what it was
    forked from."""
    measure = [sys.executable, "-I", "-c", _MEASURE, program, *options]
    environment = os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"}
    done = subprocess.run(measure, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise MissingError(f"{program} ends with an error: {done.stderr.strip()[-300:]}")
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _measured(root: Path) -> dict[str, float]:
    child = [sys.executable, "-m", "tests.bench.walking", str(root)]
    done = subprocess.run(child, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured
