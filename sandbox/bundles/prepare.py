"""What the worker puts into a run's writable layer before it starts: mount points, three files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.contract.plan import Plan
from registry.oci.imageconfig import ImageConfig
from sandbox.bundles.config import HOSTNAME, temporary_folders
from sandbox.bundles.rootfs import Rootfs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address

    from sandbox.ids import IdRange

MOUNT_POINTS = ("/dev", "/proc", "/sys", "/tmp", "/etc", "/run")  # noqa: S108  (inside the run)
_HOSTS = f"127.0.0.1\tlocalhost {HOSTNAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_RESOLV_CONF = "# A run has no resolver; the names it may know stand in /etc/hosts.\n"


def prepare_rootfs(
    rootfs: Rootfs,
    plan: Plan,
    config: ImageConfig,
    *,
    ids: IdRange,
    hosts: Sequence[tuple[IPv4Address, str]] = (),
    folders: Sequence[str] = (),
) -> None:
    """Make the folders that the bundle mounts on (``folders`` are more of them), the volumes and the working
    folder; write /etc/hosts, /etc/hostname and /etc/resolv.conf. Everything belongs to the run's own root.

    Files are written, not bound over: an image may have links there, and a bind would follow them and show a
    path of the host in the run's mount table.

    Raises:
        SandboxError: ``image-refused``: something of the image stands in the way.
    """
    owner = (ids.base, ids.base)
    for path in (*MOUNT_POINTS, *temporary_folders(plan, config), *folders):
        rootfs.make_folder(path, owner=owner)
    # As /tmp is everywhere; and older runtimes give a tmpfs the mode of the folder below it.
    for path in ("/tmp", *temporary_folders(plan, config)):  # noqa: S108
        rootfs.set_mode(path, 0o1777)
    for path in (*config.volumes, plan.working_dir):
        if rootfs.resolve(path) is None:
            rootfs.make_folder(path, owner=owner)
    lines = "".join(f"{address}\t{name}\n" for address, name in hosts)
    rootfs.write_file("/etc/hosts", f"{_HOSTS}{lines}".encode(), owner=owner)
    rootfs.write_file("/etc/hostname", f"{HOSTNAME}\n".encode(), owner=owner)
    rootfs.write_file("/etc/resolv.conf", _RESOLV_CONF.encode(), owner=owner)
