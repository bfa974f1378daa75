"""From plan and image config to the hardened ``config.json`` of one run (runtime-spec; SANDBOX rules).

A missing namespace type would mean the host's, a missing list the runtime's own choice: everything is said.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from registry.contract.capabilities import KEPT
from registry.contract.plan import Plan
from registry.oci.imageconfig import ImageConfig
from sandbox.bundles.seccomp import kernel_seccomp, make_seccomp
from sandbox.bundles.users import ContainerUser
from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.ids import IdRange

OCI_VERSION = "1.0.2"
HOSTNAME = "trial"
ROOT_CAPABILITIES = tuple(f"CAP_{name}" for name in KEPT)
"""What an image that starts as root may do to its own files and users, inside its user namespace only."""
INIT = "/dev/init"
"""Where a run sees the init of its worker, in the /dev that is its own."""
NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup")
STEERING_LABELS = (
    "run.oci.",
    "org.criu.",
    "org.systemd.property.",
    "dev.gvisor.",
    "io.kubernetes.",
    "io.kata",
    "krun.",
    "module.wasm.",
)
"""Prefixes of annotations that steer one runtime or another; an image's labels may not."""
_MIB = 1024 * 1024
MASKED = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "kcore", "keys", "latency_stats", "timer_list")),
    *(f"/proc/{name}" for name in ("timer_stats", "sched_debug", "scsi", "interrupts", "config.gz")),
    *(f"/proc/{name}" for name in ("cmdline", "kallsyms", "kpagecgroup", "kpagecount", "kpageflags")),
    # Open to all, and who writes there makes the host's kernel watch.
    "/proc/pressure",
    *(f"/proc/{name}" for name in ("pagetypeinfo", "slabinfo", "vmallocinfo")),
    *(f"/sys/{name}" for name in ("firmware", "kernel", "fs", "module", "dev/block")),
    "/sys/devices/virtual/powercap",
)
"""What says too much of the host, whoever asks: empty in a run."""
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# All containers of a host share some 3,000 of them.
_TERMINALS = ("ptmxmode=0666", "mode=0620", "gid=5", "max=64")
_OOM_SCORE = 500
_CPU_PERIOD = 100_000
# What the runtime's own start inside the run needs under a limit of data, with some to spare.
_RUNTIME_BYTES = 128 * _MIB


BIND_OPTIONS = ("bind", "ro", "nosuid", "nodev", "noexec")


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the worker that a run sees: it reads there, and neither writes nor executes anything."""

    source: Path
    destination: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The facts of this host and runtime that a bundle depends on."""

    machine: str
    """As ``uname -m`` says."""
    hard_rlimits: Mapping[str, int]
    """The worker's own hard limits by name (``NOFILE``); what is not there is unlimited."""
    oom_score_adj: int
    """The worker's own; a run may only be worse."""
    swap_limit: bool
    """Whether memory and swap together can be limited."""
    time_namespace: bool
    """Whether the runtime knows the time namespace."""
    time_offsets: Mapping[str, int] = field(default_factory=dict)
    """Seconds by clock that its clocks are set off from the host's."""
    apparmor_profile: str | None = None
    """The AppArmor profile of runs, where it is loaded."""
    process_label: str | None = None
    mount_label: str | None = None
    """The SELinux labels of runs and of their files, where the policy knows them."""
    cpu_set: str | None = None
    """The only processors of the worker's runs, as the kernel lists them."""
    init: Path | None = None
    """A static init of this host, where there is one."""
    own_kernel: bool = False
    """Whether the runtime brings a kernel along."""
    spare_pids: int = 0
    """Processes and threads of the runtime itself, beside those of the run."""
    disk: tuple[int, int] | None = None
    """The device below the writable layer, where its rate can be limited."""
    network: Path | None = None
    """The network namespace of another container of the run, which this one joins."""
    binds: tuple[Bind, ...] = ()
    """What the run is to look at, beside its own files."""


def make_config(
    plan: Plan,
    config: ImageConfig,
    *,
    ids: IdRange,
    user: ContainerUser,
    root: Path,
    cgroups_path: str | None,
    surroundings: Surroundings,
    downgrades: frozenset[str],
) -> dict[str, object]:
    """The document for one run. ``root`` is the root file system on the host, absolute.

    ``cgroups_path`` is ``None`` where the worker may make no cgroup. ``downgrades`` names the isolation to
    leave out: ``cgroup-limits``, ``seccomp``.

    Raises:
        SandboxError: ``isolation-missing``: there is no seccomp list for this machine, or no init for a plan
            that asks for one.
    """
    if plan.init and (why := why_no_init(surroundings)) is not None:
        raise SandboxError("isolation-missing", f"the run spec asks for an init, and {why}")
    if plan.init and plan.limits.pids < 2:
        raise SandboxError("spec-invalid", "an init and its command are two processes, and limits.pids is 1")
    linux: dict[str, object] = {
        "namespaces": _namespaces(surroundings),
        "uidMappings": [{"containerID": 0, "hostID": ids.base, "size": ids.size}],
        "gidMappings": [{"containerID": 0, "hostID": ids.base, "size": ids.size}],
        "resources": _resources(plan, surroundings, downgrades),
        "devices": [],
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(_READONLY),
    }
    if surroundings.network is None:
        # Instead of CAP_NET_BIND_SERVICE. Who joins a network may not change it, and finds it so.
        linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    if cgroups_path is not None:
        linux["cgroupsPath"] = cgroups_path
    if surroundings.time_namespace and surroundings.time_offsets:
        linux["timeOffsets"] = {name: {"secs": secs} for name, secs in surroundings.time_offsets.items()}
    if surroundings.mount_label is not None:
        linux["mountLabel"] = surroundings.mount_label
    if "seccomp" not in downgrades:
        own = surroundings.own_kernel
        asked = plan.capabilities
        linux["seccomp"] = kernel_seccomp(asked) if own else make_seccomp(surroundings.machine, asked)
    return {
        "ociVersion": OCI_VERSION,
        "root": {"path": str(root), "readonly": plan.read_only},
        "hostname": HOSTNAME,
        "process": _process(plan, user, surroundings, downgrades),
        "mounts": [
            *_mounts(plan, config, surroundings),
            *_init_mount(plan, surroundings),
            *(bind_mount(one) for one in surroundings.binds),
        ],
        "annotations": make_annotations(config),
        "linux": linux,
    }


def why_no_init(surroundings: Surroundings) -> str | None:
    """Why no run can have an init here, in words, or ``None``."""
    if surroundings.process_label is not None:
        return "the SELinux domain of runs may execute nothing of the host"
    if surroundings.init is None:
        return "this worker has none: install catatonit (or tini), a static program"
    return None


def _init_mount(plan: Plan, surroundings: Surroundings) -> list[dict[str, object]]:
    if not plan.init:
        return []
    options = ["bind", "ro", "nosuid", "nodev"]
    return [{"destination": INIT, "type": "bind", "source": str(surroundings.init), "options": options}]


def bind_mount(bind: Bind) -> dict[str, object]:
    """As it stands in the document."""
    return {
        "destination": bind.destination,
        "type": "bind",
        "source": str(bind.source),
        "options": list(BIND_OPTIONS),
    }


def make_annotations(config: ImageConfig) -> dict[str, str]:
    """Annotations by image-spec, conversion.md; the image's labels win, save those that steer a runtime."""
    prefix = "org.opencontainers.image."
    facts = {
        "os": config.platform.os,
        "architecture": config.platform.architecture,
        "variant": config.platform.variant,
        "author": config.author,
        "created": config.created,
        "stopSignal": config.stop_signal,
        "exposedPorts": ",".join(str(port) for port in config.exposed_ports),
    }
    annotations = {prefix + name: value for name, value in facts.items() if value}
    annotations.update(
        (name, value)
        for name, value in config.labels.items()
        if name and not name.startswith(STEERING_LABELS)
    )
    return annotations


def temporary_folders(plan: Plan, config: ImageConfig) -> tuple[str, ...]:
    """Where a run with a read-only root may write all the same, and what its spec names: memory, empty at
    start; each behind those that it lies in."""
    usual = ("/tmp", "/var/tmp", "/run", *config.volumes) if plan.read_only else ()  # noqa: S108  (inside the run)
    return tuple(sorted(dict.fromkeys((*usual, *plan.writable)), key=lambda path: path.count("/")))


def _namespaces(surroundings: Surroundings) -> list[dict[str, str]]:
    names = (*NAMESPACES, "time") if surroundings.time_namespace else NAMESPACES
    joined = {} if surroundings.network is None else {"network": {"path": str(surroundings.network)}}
    return [{"type": name, **joined.get(name, {})} for name in names]


def _process(
    plan: Plan, user: ContainerUser, surroundings: Surroundings, downgrades: frozenset[str]
) -> dict[str, object]:
    asked = [f"CAP_{name}" for name in plan.capabilities]
    kept = ROOT_CAPABILITIES if user.uid == 0 and plan.profile == "standard" else ()
    held = list(dict.fromkeys((*kept, *asked)))
    # Another user than root would lose them with the command's execve.
    ambient = [] if user.uid == 0 else asked
    who: dict[str, object] = {"uid": user.uid, "gid": user.gid, "umask": 0o022}
    if user.additional_gids:
        who["additionalGids"] = list(user.additional_gids)
    modules = {
        "apparmorProfile": surroundings.apparmor_profile,
        "selinuxLabel": surroundings.process_label,
    }
    return {
        **{name: label for name, label in modules.items() if label is not None},
        "terminal": False,
        "user": who,
        "args": [*((INIT, "--") if plan.init else ()), *plan.command],
        "env": _environment(plan, user),
        "cwd": plan.working_dir,
        "capabilities": {
            "bounding": held,
            "effective": held,
            "permitted": held,
            "inheritable": ambient,
            "ambient": ambient,
        },
        "rlimits": _rlimits(plan, surroundings, downgrades),
        "noNewPrivileges": True,
        "oomScoreAdj": max(_OOM_SCORE, surroundings.oom_score_adj),
    }


def _environment(plan: Plan, user: ContainerUser) -> list[str]:
    names = {entry.partition("=")[0] for entry in plan.env}
    added = {"HOME": user.home, "HOSTNAME": HOSTNAME}
    return [*plan.env, *(f"{name}={value}" for name, value in added.items() if name not in names)]


def _rlimits(plan: Plan, surroundings: Surroundings, downgrades: frozenset[str]) -> list[dict[str, object]]:
    limits = plan.limits
    # A control group counts what it refuses: it is to refuse first, where it sees the processes of the run.
    is_counted = "cgroup-limits" not in downgrades and not surroundings.own_kernel
    wanted = {
        "NOFILE": 1024,
        "CORE": 0,
        "FSIZE": limits.written_bytes,
        "NPROC": limits.pids + is_counted,
        "MEMLOCK": 64 * 1024,
    }
    if "cgroup-limits" in downgrades:
        # Of one process each, where nothing holds for all of them together.
        wanted["DATA"] = max(limits.memory_bytes, _RUNTIME_BYTES)
        wanted["CPU"] = int(limits.wall_seconds * max(limits.cpus, 1.0)) + 1
    clamped = {name: min(value, surroundings.hard_rlimits.get(name, value)) for name, value in wanted.items()}
    return [{"type": f"RLIMIT_{name}", "soft": value, "hard": value} for name, value in clamped.items()]


def _resources(plan: Plan, surroundings: Surroundings, downgrades: frozenset[str]) -> dict[str, object]:
    # The runtime adds its own few device nodes to what this denies.
    devices: dict[str, object] = {"devices": [{"allow": False, "access": "rwm"}]}
    if "cgroup-limits" in downgrades:
        return devices
    limits = plan.limits
    memory = {"limit": limits.memory_bytes}
    if surroundings.swap_limit:
        memory["swap"] = limits.memory_bytes
    cpu: dict[str, object] = {"quota": max(1000, int(limits.cpus * _CPU_PERIOD)), "period": _CPU_PERIOD}
    if surroundings.cpu_set is not None:
        cpu["cpus"] = surroundings.cpu_set
    resources = {
        **devices,
        "memory": memory,
        "cpu": cpu,
        "pids": {"limit": limits.pids + surroundings.spare_pids},
    }
    if limits.io_bytes_per_second is not None and surroundings.disk is not None:
        major, minor = surroundings.disk
        rate = [{"major": major, "minor": minor, "rate": limits.io_bytes_per_second}]
        resources["blockIO"] = {"throttleReadBpsDevice": rate, "throttleWriteBpsDevice": rate}
    return resources


def _mounts(plan: Plan, config: ImageConfig, surroundings: Surroundings) -> list[dict[str, object]]:
    shared = min(64 * _MIB, plan.limits.memory_bytes // 2)
    plain = ["nosuid", "noexec", "nodev"]
    mounts = [
        _mount("/proc", "proc", *plain),
        # Never the image's own.
        _mount("/dev", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=64k", "nr_inodes=64"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", *_TERMINALS),
        _mount("/dev/shm", "tmpfs", *plain, "mode=1777", f"size={shared}", "nr_inodes=4096"),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", *plain),
        # The kernel shows it only to who owns the network namespace; to another it is an empty folder.
        _mount("/sys", "sysfs", *plain, "ro")
        if surroundings.network is None
        else _mount("/sys", "tmpfs", *plain, "ro", "mode=555", "size=4k", "nr_inodes=1"),
    ]
    bounded = (*plain, "mode=1777", f"size={shared}", "nr_inodes=4096")
    return [*mounts, *(_mount(path, "tmpfs", *bounded) for path in temporary_folders(plan, config))]


def _mount(destination: str, kind: str, *options: str) -> dict[str, object]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def hard_rlimits() -> dict[str, int]:
    """The calling process's hard limits, without the unlimited ones."""
    found = {}
    for name in ("NOFILE", "CORE", "FSIZE", "NPROC", "MEMLOCK", "DATA", "CPU"):
        _, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        if hard != resource.RLIM_INFINITY:
            found[name] = hard
    return found
