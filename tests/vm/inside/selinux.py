"""SELinux enforces the domain of runs: a run sees it, and the kernel logs what it refuses."""

from __future__ import annotations

from pathlib import Path

from tests.kit.runs import Harbour
from tests.vm.inside.kernel import new_lines
from tests.vm.inside.tell import Record

READ = (
    "cat /proc/net/dev /proc/meminfo /proc/sys/kernel/osrelease > /dev/null; head -c 1 /dev/urandom > /tmp/a"
)


async def test_a_run_is_in_the_domain(port: Harbour, record_property: Record) -> None:
    assert Path("/sys/fs/selinux/enforce").read_text() == "1"
    with new_lines() as log:
        done = await port.sh(
            f"{READ}; cat /proc/self/attr/current; echo; echo x > /proc/self/attr/exec; exit 0"
        )
    record_property("inside", done.run.log)
    seen, refused = done.run.log.splitlines()
    # The kernel ends it with a zero, of which the log shows only that it is no text.
    assert seen.rstrip("\ufffd") == "system_u:system_r:seatrial_run_t:s0"
    assert refused.endswith("write error: Permission denied")
    assert {one.name: one.applied for one in done.mechanisms}["SELinux"] is True
    denied = next(line for line in log if "avc:  denied  { setexec }" in line and ":seatrial_run_t:" in line)
    record_property("log", denied)
    assert "permissive=0" in denied
