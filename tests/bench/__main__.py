"""``python -m tests.bench [--keep] [GROUP...]``: measure, print, and fail when a limit is missed.

A run of all groups is kept in docs/benchmarks.json and in the table of docs/performance.md; with ``--keep`` a
run of some is as well, in the place of what was there of these groups.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.advisories import advisories
from tests.bench.collection import collection
from tests.bench.content import content
from tests.bench.figures import Figure, kept_figure
from tests.bench.inventory import inventory
from tests.bench.manifests import manifests
from tests.bench.memory import huge_blob, transfers
from tests.bench.pages import pages
from tests.bench.pageviews import pageviews
from tests.bench.peers import MissingError
from tests.bench.pulls import pulls
from tests.bench.pushes import pushes
from tests.bench.rematching import rematching
from tests.bench.retention import retention
from tests.bench.sandboxes import running, unpacking
from tests.bench.scaling import connections, processes
from tests.bench.scanning import scanning
from tests.bench.scheduling import scheduling
from tests.bench.secrecy import secrecy
from tests.bench.signins import signins
from tests.bench.starting import start
from tests.bench.tokens import tokens
from tests.bench.tokenservice import token_service
from tests.bench.verdicts import verdict
from tests.bench.webhooks import webhooks

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEPT = DOCS / "benchmarks.json"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
GROUPS: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "start": start,
    "manifests": manifests,
    "pulls": pulls,
    "pushes": pushes,
    "connections": connections,
    "processes": processes,
    "pages": pages,
    "pageviews": pageviews,
    "signins": signins,
    "secrecy": secrecy,
    "tokens": tokens,
    "token service": token_service,
    "webhooks": webhooks,
    "transfers": transfers,
    "huge": huge_blob,
    "unpacking": unpacking,
    "running": running,
    "verdict": verdict,
    "scheduling": scheduling,
    "inventory": inventory,
    "advisories": advisories,
    "rematching": rematching,
    "retention": retention,
    "collection": collection,
    "content": content,
    "scanning": scanning,
}


def main(arguments: list[str]) -> int:
    """Measure; 1 where a limit is missed, 64 where there is no such group."""
    names = [one for one in arguments if one != "--keep"]
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        print(f"there is no group {unknown[0]!r}; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 64
    described = machine.describe()
    print("\n".join(f"{name}: {value}" for name, value in described.items()))
    found: dict[str, list[Figure]] = {}
    for name in names or GROUPS:
        print(f"\n{name}", flush=True)
        began = time.monotonic()
        found[name] = []
        for figure in _measured(name):
            print(figure.line(), flush=True)
            found[name].append(figure)
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    if not names:
        _keep({"machine": described, "apart": {}, "figures": []}, found)
    elif "--keep" in arguments:
        kept = json.loads(KEPT.read_text())
        kept["apart"] = {**kept.get("apart", {}), **dict.fromkeys(names, described)}
        _keep(kept, found)
    missed = sum(not figure.met for figures in found.values() for figure in figures)
    print(f"\n{missed} limits were missed" if missed else "\nevery limit was kept")
    return 1 if missed else 0


def _keep(kept: dict[str, Any], found: dict[str, list[Figure]]) -> None:
    """Keep figures beside those of other groups; ``apart`` is what groups were measured on that were measured
    by themselves."""
    before = {name: list(each) for name, each in groupby(kept["figures"], key=lambda one: str(one["group"]))}
    before |= {
        name: [{"group": name, **one.document()} for one in figures] for name, figures in found.items()
    }
    kept["figures"] = [figure for name in GROUPS for figure in before.get(name, ())]
    KEPT.write_text(f"{json.dumps(kept, indent=2)}\n")
    lines = _described(kept["machine"])
    for name in GROUPS:
        if name not in before:
            continue
        lines += ["", f"### {name}", ""]
        if name in kept["apart"]:
            own = kept["apart"][name]
            lines += [f"By itself, {own['date']}; busy before {own['busy_before']}.", ""]
        lines += ["| figure | median | over the rounds | limit | |", "|---|---|---|---|---|"]
        lines += [kept_figure(one).row() for one in before[name]]
    page = DOCS / "performance.md"
    head, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text("\n".join([f"{head}{BEGIN}", *lines, "", f"{END}{after}"]))


def _described(on: dict[str, Any]) -> list[str]:
    lines = [f"{name}: {value}" for name, value in on.items() if not isinstance(value, dict)]
    lines += [
        ", ".join(f"{which} {number}" for which, number in on[name].items())
        for name in ("peers", "libraries")
    ]
    return [f"- {line.replace('_', ' ')}" for line in lines]


def _measured(name: str) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as scratch:
        # The registry drops to another user under `up`, who must be able to walk to his data folder.
        Path(scratch).chmod(0o755)
        try:
            yield from GROUPS[name](Path(scratch))
        except MissingError as missing:
            yield Figure(f"{name}, all of it", None, "", at_most=0, note=str(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
