"""What was seen of a run, what it used of its limits and tried to reach, in a few lines for people."""

from __future__ import annotations

import itertools
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from registry.contract.sizes import shown_size
from registry.oci.printable import printable

SECONDS_MAX = 1e9
"""More cannot be, but a worker may say so."""
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
    """The use of a run, as JSON has it: what it came to beside its limits, what they refused, and memory and
    processors over its time; then the places that it tried to reach, and what it asked of stubs. What is not
    known is left out."""
    lines = [_totals(run), _refused(run)]
    samples = run.get("samples") or ()
    memory = [one.get("memory_bytes") for one in samples]
    lines.append(_over_time("memory", memory))
    lines.append(_over_time("processor", rates(samples)))
    lines.append(_reached(run.get("outbound") or ()))
    lines += [_asked(one) for one in run.get("stubs") or ()]
    return [line for line in lines if line]


def against(used: float, limit: float | None, shown: Callable[[float], str]) -> str:
    """What was used beside its limit, as in ``23.0 MiB of 64.0 MiB (36 %)``; alone where none is known."""
    if limit is None or limit <= 0:
        return shown(used)
    share = 100 * used / limit
    if share >= 1000:
        # A worker may say what cannot be.
        return f"{shown(used)} of {shown(limit)}"
    # What has not reached its limit is not at 100 %.
    whole = "under 1" if 0 < share < 1 else min(round(share), 99) if share < 100 else round(share)
    return f"{shown(used)} of {shown(limit)} ({whole} %)"


def shown_bytes(count: float) -> str:
    """As :func:`shown_size`, of a number that is whole."""
    return shown_size(int(count))


def shown_number(number: float) -> str:
    """With two digits after the point at most, and none that are zero; what cannot be as a power of ten."""
    return f"{number:.0e}" if number >= 1e15 else f"{number:.2f}".rstrip("0").rstrip(".")


def shown_seconds(seconds: float, digits: int = 1) -> str:
    """With so many digits after the point, as in ``1.5``; of what cannot be, only what it is more than."""
    return f"more than {SECONDS_MAX:.0f}" if seconds > SECONDS_MAX else f"{seconds:.{digits}f}"


def held_back_seconds(run: Mapping[str, Any]) -> float | None:
    """How long the limit of processors held the run back; ``None``: not so that anybody could notice."""
    waited = run.get("throttled_seconds")
    return waited if waited and waited >= 0.05 else None


def _totals(run: Mapping[str, Any]) -> str:
    said = []
    limits = run.get("limits") or {}
    if run.get("memory_peak_bytes") is not None:
        memory = against(run["memory_peak_bytes"], limits.get("memory_bytes"), shown_bytes)
        said.append(f"memory at most {memory}")
    if run.get("cpu_seconds") is not None:
        waited = held_back_seconds(run)
        by = "" if limits.get("cpus") is None else f" of {shown_number(limits['cpus'])}"
        limit = "" if waited is None else f" ({shown_seconds(waited)} s held back by the limit{by})"
        said.append(f"processor {shown_seconds(run['cpu_seconds'])} s{limit}")
    if run.get("pids_peak") is not None:
        said.append(f"processes at most {against(run['pids_peak'], limits.get('pids'), shown_number)}")
    layer = [one["layer_bytes"] for one in run.get("samples") or () if one.get("layer_bytes")]
    if layer:
        said.append(f"files at most {against(max(layer), limits.get('written_bytes'), shown_bytes)}")
    if limits.get("wall_seconds") is not None:
        said.append(f"time {against(run['seconds'], limits['wall_seconds'], _seconds)}")
    for name, words in (("disk", ("read", "written")), ("network", ("received", "sent"))):
        moved = [f"{word} {shown_size(run[f'{word}_bytes'])}" for word in words if run.get(f"{word}_bytes")]
        if moved:
            said.append(f"{name} {', '.join(moved)}")
    return "used: " + "; ".join(said) if said else ""


def _seconds(seconds: float) -> str:
    return f"{shown_number(round(seconds, 1))} s"


def _refused(run: Mapping[str, Any]) -> str:
    count = run.get("pids_refused")
    if not count:
        return ""
    return f"refused: {count} new process{'' if count == 1 else 'es'}, for want of room under the limit"


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
