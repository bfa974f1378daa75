"""The probe in the real bundle, and in bundles that lack a layer, taken away here and nowhere in the product.

Each measurement has a process of its own: in a network namespace that stands for the host's (its loopback
listens, it has the metadata address), it supervises one run as a worker's supervisor would, save that the
document is changed after it was made and that what is missing is not noticed. What the probe would win does
no harm: it opens and does not write.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from registry.contract.limits import Limits
from registry.contract.plan import make_plan
from registry.contract.report import Mechanism
from registry.contract.runspec import RunSpec
from sandbox.bundles.seccomp import ARGUMENT_CALLS, allowed_syscalls
from sandbox.network.attach import Attached
from sandbox.runtimes import making, oci, supervisor, within
from sandbox.runtimes.job import RunJob
from sandbox.runtimes.outer import enter_domain
from sandbox.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    UMOUNT_NOFOLLOW,
    attach_tree,
    become_subreaper,
    clone_tree,
    unmount,
    unshare,
)
from tests.kit.programs import compiled
from tests.kit.runs import MIB, Harbour, image_config

METADATA, ADDRESS = "169.254.169.254", "192.0.2.1"
_PATIENT = Limits(alive_seconds=0.3, wall_seconds=120, memory_bytes=64 * MIB, pids=64)
_ALL_CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
    AUDIT_CONTROL SETFCAP
"""

_NODES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "nodes/kmsg": (stat.S_IFCHR, 1, 11),
        "nodes/loop-control": (stat.S_IFCHR, 10, 237),
        "dev/kmsg": (stat.S_IFCHR, 1, 11),
        "dev/mem": (stat.S_IFCHR, 1, 1),
        "dev/kvm": (stat.S_IFCHR, 10, 232),
        "dev/fuse": (stat.S_IFCHR, 10, 229),
        "dev/net/tun": (stat.S_IFCHR, 10, 200),
        "dev/vda": (stat.S_IFBLK, 254, 0),
    }
)
Document = dict[str, Any]


def _without_seccomp(document: Document) -> None:
    del document["linux"]["seccomp"]


def _with_capabilities(document: Document) -> None:
    held = [f"CAP_{name}" for name in _ALL_CAPABILITIES.split()]
    document["process"]["capabilities"].update(bounding=held, effective=held, permitted=held)


def _without_user_namespace(document: Document) -> None:
    _drop_namespace(document, "user")
    del document["linux"]["uidMappings"], document["linux"]["gidMappings"]


def _without_masks(document: Document) -> None:
    document["linux"].update(maskedPaths=[], readonlyPaths=[])
    for mount in document["mounts"]:
        if mount["destination"] == "/sys":
            mount["options"].remove("ro")


def _without_own_dev(document: Document) -> None:
    _drop_mounts(document, "/dev")


def _without_device_cgroup(document: Document) -> None:
    document["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]


def _without_no_new_privs(document: Document) -> None:
    document["process"]["noNewPrivileges"] = False


def _without_network_namespace(document: Document) -> None:
    _drop_namespace(document, "network")
    # Only who owns the network namespace may mount sysfs or change its settings.
    _drop_mounts(document, "/sys")
    document["linux"]["sysctl"] = {}


def _without_ipc_namespace(document: Document) -> None:
    _drop_namespace(document, "ipc")
    _drop_mounts(document, "/dev/mqueue")


def _without_pid_namespace(document: Document) -> None:
    _drop_namespace(document, "pid")


def _with_proc_of_the_host(document: Document) -> None:
    for mount in document["mounts"]:
        if mount["destination"] == "/proc":
            # Bound by the option alone: what has the type is held to be read-only once it runs.
            mount.update(type="none", source="/proc", options=["rbind", "nosuid", "noexec", "nodev"])


def _without_proc(document: Document) -> None:
    _drop_mounts(document, "/proc")
    document["linux"]["sysctl"] = {}


def _mark(document: Document) -> None:
    for rule in document["linux"]["seccomp"]["syscalls"]:
        if rule["action"] == "SCMP_ACT_ERRNO":
            rule["errnoRet"] = errno.ENOANO
    document["linux"]["seccomp"]["defaultErrnoRet"] = errno.ENOANO


def _nothing(document: Document) -> None:
    """Taken away elsewhere: see :func:`measure`."""


LAYERS: Mapping[str, Callable[[Document], None]] = MappingProxyType(
    {
        "seccomp": _without_seccomp,
        "outer seccomp": _nothing,
        "Landlock": _nothing,
        "capabilities": _with_capabilities,
        "user namespace": _without_user_namespace,
        "namespace count": _nothing,
        "no_new_privs": _without_no_new_privs,
        "masked and read-only paths": _without_masks,
        "worker's masks": _nothing,
        "own /dev": _without_own_dev,
        "nosuid, nodev": _nothing,
        "device cgroup": _without_device_cgroup,
        "network namespace": _without_network_namespace,
        "network fence": _nothing,
        "pid namespace": _without_pid_namespace,
        "own /proc": _with_proc_of_the_host,
        "ipc namespace": _without_ipc_namespace,
    }
)
"""What can be taken away, by the name that the table has, in this order."""
ONLY_TOGETHER = frozenset({"pid namespace", "own /proc"})
"""The kernel mounts the /proc of a pid namespace only for who owns that, and no runtime makes a run without.
So one that has no pid namespace of its own is made with the host's /proc bound in, which no bundle has."""
NO_PROC = "no /proc"
MARKED, MARK = frozenset({"marked"}), "ENOANO"
# Whatever the filter: the kernel itself lets these two through (its own return from a probe in a program).
_PASSED_BY_THE_KERNEL = {335, 336}


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of the probe said."""

    lines: Mapping[str, str]
    mechanisms: Mapping[str, bool]
    problem: str = ""


def measure(
    port: Harbour,
    mode: str,
    *,
    without: frozenset[str] = frozenset(),
    capabilities: Collection[str] = (),
) -> Measurement:
    """Run the probe (``attempts`` or ``walk``) in the bundle of an ordinary run that lacks ``without`` and
    was given ``capabilities``.

    With :data:`MARKED` nothing is missing, but what the run's own list refuses says so.
    """
    root = _evil_root(port)
    with ExitStack() as stack:
        if "nosuid, nodev" not in without:
            stack.enter_context(_mounted(root))
        text = _in_child(lambda: _supervised(port, root, mode, without, capabilities))
    shutil.rmtree(root)
    return Measurement(**json.loads(text))


def beyond_the_list(walked: Measurement) -> set[int]:
    """The numbers of system calls that a walk has reached and the list of runs does not have."""
    library = ctypes.CDLL("libseccomp.so.2")
    allowed = {
        library.seccomp_syscall_resolve_name(name.encode()) for name in (*allowed_syscalls(), *ARGUMENT_CALLS)
    }
    return {int(number) for number in walked.lines["native"].split()} - allowed - _PASSED_BY_THE_KERNEL


def _evil_root(port: Harbour) -> Path:
    """A root folder with the probe, and what would help it if it counted: device nodes, a setuid copy."""
    root = port.rootfs()
    probe = port.folder / "probe"
    if not probe.exists():
        probe = compiled("probe", port.folder)
    shutil.copy(probe, root / "bin/probe")
    for name in ("mnt", "nodes", "dev/net"):
        (root / name).mkdir(parents=True)
    shutil.copy(probe, root / "nodes/setuid")
    for name, (kind, major, minor) in _NODES.items():
        os.mknod(root / name, kind | 0o666, os.makedev(major, minor))
    port.own(root)
    for name in _NODES:
        (root / name).chmod(0o666)
    (root / "nodes/setuid").chmod(0o4755)
    return root


@contextmanager
def _mounted(root: Path) -> Iterator[None]:
    fd = clone_tree(str(root), executable=True)
    try:
        attach_tree(fd, str(root))
    finally:
        os.close(fd)
    try:
        yield
    finally:
        unmount(str(root), UMOUNT_NOFOLLOW)


def _supervised(
    port: Harbour, root: Path, mode: str, without: frozenset[str], capabilities: Collection[str]
) -> str:
    become_subreaper()
    unshare(CLONE_NEWNET | CLONE_NEWIPC)
    facts = [f"canary={port.folder}/canary/bird", f"pid={os.getpid()}", f"shm={_share()}", *_listen()]
    _take_away(without)
    config = image_config("/bin/probe", mode, *facts)
    asked = {"version": 1, "expect": {"exit": 0}, "capabilities": tuple(capabilities) or None}
    spec = RunSpec.model_validate(asked, strict=False)
    run_dir = port.folder / f"attempt-{root.name}"
    run_dir.mkdir(mode=0o711)
    job = RunJob(
        plan=make_plan(config, spec, limits=_PATIENT, ceiling=_PATIENT, image_spec_allowed=False),
        config=config,
        root=root,
        run_dir=run_dir,
        run_id=f"attempt-{root.name}",
        id_base=port.ids.base,
        id_size=port.ids.size,
        runtime=port.runtime.info,
        runtime_state=port.runtime.state,
        allowed_downgrades=(),
    )
    try:
        result = supervisor.supervise(job, port.runtime, cancelled=lambda: False)
    finally:
        shutil.rmtree(run_dir)
    log = result.run.log if result.run is not None else ""
    problem = "" if log.endswith("done\n") else f"{result.error}: {log[-2000:]}"
    rows = (line.partition("\t" if mode == "attempts" else " ") for line in log.splitlines())
    found = {
        "lines": {name: value for name, _, value in rows if name != "done"},
        "mechanisms": {one.name: one.applied for one in result.mechanisms},
        "problem": problem,
    }
    return json.dumps(found)


def _listen() -> list[str]:
    """Give the network namespace that stands for the host's what a host has, and listen there."""
    for line in (
        "link set lo up",
        f"addr add {METADATA}/32 dev lo",
        f"addr add {ADDRESS}/24 dev lo",
        "link add hostif type veth peer name hostif-peer",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    internet = socket.create_server(("0.0.0.0", 0))
    unix = socket.socket(socket.AF_UNIX)
    name = f"seatrial-{os.getpid()}"
    unix.bind(f"\0{name}")
    unix.listen()
    port = internet.getsockname()[1]
    # Open as long as this process is.
    for one in (internet, unix):
        one.detach()
    return [f"port={port}", f"abstract={name}"]


def _share() -> int:
    """Make memory of System V that is the worker's alone, in an ipc namespace that stands for the host's."""
    key = os.getpid()
    create = 0o1000
    assert ctypes.CDLL(None).shmget(key, 4096, create | 0o600) >= 0
    return key


def _take_away(without: frozenset[str]) -> None:
    assemble = making.assemble
    ways = {**LAYERS, "marked": _mark, NO_PROC: _without_proc}

    def changed(*arguments: Any, **options: Any) -> Document:
        document = assemble(*arguments, **options)
        for name, take_away in ways.items():
            if name in without:
                take_away(document)
        return document

    making.assemble = changed
    if "outer seccomp" in without:
        oci.outer_program = lambda _: None
    if "Landlock" not in without:
        enter_domain()
    # Never where the run has the user namespace of all: its counts are the host's.
    if not without.isdisjoint({"namespace count", "user namespace"}):
        making.enclose = lambda *_: ()
    if "worker's masks" in without:
        within.mask = lambda _: 1
    if "network fence" in without:
        making.attach = lambda *_, **__: Attached()
    if without:
        # The worker would refuse the run.
        for name in ("verify_namespaces", "verify_privileges"):
            setattr(making, name, lambda *_, **__: ())
        making.verify_domain = lambda _: Mechanism(name="Landlock", applied=False)


def _in_child(work: Callable[[], str]) -> str:
    """What ``work`` says in a forked child: it becomes a subreaper and leaves the network of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            text = work()
            with os.fdopen(writing, "w") as file:
                file.write(text)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, "the measurement failed"
    return text


def _drop_namespace(document: Document, kind: str) -> None:
    linux = document["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != kind]


def _drop_mounts(document: Document, top: str) -> None:
    document["mounts"] = [
        one for one in document["mounts"] if not f"{one['destination']}/".startswith(f"{top}/")
    ]
