"""Which mechanisms of isolation a worker's runs can have: what it tells the registry when it asks for work.

It is found out once, without running anything; whether a run had them is in its record, and decides.
"""

from __future__ import annotations

from typing import Literal

from registry.contract.isolation import DEMANDABLE
from sandbox.attempt import Workplace
from sandbox.host import HostReport, inspect_host

_BY_HOST_KERNEL = frozenset(
    {"AppArmor", "SELinux", "network fence", "egress", "bandwidth", "cgroup namespace"}
)
"""What a runtime with a kernel of its own goes without, or does in another way: its runs have no processes
and no sockets that are the host's."""


def promised_mechanisms(workplace: Workplace) -> tuple[str, ...]:
    """Names in the order of the alphabet. The calling process has no threads: it is forked."""
    info = workplace.runtime.info
    return promised(
        inspect_host(workplace.runtime.state, runtime=info.name, outside=None),
        kernel=info.kernel,
        connected=bool(workplace.network.permits),
        cpu_set=workplace.cpu_set is not None,
    )


def promised(
    report: HostReport, *, kernel: Literal["host", "own"], connected: bool, cpu_set: bool
) -> tuple[str, ...]:
    """What of a report holds for runs by a runtime with this ``kernel``; ``connected`` is whether they may
    have a network, ``cpu_set`` whether they are kept to some processors."""
    here = {one.name for one in report.mechanisms if one.holds} & set(DEMANDABLE)
    if not connected:
        here -= {"egress", "bandwidth"}
    if not cpu_set:
        here -= {"cpu set"}
    if kernel == "own":
        here -= _BY_HOST_KERNEL
    return tuple(sorted(here))
