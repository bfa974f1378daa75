"""What advisories cost: an import, look-ups, and matching many images anew, each in a process of its own."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from registry.advisories.building import build
from registry.advisories.file import open_advisories
from registry.advisories.importing import Given, source_of
from registry.advisories.matching import Look
from tests.bench.figures import Figure
from tests.kit.advisories import CVSS3, Thing, affects, record

RECORDS, NAMES, DISTINCT, IMAGES, PACKAGES, LOOK_UPS = 8_000, 4_000, 20_000, 10_000, 300, 20_000
ROUNDS = 3
ECOSYSTEMS = ("PyPI", "npm", "Go", "Debian:12")


def advisories(folder: Path) -> Iterator[Figure]:
    """Processor time, start of the interpreter included, and memory."""
    _write(folder / "records.zip")
    done = [_measured(folder, number) for number in range(ROUNDS)]

    def figure(name: str, key: str, unit: str, at_most: float | None = None, note: str = "") -> Figure:
        low, value, high = sorted(one[key] for one in done)
        return Figure(name, value, unit, at_most=at_most, low=low, high=high, note=note)

    what = f"import of {RECORDS:,} advisories"
    size = done[0]["file_mb"]
    yield figure(f"{what}, processor time", "import_seconds", "s", 5, f"a file of {size:.1f} MB")
    yield figure(f"{what}, peak memory", "import_mib", "MiB")
    yield figure(f"{LOOK_UPS:,} look-ups of a package, processor time", "look_up_seconds", "s")
    what = f"{IMAGES:,} images of {PACKAGES} packages matched anew"
    note = f"{DISTINCT:,} distinct packages; {done[0]['matches']:,.0f} matches"
    yield figure(f"{what}, processor time", "match_seconds", "s", 10, note)
    yield figure(f"{what}, peak memory", "match_mib", "MiB", 256)


def _write(path: Path) -> None:
    source = random.Random(1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(RECORDS):
            name = f"package-{source.randrange(NAMES)}"
            first, second = source.randrange(1, 9), source.randrange(10, 19)
            events = ("introduced=0", f"fixed={first}.0.1", f"introduced={second}.0.0", f"fixed={second}.2.0")
            versions = [f"{first}.0.{minor}" for minor in range(20)]
            affected = affects(ECOSYSTEMS[number % len(ECOSYSTEMS)], name, *events, versions=versions)
            more = {
                "aliases": [f"CVE-2026-{10_000 + number}"],
                "severity": [{"type": "CVSS_V3", "score": CVSS3}],
                "summary": "what is wrong",
                "details": "how it came to that, at some length " * 20,
            }
            archive.writestr(f"X-{number}.json", json.dumps(record(f"X-{number}", affected, **more)))


def _measured(folder: Path, number: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for step in ("import", "match"):
        child = [sys.executable, "-m", "tests.bench.advisories", step, str(folder), str(number)]
        done = subprocess.run(child, check=True, capture_output=True, text=True)
        found |= json.loads(done.stdout)
    return found


def _import(folder: Path, number: str) -> dict[str, float]:
    path = folder / f"advisories-{number}.sqlite"
    build(path, [source_of(Given(folder / "records.zip"), lambda _: None)])
    return {
        "import_seconds": time.process_time(),
        "import_mib": _peak_mib(),
        "file_mb": path.stat().st_size / 1e6,
    }


def _match(folder: Path, number: str) -> dict[str, float]:
    source = random.Random(2)
    with closing(open_advisories(folder / f"advisories-{number}.sqlite")) as opened:
        names = [f"package-{source.randrange(2 * NAMES)}" for _ in range(LOOK_UPS)]
        began = time.process_time()
        for place, name in enumerate(names):
            opened.about(ECOSYSTEMS[place % len(ECOSYSTEMS)], name)
        looked = time.process_time() - began
        packages = [
            Thing(
                ECOSYSTEMS[place % len(ECOSYSTEMS)],
                f"package-{source.randrange(2 * NAMES)}",
                f"{source.randrange(1, 19)}.{source.randrange(3)}.{source.randrange(3)}",
            )
            for place in range(DISTINCT)
        ]
        images = [source.randrange(DISTINCT - PACKAGES) for _ in range(IMAGES)]
        began = time.process_time()
        look, matches = Look(opened), 0
        for first in images:
            for place in range(first, first + PACKAGES):
                matches += len(look.up(packages[place]))
        matched = time.process_time() - began
    return {
        "look_up_seconds": looked,
        "match_seconds": matched,
        "match_mib": _peak_mib(),
        "matches": matches,
    }


def _peak_mib() -> float:
    # What getrusage says is at least what the process had that this one was forked from.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) / 1024


if __name__ == "__main__":
    step, where, which = sys.argv[1:]
    print(json.dumps({"import": _import, "match": _match}[step](Path(where), which)))
