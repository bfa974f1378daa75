"""What a worker says that its runs can have."""

from __future__ import annotations

from dataclasses import replace

from registry.contract.isolation import DEMANDABLE
from sandbox.host import HostReport
from sandbox.hostlines import HostMechanism
from sandbox.promises import promised

LINE = HostMechanism("x", available=True, need="stated", detail="d")
NETWORK = {"egress", "bandwidth"}


def test_what_is_here_and_can_be_asked_for() -> None:
    report = HostReport(tuple(replace(LINE, name=name) for name in (*DEMANDABLE, "openat2", "self-test")))
    everything = promised(report, kernel="host", connected=True, cpu_set=True)
    assert everything == tuple(sorted(DEMANDABLE))
    alone = promised(report, kernel="host", connected=False, cpu_set=False)
    assert set(everything) - set(alone) == NETWORK | {"cpu set"}
    own = promised(report, kernel="own", connected=True, cpu_set=True)
    assert set(everything) - set(own) == NETWORK | {
        *("AppArmor", "SELinux", "network fence", "cgroup namespace")
    }


def test_what_is_not_here_or_did_not_hold_is_not_promised() -> None:
    lines = (
        replace(LINE, name="seccomp"),
        replace(LINE, name="AppArmor", available=False),
        replace(LINE, name="cgroup limits", proven=False),
    )
    assert promised(HostReport(lines), kernel="host", connected=True, cpu_set=True) == ("seccomp",)
