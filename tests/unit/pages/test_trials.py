"""Pictures on the page of a trial: steps one after another."""

from __future__ import annotations

from registry.pages.trials import _steps


def test_steps_follow_each_other() -> None:
    steps = _steps({"steps": [{"name": "pull", "seconds": 3}, {"name": "unpack", "seconds": 1}]})
    assert [(one.name, one.begins, one.width) for one in steps] == [("pull", 0, 75), ("unpack", 75, 25)]
    assert _steps({}) == []
    nothing = _steps({"steps": [{"name": "a", "seconds": 0}, {"name": "b", "seconds": 0}]})
    assert all(one.begins >= 0 and one.begins + one.width <= 100 for one in nothing)
    short = _steps({"steps": [{"name": "long", "seconds": 1000}, {"name": "short", "seconds": 0.001}]})
    assert short[1].begins + short[1].width == 100
