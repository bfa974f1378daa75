"""What a run used over its time, as small pictures: each with its limit, and with what the limit refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.contract.use import against, held_back_seconds, rates, shown_bytes, shown_number
from registry.pages.texts import text

WIDTH, HEIGHT = 200, 40
_SMALL = 4
"""Where the limit is more than so many times the use, a picture of both would show a flat line."""
_HEADROOM = 1.06
"""So that a line at the top is not the frame."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Plot:
    """Something over the time of a run: ``kind`` is the key of its name, ``points`` those of a line in the
    picture, ``said`` the most beside its limit, in words."""

    kind: str
    points: str
    said: str
    limit: str | None = None
    """The height of the limit in the picture; ``None``: it is not known, or far above."""
    above: bool = False
    """Whether it is far above."""
    refused: str = ""
    """What the run did not get for the limit, in words."""


def plots_of(run: Mapping[str, Any]) -> Sequence[Plot]:
    """What a run used, as JSON has it; nothing of what there is too little of to draw."""
    samples = run.get("samples") or ()
    limits = run.get("limits") or {}
    of_processors = list(zip(samples[1:], rates(samples), strict=False))
    processors = [(float(at["seconds"]), rate) for at, rate in of_processors if rate is not None]
    drawn = (
        _plot(
            "memory",
            _over_time(samples, "memory_bytes"),
            limits.get("memory_bytes"),
            peak=run.get("memory_peak_bytes"),
            refused=text("plot.killed") if run.get("oom_killed") else "",
        ),
        _plot("processors", processors, limits.get("cpus"), refused=_held_back(run)),
        _plot(
            "pids",
            _over_time(samples, "pids"),
            limits.get("pids"),
            peak=run.get("pids_peak"),
            refused=text("plot.refused", count=run["pids_refused"]) if run.get("pids_refused") else "",
        ),
        _plot(
            "files",
            _over_time(samples, "layer_bytes"),
            limits.get("written_bytes"),
            refused=text("plot.full") if run.get("reason") == "disk-full" else "",
        ),
        _plot("written", _over_time(samples, "written_bytes"), None),
    )
    return [one for one in drawn if one is not None]


def _plot(
    kind: str, values: Points, limit: float | None, *, peak: float | None = None, refused: str = ""
) -> Plot | None:
    highest = max((value for _, value in values), default=0)
    if len(values) < 2 or highest <= 0:
        return None
    # The most is often between two samples.
    most = highest if peak is None else max(highest, peak)
    shown = shown_number if kind in ("processors", "pids") else shown_bytes
    said = text("plot.at_most", most=against(most, limit, shown))
    if kind == "written":
        said = text("plot.in_all", most=shown(most))
    above = limit is not None and limit > _SMALL * highest
    top = _HEADROOM * max(highest, 0 if limit is None or above else limit)
    line = None if limit is None or above else f"{_height(limit, top):.1f}"
    return Plot(kind, _line(values, top), said, line, above, refused)


def _over_time(samples: Sequence[Mapping[str, Any]], name: str) -> Points:
    return [(float(one["seconds"]), float(one[name])) for one in samples if one.get(name) is not None]


def _line(values: Points, top: float) -> str:
    end = max(at for at, _ in values) or 1.0
    return " ".join(f"{WIDTH * (at / end):.1f},{_height(value, top):.1f}" for at, value in values)


def _height(value: float, top: float) -> float:
    return HEIGHT * (1 - value / top)


def _held_back(run: Mapping[str, Any]) -> str:
    seconds = held_back_seconds(run)
    return "" if seconds is None else text("plot.held_back", seconds=shown_number(seconds))
