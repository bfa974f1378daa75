"""What was seen of a run, what it used and tried to reach, in a few lines for people."""

from __future__ import annotations

import itertools
import math
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from registry.contract.sizes import shown_size
from registry.oci.printable import printable

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 30
_PLACES = 5


def how_it_ended(run: Mapping[str, Any]) -> str:
    """The end of a run, as in ``exit code 3``, ``signal SIGSEGV`` or ``exit code 1 (oom)``."""
    if run["reason"] == "signal" and run["signal"] is not None:
        try:
            return f"signal {signal.Signals(run['signal']).name}"
        except ValueError:
            return f"signal {run['signal']}"
    if run["exit_code"] is None:
        return str(run["reason"])
    killed = run["oom_killed"] and run["reason"] != "oom"
    more = "a process of it was killed for want of memory" if killed else run["reason"]
    return f"exit code {run['exit_code']}" + ("" if more == "exited" else f" ({more})")


def observation_lines(run: Mapping[str, Any]) -> Sequence[str]:
    """Each expectation of a run, as JSON has it: whether it was met, and what was seen."""
    words = {True: "met", False: "missed", None: "unknown"}
    return [f"{words[one['met']]}: {one['expectation']}; seen: {one['seen']}" for one in run["observations"]]


def use_lines(run: Mapping[str, Any]) -> Sequence[str]:
    """The use of a run, as JSON has it: what it came to, and memory and processors over its time; then the
    places that it tried to reach, and what it asked of stubs. What is not known is left out."""
    lines = [_totals(run)]
    samples = run.get("samples") or ()
    memory = [one.get("memory_bytes") for one in samples]
    lines.append(_over_time("memory", memory))
    lines.append(_over_time("processor", rates(samples)))
    lines.append(_reached(run.get("outbound") or ()))
    lines += [_asked(one) for one in run.get("stubs") or ()]
    return [line for line in lines if line]


def _totals(run: Mapping[str, Any]) -> str:
    said = []
    if run.get("memory_peak_bytes") is not None:
        said.append(f"memory at most {shown_size(run['memory_peak_bytes'])}")
    if run.get("cpu_seconds") is not None:
        waited = run.get("throttled_seconds")
        limit = f" ({waited:.1f} s held back by the limit)" if waited and waited >= 0.05 else ""
        said.append(f"processor {run['cpu_seconds']:.1f} s{limit}")
    if run.get("pids_peak") is not None:
        said.append(f"processes at most {run['pids_peak']}")
    for name, words in (("disk", ("read", "written")), ("network", ("received", "sent"))):
        moved = [f"{word} {shown_size(run[f'{word}_bytes'])}" for word in words if run.get(f"{word}_bytes")]
        if moved:
            said.append(f"{name} {', '.join(moved)}")
    return "used: " + "; ".join(said) if said else ""


def rates(samples: Sequence[Mapping[str, Any]]) -> Sequence[float | None]:
    """Processors in use between one sample and the next; ``None`` where that is not known."""
    pairs = itertools.pairwise(samples)
    rates: list[float | None] = []
    for before, after in pairs:
        start, end = before.get("cpu_seconds"), after.get("cpu_seconds")
        passed = after["seconds"] - before["seconds"]
        rates.append(None if start is None or end is None or passed <= 0 else max(0.0, end - start) / passed)
    # A worker may say what cannot be.
    return [None if one is None or math.isinf(one) else one for one in rates]


def _over_time(name: str, values: Sequence[float | None]) -> str:
    known = [one for one in values if one is not None]
    if len(known) < 2 or not max(known):
        return ""
    # At most so many bars, each the highest of what falls into it.
    count = min(len(known), _WIDTH)
    cut = [known[i * len(known) // count : (i + 1) * len(known) // count] for i in range(count)]
    highest = max(known)
    bars = "".join(_BARS[round(max(one) / highest * (len(_BARS) - 1))] for one in cut)
    return f"{name} over its time: {bars}"


def _reached(outbound: Sequence[Mapping[str, Any]]) -> str:
    if not outbound:
        return ""
    said = [_place(one) for one in outbound[:_PLACES]]
    more = f" and {len(outbound) - _PLACES} more" if len(outbound) > _PLACES else ""
    return f"tried to reach: {', '.join(said)}{more}"


def _place(one: Mapping[str, Any]) -> str:
    address = str(one["address"])
    where = f"[{address}]" if ":" in address else address
    port = "" if address == "others" else f":{one['port']}/{one['protocol']}"
    times = _times(one["attempts"])
    whose = f"by service {one['service']}, " if one.get("service") else ""
    return f"{where}{port} ({whose}{'permitted' if one['permitted'] else 'refused'}{times})"


def _asked(stub: Mapping[str, Any]) -> str:
    requests = stub["requests"]
    said = [f"{one['method']} {one['path']}{_times(one['times'])}" for one in requests[:_PLACES]]
    if len(requests) > _PLACES:
        said.append(f"{len(requests) - _PLACES} more")
    connections = f"{stub['connections']} connection{'' if stub['connections'] == 1 else 's'}"
    full = ", and then took no more" if stub["full"] else ""
    return printable(f"stub {stub['name']}:{stub['port']}: {'; '.join([connections, *said])}{full}")


def _times(number: int) -> str:
    return "" if number == 1 else f", {number} times"
