"""Images that attack: each is refused before the runtime sees it, or gains nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from registry.contract.plan import make_plan
from registry.oci.imageconfig import ImageConfig
from sandbox.bundles.config import make_config
from sandbox.bundles.users import ContainerUser
from sandbox.errors import SandboxError
from sandbox.runtimes.base import RuntimeFailure
from sandbox.runtimes.cgroups import find_cgroups, group_names
from sandbox.runtimes.isolation import read_surroundings
from sandbox.runtimes.oci import OciRuntime
from sandbox.runtimes.sweep import sweep_run
from tests.kit.runs import MIB, QUICK, Harbour, image_config, seen


async def refused(port: Harbour, root: Path, config: ImageConfig | None = None) -> SandboxError:
    with pytest.raises(SandboxError) as caught:
        await port.run(config or image_config("/bin/true"), root=root)
    return caught.value


@pytest.mark.parametrize("name", ["dev", "proc", "sys", "tmp", "etc", "run"])
async def test_a_link_where_we_mount(port: Harbour, name: str) -> None:
    root = port.rootfs()
    (root / name).symlink_to(port.folder / "canary")
    error = await refused(port, root)
    assert (error.reason, f"/{name}" in error.message) == ("image-refused", True)


async def test_a_file_where_we_mount(port: Harbour) -> None:
    root = port.rootfs()
    (root / "proc").write_text("no folder")
    assert (await refused(port, root)).reason == "image-refused"


async def test_a_link_below_dev(port: Harbour) -> None:
    root = port.rootfs()
    (root / "dev").mkdir()
    (root / "dev/shm").symlink_to("/etc")
    assert (await refused(port, root)).reason == "image-refused"


@pytest.mark.parametrize("name", ["passwd", "group"])
async def test_a_fifo_for_accounts(port: Harbour, name: str) -> None:
    root = port.rootfs()
    (root / "etc").mkdir()
    os.mkfifo(root / "etc" / name)
    error = await refused(port, root)
    assert (error.reason, error.message) == ("image-refused", f"/etc/{name} is not a plain file")


async def test_a_giant_or_linked_passwd(port: Harbour) -> None:
    root = port.rootfs()
    (root / "etc").mkdir()
    with (root / "etc/passwd").open("wb") as file:
        file.truncate(5 * 1024**3)
    assert "are the limit" in (await refused(port, root)).message
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/dev/zero")
    assert (await refused(port, root)).reason == "image-refused"


async def test_links_where_we_write_files_are_replaced(port: Harbour) -> None:
    root = port.rootfs()
    (root / "etc").mkdir()
    (root / "etc/hosts").symlink_to(port.folder / "canary/bird")
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    port.own(root)
    done = await port.sh("cat /etc/hosts /etc/hostname; hostname 2>/dev/null; uname -n", root=root)
    assert "127.0.0.1\tlocalhost trial" in done.run.log
    assert done.run.log.endswith("trial\n")


async def test_a_folder_where_we_write_a_file(port: Harbour) -> None:
    root = port.rootfs()
    (root / "etc/hosts").mkdir(parents=True)
    assert (await refused(port, root)).message == "/etc/hosts is a folder"


@pytest.mark.parametrize("cwd", ["/proc/self/fd/8", "/sys", "/a/../proc/1", "relative", "/proc"])
async def test_hostile_working_folders(port: Harbour, cwd: str) -> None:
    error = await refused(port, port.rootfs(), image_config("/bin/true", working_dir=cwd))
    assert error.reason == "image-refused"


@pytest.mark.parametrize(
    ("target", "cwd"),
    [("/proc/self/fd", "/way/8"), ("/proc", "/way"), ("proc/1", "/way")],
)
async def test_a_working_folder_by_way_of_a_link(port: Harbour, target: str, cwd: str) -> None:
    root = port.rootfs()
    (root / "proc/1").mkdir(parents=True)
    (root / "way").symlink_to(target)
    assert (await refused(port, root, image_config("/bin/true", working_dir=cwd))).reason == "image-refused"


async def test_a_missing_working_folder_is_made(port: Harbour) -> None:
    done = await port.sh("pwd; stat -c '%u %a' .", working_dir="/srv/app")
    assert done.run.log == "/srv/app\n0 755\n"


@pytest.mark.parametrize("volume", ["/", "/proc", "/proc/sys", "/dev/shm", "/sys/fs/cgroup", "//proc/"])
async def test_hostile_volumes(port: Harbour, volume: str) -> None:
    error = await refused(port, port.rootfs(), image_config("/bin/true", volumes=(volume,)))
    assert error.reason == "image-refused"


async def test_volumes_can_be_written(port: Harbour) -> None:
    script = "echo kept > /data/deep/file && cat /data/deep/file"
    assert seen(await port.sh(script, volumes=("/data/deep",))) == [True]
    restricted = await port.sh(script, volumes=("/data/deep",), spec={"profile": "restricted"}, user="12:12")
    assert seen(restricted) == [True]


async def test_labels_do_not_steer_the_runtime(port: Harbour) -> None:
    out = port.folder / "canary/out"
    labels = {"run.oci.hooks.stdout": str(out), "org.criu.config": "/etc/passwd", "plain": "kept"}
    done = await port.run(image_config("/bin/true", labels=labels))
    assert seen(done) == [True]
    assert not out.exists()


@pytest.mark.parametrize("user", ["nobody", "0:staff", "70000", "0:65536", "99999999999", "-1", "a:"])
async def test_unknown_users(port: Harbour, user: str) -> None:
    error = await refused(port, port.rootfs(), image_config("/bin/true", user=user))
    assert error.reason == "user-unknown"


async def test_named_users(port: Harbour) -> None:
    root = port.rootfs()
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
    (root / "etc/group").write_text("web:x:34:\nlogs:x:4:web,root\n")
    port.own(root)
    done = await port.sh("id; echo $HOME", user="web", root=root)
    assert done.run.log == "uid=33(web) gid=34(web) groups=4(logs)\n/srv\n"


async def test_the_writable_layer_is_bounded(port: Harbour) -> None:
    with small_root(port) as root:
        done = await port.sh("dd if=/dev/zero of=/fill bs=1M count=100", root=root)
    assert done.run.reason == "disk-full"
    assert "No space left" in done.run.log


async def test_what_is_seen_from_inside(port: Harbour) -> None:
    script = r"""
        grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status
        echo "maps $(cat /proc/self/uid_map)"
        echo "net $(ls /sys/class/net | tr '\n' ' ')"
        echo "kcore $(cat /proc/kcore 2>/dev/null | wc -c)"
        echo "write $(echo 1 2>&1 > /proc/sys/kernel/core_pattern)"
        cat /proc/mounts
    """
    done = await port.sh(script)
    log = done.run.log
    assert re.search(r"CapBnd:\t0+fb\n", log)
    assert "NoNewPrivs:\t1\n" in log
    assert "Seccomp:\t2\n" in log
    # gVisor's ids are those of its own kernel; the host sees none of them.
    ids = "0 +4294967295" if port.own_kernel else f"{port.ids.base} +65536"
    assert re.search(rf"maps +0 +{ids}\n", log)
    # Nor does it list its interfaces there.
    assert ("net \n" if port.own_kernel else "net lo \n") in log
    assert "kcore 0\n" in log
    assert str(port.folder) not in log.replace("/dev/root", "")
    done = await port.sh(script, user="12:12")
    assert re.search(r"CapBnd:\t0+\n", done.run.log)


WAYS_OUT = [
    "unshare true",
    "mount -t proc none /proc",
    "chroot / true",
    "mknod /null c 1 3",
    "hostname evil",
    "dmesg",
    "ping -c1 127.0.0.1",
    "echo 1 > /proc/sys/vm/drop_caches",
    "echo b > /proc/sysrq-trigger",
    "cat /dev/mem",
    "wget -q -T 1 -O- http://169.254.169.254/",
    "wget -q -T 1 -O- http://10.0.0.1/",
    "mkdir /sys/fs/cgroup/memory/x",
    "cat /proc/kallsyms | grep -q .",
]


async def test_nothing_is_won(port: Harbour) -> None:
    script = "".join(f"({way}) && echo WON: '{way}'\n" for way in WAYS_OUT)
    done = await port.sh(f"{script}echo done", limits=QUICK.model_copy(update={"wall_seconds": 60}))
    assert done.run.log.endswith("done\n")
    assert "WON" not in done.run.log


async def test_even_without_our_checks_the_runtime_call_ends(port: Harbour, tmp_path: Path) -> None:
    # What the checks keep away: a bundle that is broken is an error of the runtime, with an end.
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RuntimeFailure):
        port.runtime.create("broken", tmp_path, log_fd=2, pid_file=tmp_path / "pid")


async def test_a_runtime_call_that_hangs_is_killed(port: Harbour) -> None:
    # What the check of /etc/passwd keeps away is real: the runtime waits for the other end of the FIFO.
    root, bundle = port.rootfs(), port.folder / "bundle"
    bundle.mkdir(mode=0o711)
    for name in ("etc", "proc", "sys", "dev", "tmp", "run"):
        (root / name).mkdir()
    os.mkfifo(root / "etc/passwd")
    port.own(root)
    config = image_config("/bin/true")
    plan = make_plan(config, None, limits=QUICK, ceiling=QUICK, image_spec_allowed=False)
    document = make_config(
        plan,
        config,
        ids=port.ids,
        user=ContainerUser(0, 0),
        root=root,
        cgroups_path=f"{port.runtime.cgroup_parent}/hangs",
        surroundings=read_surroundings(find_cgroups(), time_namespace=port.runtime.info.time_namespace),
        downgrades=frozenset(),
    )
    (bundle / "config.json").write_text(json.dumps(document))
    assert isinstance(port.runtime, OciRuntime)
    waits = port.runtime.info.version.startswith("1.1.")
    hasty = replace(port.runtime, call_seconds=5.0 if waits else 60.0)
    failure: RuntimeFailure | None = None
    try:
        hasty.create("hangs", bundle, log_fd=2, pid_file=bundle / "pid")
    except RuntimeFailure as caught:
        failure = caught
    # Newer ones do not wait; either way what was begun can be swept.
    assert (failure is not None and failure.timed_out) is waits
    assert group_names(find_cgroups(), port.runtime.cgroup_parent) == ("hangs",)
    sweep_run(port.runtime, "hangs")


@contextmanager
def small_root(port: Harbour) -> Iterator[Path]:
    """A root folder on a file system of 8 MiB."""
    source = port.rootfs()
    target = port.folder / "small"
    target.mkdir()
    options = f"size={8 * MIB},mode=755,nosuid,nodev"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", str(target)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)
        port.own(target)
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)
