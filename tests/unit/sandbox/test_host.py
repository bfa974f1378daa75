"""What doctor's lines add up to, the self-test's program, and whose ids a plain user has."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from sandbox.host import HostReport
from sandbox.hostlines import HostMechanism
from sandbox.rootless import _range, host_uid
from sandbox.selftest import can_test, make_program


def mechanism(need: str, *, available: bool) -> HostMechanism:
    return HostMechanism("x", available=available, need=need, detail="d")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "code"),
    [((), 0), (("stated",), 0), (("stated", "downgrade"), 1), (("downgrade", "required"), 2)],
)
def test_exit_codes(missing: tuple[str, ...], code: int) -> None:
    there = [mechanism(need, available=True) for need in ("required", "downgrade", "stated")]
    assert HostReport((*there, *(mechanism(need, available=False) for need in missing))).exit_code == code


def test_the_program_of_the_self_test_runs(tmp_path: Path) -> None:
    assert can_test() is (platform.machine() in ("x86_64", "aarch64"))
    program = tmp_path / "exit"
    program.write_bytes(make_program(platform.machine()))
    program.chmod(0o755)
    assert subprocess.run([program], check=False).returncode == 0
    assert make_program("aarch64")[18:20] == b"\xb7\x00"


def test_the_range_of_a_user(tmp_path: Path) -> None:
    table = tmp_path / "subuid"
    uid = os.getuid()
    table.write_text(f"other:1:65536\nme:100:5\nbroken\nme:x:65536\nme:5000:65536\n{uid}:9000:70000\n")
    assert _range(table, "me") == 5000
    assert _range(table, "nobody-here") == 9000
    assert _range(tmp_path / "none", "me") is None


def test_the_hosts_own_uid() -> None:
    assert host_uid() == os.geteuid()
