"""The attacker's program in runs of each runtime that is not Debian's runc: nothing is won at the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.attempts import beyond_the_list, measure
from tests.kit.hoststate import host_state
from tests.kit.runtime_contract import docked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="all isolation needs root")
# What gVisor's own kernel lets a run do to that kernel: its devices, settings, namespaces and counters. Its
# huge pages are ordinary memory of the run.
INSIDE = {
    *("open: /dev/fuse", "open: /dev/net/tun", "write: overcommit_memory", "write: domainname"),
    *(
        "write: ip_forward",
        "write: sysrq-trigger",
        "write: oom_score_adj -1000",
        "read: kernel's command line",
    ),
    *("read: /sys/fs", "clone3: user", "socketpair: TIPC", "getsockopt: old netfilter", "io_setup", "msgget"),
    *("syncfs", "mincore", "setpriority: -20", "mmap: huge pages", "shmget: huge pages"),
}
MOST = {"runc": 220, "crun": 220, "runsc": 330}
"""System calls that answer anything but ENOSYS: the host's kernel, or for runsc its own."""


@pytest.mark.parametrize("name", ["runc", "crun", "runsc"])
def test_nothing_is_won(name: str, tools: Path) -> None:
    state = host_state()
    with docked(name, path=f"{tools}:{os.environ['PATH']}") as dock:
        tried = measure(dock, "attempts")
        walked = measure(dock, "walk")
    assert (tried.problem, walked.problem) == ("", "")
    assert len(tried.lines) > 160
    won = {attempt for attempt, said in tried.lines.items() if said == "open"}
    assert won <= (INSIDE if name == "runsc" else set())
    assert set(tried.lines.values()) & {"silent", "unknown", "timeout"} == set()
    counts = {kind: len(numbers.split()) for kind, numbers in walked.lines.items()}
    assert 150 < counts["native"] <= MOST[name]
    # The kernel of runsc has no list of its own to compare with: it knows more calls, and refuses some.
    assert name == "runsc" or beyond_the_list(walked) == set()
    assert (counts["x32"], counts["int80"]) == (0, 0)
    # Also what runsc's kernel let through was none of the host's.
    assert host_state() == state
