"""A worker of a plain user's, in a control group that was handed to that user: limits hold for whole runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.hosts import ask_doctor
from tests.kit.images import busybox_image, write_layout
from tests.kit.plainuser import plain_user
from tests.vm.inside.tell import Record, keep

SEATRIAL = str(Path(sys.prefix) / "bin/seatrial")
LIMITS = "limits: {memory_bytes: 67108864, pids: 32, cpus: 0.5, written_bytes: 8388608, wall_seconds: 30}\n"
GROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = "+cpu +cpuset +io +memory +pids"


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    with plain_user() as name:
        yield name


@pytest.fixture
def handed(user: str) -> Iterator[Path]:
    """A group as systemd hands it out: the folder and the files that divide it are the user's."""
    above = GROUPS / "user.slice"
    above.mkdir(exist_ok=True)
    for folder in (GROUPS, above):
        (folder / "cgroup.subtree_control").write_text(CONTROLLERS)
    group = Path(tempfile.mkdtemp(prefix="worker-", dir=above))
    for path in (group, *(group / f"cgroup.{name}" for name in ("procs", "subtree_control", "threads"))):
        shutil.chown(path, user, user)
    yield group
    for below in [path for path in group.rglob("*") if path.is_dir()][::-1]:
        assert below.name in ("seatrial-worker", "seatrial") or below.parent.name == "seatrial", below
        below.rmdir()
    group.rmdir()


@pytest.fixture
def folder(user: str) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="seatrial-rootless-"))
    made.chmod(0o711)
    shutil.chown(made, user, user)
    yield made
    shutil.rmtree(made)


def within(user: str, group: Path, *command: str) -> list[str]:
    """The command line that runs ``command`` as the user, in the group."""
    environment = ["PATH=/usr/bin:/bin", "HOME=/nonexistent", f"USER={user}"]
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "-i", *environment]
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *become, *command]


def run(user: str, group: Path, folder: Path, script: str) -> dict[str, Any]:
    write_layout(folder / "image", busybox_image(["/bin/sh", "-c", script]))
    (folder / "spec.yaml").write_text(f"version: 1\n{LIMITS}expect: {{exit: 0}}\n")
    files = [f"oci:{folder}/image", "--spec", f"{folder}/spec.yaml", "--state", f"{folder}/state"]
    command = within(user, group, SEATRIAL, "run", "--json", *files)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.startswith("{"), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_doctor(user: str, handed: Path) -> None:
    said = ask_doctor(within(user, handed), name=user)
    keep("cgroup-v2-plain-user", said)
    limits = next(one for one in said["mechanisms"] if one["name"] == "cgroup limits")
    assert limits["proven"] is True, json.dumps(said)
    assert said["exit_code"] == 0


def test_limits_hold(user: str, handed: Path, folder: Path, record_property: Record) -> None:
    report = run(user, handed, folder, "b() { b | b & b; }; b & sleep 1; exec tail /dev/zero")
    assert report["downgrades"] == [], json.dumps(report)
    limits = next(one for one in report["mechanisms"] if one["name"] == "cgroup limits")
    record_property("limits", limits["detail"])
    assert limits["applied"] is True
    assert report["runs"][0]["reason"] == "oom"
    assert report["runs"][0]["pids_peak"] <= 32
