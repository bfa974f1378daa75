"""Pictures on the page of a trial: steps one after another, and use over time."""

from __future__ import annotations

from registry.pages.trials import _plots, _steps


def test_steps_follow_each_other() -> None:
    steps = _steps({"steps": [{"name": "pull", "seconds": 3}, {"name": "unpack", "seconds": 1}]})
    assert [(one.name, one.begins, one.width) for one in steps] == [("pull", 0, 75), ("unpack", 75, 25)]
    assert _steps({}) == []
    nothing = _steps({"steps": [{"name": "a", "seconds": 0}, {"name": "b", "seconds": 0}]})
    assert all(one.begins >= 0 and one.begins + one.width <= 100 for one in nothing)
    short = _steps({"steps": [{"name": "long", "seconds": 1000}, {"name": "short", "seconds": 0.001}]})
    assert short[1].begins + short[1].width == 100


def test_use_is_drawn_as_far_as_it_is_known() -> None:
    samples = [
        {"seconds": 0, "memory_bytes": 1024, "cpu_seconds": 0, "pids": 1},
        {"seconds": 1, "memory_bytes": 4096, "cpu_seconds": 0.5},
        {"seconds": 2, "memory_bytes": 2048, "cpu_seconds": 2.0, "pids": 3},
    ]
    plots = {one.kind: one for one in _plots({"samples": samples})}
    assert plots["memory"].points == "0.0,30.0 100.0,0.0 200.0,20.0"
    assert plots["memory"].most == "4.0 KiB"
    assert plots["processors"].most == "1.5"
    assert plots["pids"].most == "3"
    assert "written" not in plots
    assert _plots({}) == []
    assert _plots({"samples": [{"seconds": 0, "memory_bytes": 0}, {"seconds": 0, "memory_bytes": 0}]}) == []
