"""The last look before the runtime is called: a list of small checks, each with one reason to exist.

Some close holes that runtimes had with hostile images; others hold what ``make_config`` promises, so that a
mistake there cannot start a run with less isolation than is reported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.bundles.config import INIT, NAMESPACES, ROOT_CAPABILITIES, Bind, bind_mount
from sandbox.bundles.prepare import MOUNT_POINTS
from sandbox.bundles.rootfs import Rootfs, parts
from sandbox.bundles.seccomp import kernel_seccomp
from sandbox.bundles.users import GROUP, MAX_FILE_BYTES, PASSWD
from sandbox.errors import SandboxError

# As PATH_MAX of the kernel.
_MAX_PATH_BYTES = 4096
_KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
_MOUNT_TYPES = {"proc", "tmpfs", "devpts", "mqueue", "sysfs"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is checked: the document as it will be written, and the image's tree."""

    document: dict[str, Any]
    rootfs: Rootfs
    volumes: tuple[str, ...]
    downgrades: frozenset[str]
    command: str
    """What the run is about: its first argument, behind an init if there is one."""
    init: Path | None = None
    """The program of the host that the run may see."""
    capabilities: frozenset[str] = frozenset()
    """What the run was given by name, without ``CAP_``."""
    network: Path | None = None
    """The network namespace of the run that this container joins."""
    binds: tuple[Bind, ...] = ()
    """The folders of the worker that the run may read."""


Check = Callable[[Bundle], None]


def check_image(bundle: Bundle) -> None:
    """Run the checks of the image, before anything is put into its tree.

    Raises:
        SandboxError: ``image-refused`` or ``start-failed``, naming what.
    """
    for check in IMAGE_CHECKS:
        check(bundle)


def check_config(bundle: Bundle) -> None:
    """Run the checks of our own document.

    Raises:
        SandboxError: ``isolation-missing``, naming what.
    """
    for check in CONFIG_CHECKS:
        check(bundle)


def command_can_be_named(bundle: Bundle) -> None:
    """A runtime prints what it cannot find, into the pipe that is emptied only when it has made the run: with
    a name longer than the pipe it would wait for ever."""
    length = len(os.fsencode(bundle.command))
    if length >= _MAX_PATH_BYTES:
        message = f"the command cannot be run: its name has {length} bytes; {_MAX_PATH_BYTES} are the limit"
        raise SandboxError("start-failed", message)


def mount_points_are_folders(bundle: Bundle) -> None:
    """Runtimes followed links on the way to a mount point, some on the host (CVE-2026-41579)."""
    mounts = bundle.document["mounts"]
    # What is mounted on the /dev of our own never meets the image's.
    destinations = [str(mount["destination"]) for mount in mounts if mount["destination"] != INIT]
    for destination in (*MOUNT_POINTS, *destinations):
        names = parts(destination)
        for depth in range(1, len(names) + 1):
            path = "/" + "/".join(names[:depth])
            if bundle.rootfs.kind(path) not in ("folder", "absent"):
                raise SandboxError("image-refused", f"{path} must be a real folder in the image")


def accounts_are_plain_files(bundle: Bundle) -> None:
    """A FIFO at /etc/passwd makes the runtime wait for ever, a huge file makes it read for ever."""
    for path in (PASSWD, GROUP):
        bundle.rootfs.read_small(path, limit_bytes=MAX_FILE_BYTES)


def working_dir_is_of_the_image(bundle: Bundle) -> None:
    """A working folder below /proc/self/fd was a way out (CVE-2024-21626), also by way of a link."""
    _outside_kernel_folders(bundle, str(bundle.document["process"]["cwd"]), "the working folder")


def volumes_are_of_the_image(bundle: Bundle) -> None:
    """A volume must not cover what the runtime mounts."""
    for path in bundle.volumes:
        if not parts(path):
            raise SandboxError("image-refused", "a volume cannot be the whole root file system")
        _outside_kernel_folders(bundle, path, "a volume")


def namespaces_are_all_new(bundle: Bundle) -> None:
    """A type that is missing, or one with a path, would be the host's; but for the network of its run."""
    namespaces = bundle.document["linux"]["namespaces"]
    types = [one["type"] for one in namespaces]
    missing = set(NAMESPACES) - set(types)
    joined = {} if bundle.network is None else {"network": str(bundle.network)}
    paths = {one["type"]: one["path"] for one in namespaces if "path" in one}
    if missing or len(types) != len(set(types)) or paths != joined:
        raise SandboxError("isolation-missing", f"not every namespace is new: {sorted(missing) or types}")


def ids_are_mapped_away(bundle: Bundle) -> None:
    """The run's root must not be anybody on the host."""
    for kind in ("uidMappings", "gidMappings"):
        mappings = bundle.document["linux"][kind]
        if len(mappings) != 1 or mappings[0]["containerID"] != 0 or mappings[0]["hostID"] < 1:
            raise SandboxError("isolation-missing", f"{kind} must map the run to ids of its own")


def nothing_of_the_host_is_mounted(bundle: Bundle) -> None:
    """Only file systems that are made for the run; no bind but that of the init and of what the run is to
    look at, read-only, and no hook that runs on the host."""
    given = [bind_mount(one) for one in bundle.binds]
    mounts = [one for one in bundle.document["mounts"] if one not in given]
    foreign = {str(mount["type"]) for mount in mounts if not _is_init(mount, bundle.init)} - _MOUNT_TYPES
    if foreign or "hooks" in bundle.document:
        raise SandboxError("isolation-missing", f"not only fresh file systems are mounted: {sorted(foreign)}")
    if not any(mount["destination"] == "/dev" for mount in bundle.document["mounts"]):
        raise SandboxError("isolation-missing", "/dev must be our own")


def no_device_is_given(bundle: Bundle) -> None:
    """All devices are denied first, and none is allowed again."""
    rules = bundle.document["linux"]["resources"]["devices"]
    denied = bool(rules) and not rules[0]["allow"] and "major" not in rules[0] and rules[0]["access"] == "rwm"
    if bundle.document["linux"]["devices"] or not denied or any(rule["allow"] for rule in rules):
        raise SandboxError("isolation-missing", "devices must all be denied")


def privileges_are_bounded(bundle: Bundle) -> None:
    """At most the seven, only for root, and those given by name; no way to gain others."""
    process = bundle.document["process"]
    given = {f"CAP_{name}" for name in bundle.capabilities}
    allowed = given | (set(ROOT_CAPABILITIES) if process["user"]["uid"] == 0 else set())
    sets = process["capabilities"]
    held = {name for kind in ("bounding", "effective", "permitted") for name in sets[kind]}
    inherited = {*sets["inheritable"], *sets["ambient"]}
    if held - allowed or inherited - given or process["noNewPrivileges"] is not True:
        raise SandboxError("isolation-missing", f"too many privileges: {sorted(held - allowed)}")


def system_calls_are_filtered(bundle: Bundle) -> None:
    """An allow list, for the native architecture alone; for a kernel of its own the list of refusals."""
    seccomp = bundle.document["linux"].get("seccomp")
    if seccomp is None and "seccomp" in bundle.downgrades:
        return
    if seccomp == kernel_seccomp(bundle.capabilities):
        return
    if seccomp is None or seccomp["defaultAction"] != "SCMP_ACT_ERRNO" or len(seccomp["architectures"]) != 1:
        raise SandboxError("isolation-missing", "system calls must be filtered by an allow list")


def root_can_be_reached(bundle: Bundle) -> None:
    """The runtime walks to the root as the run's own root: real folders that others may pass through."""
    path = Path(bundle.document["root"]["path"])
    if not path.is_absolute() or Path(os.path.realpath(path)) != path:
        raise SandboxError("worker-error", "the root file system must be a real absolute path")
    for parent in path.parents:
        if not parent.stat().st_mode & 0o001:
            raise SandboxError("worker-error", "the worker's folders must let others through (mode 0711)")


IMAGE_CHECKS: tuple[Check, ...] = (
    command_can_be_named,
    mount_points_are_folders,
    accounts_are_plain_files,
    working_dir_is_of_the_image,
    volumes_are_of_the_image,
)
CONFIG_CHECKS: tuple[Check, ...] = (
    namespaces_are_all_new,
    ids_are_mapped_away,
    nothing_of_the_host_is_mounted,
    no_device_is_given,
    privileges_are_bounded,
    system_calls_are_filtered,
    root_can_be_reached,
)


def _is_init(mount: Mapping[str, Any], init: Path | None) -> bool:
    return (
        init is not None
        and (mount["type"], mount["destination"], mount["source"]) == ("bind", INIT, str(init))
        and {"bind", "ro", "nosuid", "nodev"} == set(mount["options"])
    )


def _outside_kernel_folders(bundle: Bundle, path: str, what: str) -> None:
    plain = "/" + "/".join(parts(path))
    for where in (plain, bundle.rootfs.resolve(path)):
        if where is not None and any(where == one or where.startswith(one + "/") for one in _KERNEL_FOLDERS):
            raise SandboxError("image-refused", f"{what} of the image is below {'/' + where.split('/')[1]}")
