"""What the sockets of a run may hold beside its memory."""

from __future__ import annotations

from pathlib import Path

from sandbox.runtimes.cgroups import Cgroups
from sandbox.runtimes.sockets import hold_sockets, netlink_bytes


def test_an_eighth_of_the_memory_where_the_kernel_counts_it(tmp_path: Path) -> None:
    groups = Cgroups({"memory": tmp_path}, None)
    (tmp_path / "seatrial/run").mkdir(parents=True)
    assert hold_sockets(groups, "/seatrial/run", 4096) == "not limited: this kernel does not count them"
    file = tmp_path / "seatrial/run/memory.kmem.tcp.limit_in_bytes"
    file.write_text("9223372036854771712\n")
    assert hold_sockets(groups, "/seatrial/run", 64_000) == "8000"
    assert file.read_text() == "8000"


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert netlink_bytes(2**30) == 0
