"""What the search for secrets and malware costs over a Debian root file system, in its own process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox.scanners.content.engine import Engine, compile_rules
from sandbox.scanners.facts import Entry
from sandbox.scanners.loading import load_modules
from tests.bench.figures import Figure
from tests.kit.toolfolder import tools_folder

ROUNDS = 3


def content(folder: Path) -> Iterator[Figure]:
    """Megabytes a second of processor time: of the rules alone, and of all modules with archives opened."""
    (packed,) = tools_folder().glob("debian-12-bare-*.tar.zst")
    root = folder / "root"
    root.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", packed, "-C", root, "--exclude=./dev/*"], check=True)
    found = [_measured(root) for _ in range(ROUNDS)]
    what = f"search of a Debian root file system, {found[0]['mb']:.0f} MB in {found[0]['files']:.0f} files"
    for name, unit, least, most, text in (
        ("rules", "MB/s", 400, None, "the rules alone"),
        ("modules", "MB/s", None, None, "all modules for content, archives opened"),
        ("peak_mib", "MiB", None, 256, "peak memory"),
        ("compile_seconds", "s", None, None, "compiling the rules, processor time"),
    ):
        values = sorted(one[name] for one in found)
        low, high = values[0], values[-1]
        yield Figure(f"{what}: {text}", values[1], unit, at_least=least, at_most=most, low=low, high=high)


def _measured(root: Path) -> dict[str, float]:
    child = [sys.executable, "-m", "tests.bench.content", str(root)]
    done = subprocess.run(child, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _walk(root: str) -> dict[str, float]:
    files = [
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if not Path(folder, name).is_symlink() and Path(folder, name).is_file()
    ]
    size = sum(path.stat().st_size for path in files)
    began = time.process_time()
    rules = compile_rules()
    compiled = time.process_time() - began
    engine, alone = Engine(rules), 0.0
    for path in files:
        whole = path.read_bytes()
        began = time.process_time()
        engine.search(whole)
        alone += time.process_time() - began
    looking = load_modules(["sandbox.scanners.content"], rules)
    began = time.process_time()
    for path in files:
        known = path.stat()
        entry = Entry(str(path)[len(root) + 1 :], "file", known.st_size, known.st_mode & 0o7777, 0, 0)
        for module in looking:
            if module.wants(entry):
                with path.open("rb") as file:
                    module.look(entry, file)
    together = time.process_time() - began
    return {
        "files": len(files),
        "mb": size / 1e6,
        "compile_seconds": compiled,
        "rules": size / 1e6 / alone,
        "modules": size / 1e6 / together,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(_walk(sys.argv[1])))
