"""What ``python -m tests.vm`` says where it cannot begin."""

from __future__ import annotations

import pytest

from tests.kit.sources import ROOT
from tests.vm import __main__ as machines


def test_a_mode_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert machines.main(["smack"]) == 64
    assert "there is no mode 'smack'; there are apparmor, selinux, hostile" in capsys.readouterr().err


def test_a_host_without_the_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machines, "PROGRAMS", ("mke2fs-that-is-not-there",))
    assert machines.main([]) == 1
    assert "needs mke2fs-that-is-not-there: scripts/packages.sh vm says" in capsys.readouterr().err


def test_each_mode_has_its_checks_and_its_time() -> None:
    files = {path.stem for path in (ROOT / "tests/vm/inside").glob("*.sh")} - {"init", "checks"}
    assert set(machines.MODES) == set(machines.LIMIT_SECONDS) == files
    assert set(machines.USUAL) < set(machines.MODES)
