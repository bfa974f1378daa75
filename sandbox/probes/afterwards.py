"""Expectations that are looked at when a run is over: what it came to, never said, and tried to reach."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from registry.contract.expectations import NO_OUTBOUND, Below, LogExpectation, compiled
from registry.contract.plan import Plan
from registry.contract.report import Observation, Outbound
from registry.contract.sizes import shown_size
from sandbox.probes.base import plain
from sandbox.probes.log import CPU_SECONDS, LINE_BYTES


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What is known of a run that is over; ``None`` is not known."""

    ready_seconds: float | None
    """When the last of the expectations was met that tell it."""
    memory_peak_bytes: int | None
    cpu_seconds: float | None
    outbound: tuple[Outbound, ...] | None
    log: bytes
    log_cut: bool
    """Whether there may have been more output."""


def look_back(plan: Plan, seen: Afterwards) -> Iterator[Observation]:
    """One observation for each expectation of this kind."""
    for one in plan.log:
        if one.absent:
            yield _never_said(one, seen)
    for below in plan.below:
        yield from _came_to(below, seen)
    if plan.no_outbound:
        yield _reached_nothing(seen)


def _never_said(expected: LogExpectation, seen: Afterwards) -> Observation:
    text = expected.in_words()[:300]
    pattern = compiled(expected.match)
    started = time.process_time()
    for line in seen.log.splitlines():
        said = line[:LINE_BYTES].decode("utf-8", "replace")
        if pattern.search(said):
            return Observation(expectation=text, seen=plain(said[:500]), met=False)
        if time.process_time() - started > CPU_SECONDS:
            why = f"not looked for in all of the output: that takes more than {CPU_SECONDS:g} s"
            return Observation(expectation=text, seen=why, met=None)
    if seen.log_cut:
        return Observation(expectation=text, seen="none of what was kept of the output", met=None)
    return Observation(expectation=text, seen="none", met=True)


def _came_to(below: Below, seen: Afterwards) -> Iterator[Observation]:
    known = {
        "start_seconds": (below.start_seconds, seen.ready_seconds),
        "memory_bytes": (below.memory_bytes, seen.memory_peak_bytes),
        "cpu_seconds": (below.cpu_seconds, seen.cpu_seconds),
    }
    for name, words in below.figures().items():
        most, came_to = known[name]
        if came_to is None or most is None:
            yield Observation(expectation=words, seen="not known", met=None)
        else:
            shown = shown_size(int(came_to)) if name == "memory_bytes" else f"{came_to:.2f} s"
            yield Observation(expectation=words, seen=shown, met=came_to <= most)


def _reached_nothing(seen: Afterwards) -> Observation:
    if seen.outbound is None:
        return Observation(expectation=NO_OUTBOUND, seen="not seen here", met=None)
    refused = [one for one in seen.outbound if not one.permitted]
    shown = ", ".join(f"{one.address} port {one.port}/{one.protocol}" for one in refused[:5])
    return Observation(expectation=NO_OUTBOUND, seen=(shown or "nothing")[:2000], met=not refused)
