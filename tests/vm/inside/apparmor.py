"""AppArmor enforces the profile of runs: a run sees it, and the kernel logs what it refuses."""

from __future__ import annotations

from tests.kit.runs import Harbour
from tests.vm.inside.kernel import new_lines
from tests.vm.inside.tell import Record


async def test_a_run_is_under_the_profile(port: Harbour, record_property: Record) -> None:
    with new_lines() as log:
        done = await port.sh("cat /proc/self/attr/apparmor/current; echo x > /proc/self/attr/exec; exit 0")
    record_property("inside", done.run.log)
    seen, refused = done.run.log.splitlines()
    assert seen == "seatrial-run (enforce)"
    assert refused.endswith("/proc/self/attr/exec: Permission denied")
    assert {one.name: one.applied for one in done.mechanisms}["AppArmor"] is True
    denied = next(line for line in log if 'apparmor="DENIED"' in line and 'profile="seatrial-run"' in line)
    record_property("log", denied)
    assert '/attr/exec"' in denied
