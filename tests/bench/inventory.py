"""What the readers of packages cost over the root file system of a Debian image, in their own process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox.scanners.facts import Entry, PairedModule
from sandbox.scanners.packages import MODULES
from tests.bench.figures import Figure

ROUNDS = 3
TOOLS = Path(os.environ.get("SEATRIAL_TEST_TOOLS") or Path.home() / ".cache/seatrial/tools")


def inventory(folder: Path) -> Iterator[Figure]:
    """Processor time and memory, start of the interpreter included."""
    (packed,) = TOOLS.glob("debian-12-bare-*.tar.zst")
    root = folder / "root"
    root.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", packed, "-C", root, "--exclude=./dev/*"], check=True)
    found = [_measured(root) for _ in range(ROUNDS)]
    packages, files = found[0]["packages"], found[0]["files"]
    what = f"inventory of a Debian root file system: {packages:.0f} packages in {files:.0f} files"
    cpu = sorted(one["cpu_seconds"] for one in found)
    peak = sorted(one["peak_mib"] for one in found)
    yield Figure(f"{what}, processor time", cpu[1], "s", low=cpu[0], high=cpu[-1])
    yield Figure(f"{what}, peak memory", peak[1], "MiB", low=peak[0], high=peak[-1])


def _measured(root: Path) -> dict[str, float]:
    child = [sys.executable, "-m", "tests.bench.inventory", str(root)]
    done = subprocess.run(child, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _walk(root: str) -> dict[str, float]:
    """What the confined child does with a layer, without what confines it."""
    files = packages = 0
    paired = {module.name for module in MODULES if isinstance(module, PairedModule)}
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            for each in found:
                if each.is_dir(follow_symlinks=False):
                    waiting.append(each.path)
                elif each.is_file(follow_symlinks=False):
                    files += 1
                    known = each.stat(follow_symlinks=False)
                    path = each.path[len(root) + 1 :]
                    entry = Entry(path, "file", known.st_size, known.st_mode & 0o7777, 0, 0)
                    for module in MODULES:
                        if module.wants(entry):
                            assert module.name not in paired
                            with open(each.path, "rb") as content:
                                packages += len(module.look(entry, content).packages)
    # What getrusage says is at least what the process had that this one was forked from.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {
        "files": files,
        "packages": packages,
        "cpu_seconds": time.process_time(),
        "peak_mib": int(peak) / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(_walk(sys.argv[1])))
