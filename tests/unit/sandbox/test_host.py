"""What doctor's lines add up to, and whose ids a plain user has."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.host import HostReport
from sandbox.hostlines import HostMechanism
from sandbox.proofs import Proof
from sandbox.rootless import host_uid, range_of


def mechanism(need: str, *, available: bool) -> HostMechanism:
    return HostMechanism("x", available=available, need=need, detail="d")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "code"),
    [((), 0), (("stated",), 0), (("stated", "downgrade"), 1), (("downgrade", "required"), 2)],
)
def test_exit_codes(missing: tuple[str, ...], code: int) -> None:
    there = [mechanism(need, available=True) for need in ("required", "downgrade", "stated")]
    assert HostReport((*there, *(mechanism(need, available=False) for need in missing))).exit_code == code


def test_what_does_not_hold_is_not_there() -> None:
    lines = (mechanism("required", available=True), mechanism("downgrade", available=True))
    report = HostReport(tuple(replace(line, name=name) for line, name in zip(lines, "ab", strict=True)))
    assert report.exit_code == 0
    assert report.proven({"b": Proof(applied=True, proven=False, seen="no")}).exit_code == 1
    assert report.proven({"a": Proof(applied=False, proven=False, seen="no")}).exit_code == 2
    assert report.proven({"other": Proof(applied=False, proven=False, seen="no")}).exit_code == 0


def test_what_was_not_promised_is_not_here_and_no_failure() -> None:
    report = HostReport((mechanism("stated", available=True),))
    without = report.proven({"x": Proof(applied=False, proven=False, seen="has its own")})
    (line,) = without.mechanisms
    assert (line.available, line.proven, line.detail) == (False, None, "has its own")
    assert without.exit_code == 0
    disproved = report.proven({"x": Proof(applied=True, proven=False, seen="open")})
    assert disproved.mechanisms[0].holds is False


def test_what_a_run_had_is_here_whatever_was_thought_before() -> None:
    report = HostReport((mechanism("stated", available=False),))
    (line,) = report.proven({"x": Proof(applied=True, proven=True, seen="yes")}).mechanisms
    assert (line.available, line.proven, line.seen) == (True, True, "yes")
    (line,) = report.proven({"x": Proof(applied=False, proven=False, seen="no")}).mechanisms
    assert (line.available, line.proven) == (False, None)


def test_the_range_of_a_user(tmp_path: Path) -> None:
    table = tmp_path / "subuid"
    uid = os.getuid()
    table.write_text(f"other:1:65536\nme:100:5\nbroken\nme:x:65536\nme:5000:65536\n{uid}:9000:70000\n")
    assert range_of(table, "me", uid) == 5000
    assert range_of(table, "nobody-here", uid) == 9000
    assert range_of(tmp_path / "none", "me", uid) is None


def test_the_hosts_own_uid() -> None:
    assert host_uid() == os.geteuid()
