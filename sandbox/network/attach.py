"""A run's network: made between create and start, asked at the end what happened, and removed."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from registry.contract.report import Mechanism, Outbound
from sandbox.errors import SandboxError
from sandbox.network.fence import Fence, inside, raise_fence
from sandbox.network.gateway import Gateway, open_gateway
from sandbox.network.permits import PinnedNetwork
from sandbox.runtimes.base import RuntimeInfo
from sandbox.runtimes.cgroups import Cgroups
from sandbox.runtimes.isolation import privileged

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


@dataclass(frozen=True, slots=True)
class Attached:
    """A run's network, however little it is."""

    mechanisms: tuple[Mechanism, ...] = ()
    fence: Fence | None = None
    gateway: Gateway | None = None

    def outbound(self) -> tuple[Outbound, ...] | None:
        """What the run tried to reach; ``None`` where that is not seen."""
        return None if self.fence is None else self.fence.outbound()

    def traffic(self) -> tuple[int, int] | None:
        """Bytes in and out, where the run has a way out."""
        return None if self.gateway is None else self.gateway.traffic()

    def close(self) -> None:
        """Remove what does not end with the run.

        Raises:
            OSError: something may be left.
        """
        if self.gateway is not None:
            self.gateway.close()


def attach(
    pid: int,
    network: PinnedNetwork | None,
    *,
    cgroups: Cgroups,
    group: str,
    run_id: str,
    id_base: int,
    runtime: RuntimeInfo,
) -> Attached:
    """Fence the run whose first process is ``pid`` and has not started yet, and connect it if it is to be.

    ``network`` without destinations: what ``pid`` joined is connected, and it may reach nothing there.
    ``group`` is the control group of all the worker's runs, ``id_base`` the first of the run's own ids. A
    ``runtime`` with a kernel of its own has a network stack in it, whose sockets are none of the host's. For
    a process with a single thread.

    Raises:
        SandboxError: ``isolation-missing``: the network that was asked for cannot be had here.
    """
    if network is not None and runtime.kernel == "own":
        raise SandboxError(
            "isolation-missing",
            f"the run spec asks for a network, and the one that {runtime.name} has of its own is not "
            "connected; its worker needs --runtime runc, or auto",
        )
    if runtime.kernel == "own":
        # What it finds up in the network namespace is what its own network begins with.
        raise_loopback(pid)
    fence, line = _fence(pid, network, cgroups=cgroups, path=f"{group}/{run_id}", runtime=runtime)
    if network is None or not network.destinations:
        none = "not asked for: nothing but the run's own loopback"
        lines = (
            Mechanism(name="egress", applied=False, detail=none),
            Mechanism(name="bandwidth", applied=False, detail=none),
        )
        return Attached((*lines, line), fence)
    gateway, made = open_gateway(pid, network, group=group, run_id=run_id, id_base=id_base)
    return Attached((*made, line), fence, gateway)


def _fence(
    pid: int, network: PinnedNetwork | None, *, cgroups: Cgroups, path: str, runtime: RuntimeInfo
) -> tuple[Fence | None, Mechanism]:
    name = "network fence"
    if runtime.kernel == "own":
        detail = f"{runtime.name} has a network stack of its own: no socket of the run is one of the host's"
        return None, Mechanism(name=name, applied=False, detail=detail)
    if not privileged() or cgroups.unified is None:
        detail = "needs root, and cgroup version 2 mounted, also beside version 1"
        return None, Mechanism(name=name, applied=False, detail=detail)
    folder = cgroups.unified / path.lstrip("/")
    try:
        _join(pid, folder)
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fence = raise_fence(
                folder, namespace, permitted=None if network is None else network.destinations
            )
        finally:
            os.close(namespace)
    except OSError as error:
        return None, Mechanism(name=name, applied=False, detail=f"not on this kernel: {error}"[:1000])
    detail = "by control group: no internet socket in another network namespace"
    if network is not None:
        detail += ", no address but those permitted"
    return fence, Mechanism(name=name, applied=True, detail=detail)


def raise_loopback(pid: int) -> None:
    """Bring the loopback up in the network namespace of the process, as other runtimes do.

    Raises:
        SandboxError: ``isolation-missing``: the kernel refuses.
    """
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        finally:
            os.close(namespace)
    except OSError as error:
        raise SandboxError(
            "isolation-missing", f"the run cannot be given a loopback: {error.strerror}"
        ) from None


def _join(pid: int, folder: Path) -> None:
    # Not every runtime makes a group here on a host that limits by version 1.
    folder.mkdir(parents=True, exist_ok=True)
    procs = folder / "cgroup.procs"
    if str(pid) not in procs.read_text(encoding="ascii").split():
        procs.write_text(str(pid), encoding="ascii")
