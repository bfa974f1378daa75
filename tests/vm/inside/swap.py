"""A run may have no swap beside its memory, on a host that has some: version 2 counts it by itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.runs import MIB, QUICK, Harbour
from tests.vm.inside.tell import Record

CONTROL = Path("/sys/fs/cgroup/control")
# Each page is written to, and all of them are there until the end.
BURDEN = "exec dd if=/dev/zero of=/dev/null bs=96M count=1"


@pytest.fixture(scope="module", autouse=True)
def swap() -> Iterator[None]:
    file = Path("/var/swap")
    file.touch(mode=0o600)
    subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=1M", "count=128", "status=none"], check=True)
    subprocess.run(["mkswap", "--quiet", file], check=True)
    subprocess.run(["swapon", file], check=True)
    yield
    subprocess.run(["swapoff", file], check=True)
    file.unlink()


def swapped_out() -> int:
    """Pages, since the machine started."""
    text = Path("/proc/vmstat").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("pswpout "))


def test_another_group_goes_on_in_it() -> None:
    CONTROL.mkdir()
    (CONTROL / "memory.max").write_text(str(QUICK.memory_bytes))
    before = swapped_out()
    subprocess.run(["sh", "-c", f"echo $$ > {CONTROL}/cgroup.procs; {BURDEN}"], check=True)
    CONTROL.rmdir()
    assert swapped_out() - before > 16 * MIB // 4096


async def test_a_run_does_not(port: Harbour, record_property: Record) -> None:
    before = swapped_out()
    done = await port.sh(BURDEN)
    assert done.run.reason == "oom"
    limits = next(one for one in done.mechanisms if one.name == "cgroup limits")
    assert limits.applied
    record_property("swapped", swapped_out() - before)
    assert swapped_out() == before
