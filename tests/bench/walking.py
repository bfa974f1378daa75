"""``python -m tests.bench.walking FOLDER``: what the confined child does with a layer, without confining it.

A module of its own, so that nothing is measured but the readers: the rest of the bench takes as long to load.
"""

from __future__ import annotations

import json
import re
import sys
import time

from tests.kit.looking import walked


def walk(root: str) -> dict[str, float]:
    """The packages of all files there, and what it took from the start of the interpreter."""
    packages = sum(len(facts.packages) for _, facts in walked(root))
    used = time.process_time()
    # What getrusage says is at least what the process had that this one was forked from.
    with open("/proc/self/status", encoding="ascii") as status:
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read())
    return {"packages": packages, "cpu_seconds": used, "peak_mib": int(peak) / 1024}


if __name__ == "__main__":
    print(json.dumps(walk(sys.argv[1])))
