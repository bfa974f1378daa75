"""AppArmor enforces the profile of runs: a run sees it, and the kernel logs what it refuses."""

from __future__ import annotations

import pytest

from sandbox.runtimes.choose import find_runtime
from tests.kit.runs import Harbour
from tests.vm.inside.kernel import new_lines
from tests.vm.inside.tell import Record

SCRIPT = """cat /proc/self/attr/apparmor/current
sleep 100 & kill $!; { wait $! 2>/dev/null; } 2>/dev/null || echo "ended by $(($? - 128))"
echo x > /proc/self/attr/exec; exit 0"""


# Ubuntu has a profile for each of them, and crun adds that of runs to its own.
@pytest.mark.parametrize("name", ["runc", "crun"])
async def test_a_run_is_under_the_profile(name: str, port: Harbour, record_property: Record) -> None:
    port.runtime = find_runtime(port.runtime.state, name=name)
    with new_lines() as log:
        done = await port.sh(SCRIPT)
    record_property("inside", done.run.log)
    seen, ended, refused = done.run.log.splitlines()
    assert seen == "seatrial-run (enforce)"
    # Its own processes it may reach all the same.
    assert ended == "ended by 15"
    assert refused.endswith("/proc/self/attr/exec: Permission denied")
    (line,) = (one for one in done.mechanisms if one.name == "AppArmor")
    record_property("record", line.detail)
    assert line.applied is True
    denied = next(line for line in log if 'apparmor="DENIED"' in line and 'profile="seatrial-run"' in line)
    record_property("log", denied)
    assert '/attr/exec"' in denied
