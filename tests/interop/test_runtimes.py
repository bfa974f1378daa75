"""The contract of runtimes, with those that Debian has not: a current runc, and runsc (gVisor)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.runs import Harbour
from tests.kit.runtime_contract import RuntimeContract, docked


@pytest.fixture(scope="module", params=["runc", "runsc"])
def dock(request: pytest.FixtureRequest, tools: Path) -> Iterator[Harbour]:
    """A harbour with one that ``scripts/tools.sh`` built."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with docked(request.param, path=f"{tools}:{os.environ['PATH']}") as place:
        yield place


class TestContract(RuntimeContract):
    """runc 1.5.2 and runsc."""


@pytest.mark.parametrize("runtime", ["runc", "runsc"])
def test_doctor_proves_what_each_holds(tools: Path, runtime: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    command = [str(Path(sys.prefix) / "bin/seatrial"), "doctor", "--json", "--runtime", runtime]
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stdout
    lines = {one["name"]: one for one in json.loads(done.stdout)["mechanisms"]}
    assert not [name for name, one in lines.items() if one["proven"] is False]
    assert "at most 32: ended by the kernel" in lines["cgroup limits"]["seen"]
    # runsc has no host namespace of its own for these, and another stack.
    own = {"cgroup namespace", "network fence", "time namespace"}
    assert {lines[name]["available"] for name in own} == {runtime == "runc"}
