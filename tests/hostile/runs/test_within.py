"""What is closed and seen between ``create`` and ``start``: namespaces, clocks, the root of the mounts."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.runtimes.oci import OciRuntime
from sandbox.runtimes.within import NAMESPACE_COUNTS, enclose
from tests.kit.runs import Harbour


@pytest.fixture(autouse=True)
def _kernel_of_the_host(port: Harbour) -> None:
    if port.own_kernel:
        pytest.skip("namespaces and mounts of a run are those of its own kernel (sandbox.runtimes.ownkernel)")


async def test_no_namespace_can_be_made_even_without_the_list(port: Harbour) -> None:
    runtime = port.runtime
    assert isinstance(runtime, OciRuntime)
    port.runtime = dataclasses.replace(runtime, info=dataclasses.replace(runtime.info, seccomp=False))
    port.allowed = frozenset({"seccomp"})
    done = await port.sh("unshare -U true; unshare -U -m true; cat /proc/sys/user/max_*_namespaces")
    refused = "unshare: unshare(0x{}): No space left on device"
    there = [name for name in NAMESPACE_COUNTS if Path("/proc/sys/user", name).exists()]
    assert done.run.log.splitlines() == [
        refused.format("10000000"),
        refused.format("10020000"),
        *["0"] * len(there),
    ]


async def test_the_limits_are_of_the_run_alone(port: Harbour) -> None:
    before = {name: Path("/proc/sys/user", name).read_text() for name in os.listdir("/proc/sys/user")}
    done = await port.sh("echo 1000 > /proc/sys/user/max_user_namespaces")
    assert "Read-only file system" in done.run.log
    assert {name: Path("/proc/sys/user", name).read_text() for name in os.listdir("/proc/sys/user")} == before
    applied = {one.name: one.applied for one in done.mechanisms}
    assert applied["namespace count"] is applied["pivot_root"] is True
    known = port.runtime.info.time_namespace
    assert applied["time offset"] is known


async def test_the_root_seen_from_inside(port: Harbour) -> None:
    """Everything that is mounted inside, by the kernel's own list, and none of it the host's tree."""
    done = await port.sh("cat /proc/self/mountinfo; stat -c '%d %i' / /.. /proc/1/root/. /proc/self/root/..")
    lines = done.run.log.splitlines()
    assert len(set(lines[-4:])) == 1
    host = {
        (fields[2], fields[3])
        for fields in (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
        if fields[3] == "/" and fields[4] in ("/", "/proc", "/sys", "/tmp", "/home", "/run")
    }
    mounted = [line.split() for line in lines[:-4]]
    assert [fields[3].endswith(f"/{port.folder.name}/root2") for fields in mounted if fields[4] == "/"] == [
        True
    ]
    assert host
    assert not host & {(fields[2], fields[3]) for fields in mounted}


@contextmanager
def imitation(root: Path, how: str) -> Iterator[int]:
    """A process that has ``root`` as its root, in a user and a mount namespace of its own: its id."""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", how, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.send_signal(signal.SIGKILL)


CHROOT = """
import os, sys
if {bind}:
    os.system(f"mount --bind {{sys.argv[1]}} {{sys.argv[1]}}")
os.chroot(sys.argv[1])
os.chdir("/")
print("ready", flush=True)
sys.stdin.read()
"""
PIVOT = """
import os, sys
os.system(f"mount --bind {sys.argv[1]} {sys.argv[1]}; mount -t tmpfs none {sys.argv[1]}/extra")
os.chdir(sys.argv[1])
os.system("pivot_root . . && umount -l .")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (CHROOT.format(bind=False), "not the root of its mount namespace"),
        (CHROOT.format(bind=True), "not the root of its mount namespace"),
        (PIVOT, "something else is mounted inside: /extra"),
    ],
    ids=["chroot", "chroot to a mount", "pivot_root with a mount too many"],
)
def test_an_imitation_is_told_apart(port: Harbour, how: str, why: str) -> None:
    root = port.rootfs()
    (root / "extra").mkdir()
    document = {"mounts": [], "linux": {"maskedPaths": [], "readonlyPaths": []}}
    with imitation(root, how) as pid, pytest.raises(SandboxError, match=why):
        enclose(pid, root, document, port.runtime.info)


def test_another_root_than_the_images(port: Harbour) -> None:
    root, other = port.rootfs(), port.rootfs()
    document = json.loads('{"mounts": [], "linux": {"maskedPaths": [], "readonlyPaths": []}}')
    (root / "extra").mkdir()
    with imitation(root, PIVOT) as pid, pytest.raises(SandboxError, match="is not the image's"):
        enclose(pid, other, document, port.runtime.info)
