"""A worker without root: less isolation, which is named, and none without the operator's word."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandbox.runtimes.cgroups import find_cgroups
from tests.kit.images import busybox_image, write_layout
from tests.kit.plainuser import as_user, plain_user

SEATRIAL = str(Path(sys.prefix) / "bin/seatrial")
ALLOW = ("--allow-downgrade", "cgroup-limits")
LIMITS = "limits: {{memory_bytes: 134217728, pids: 32, written_bytes: 8388608, wall_seconds: {0}}}\n"


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a user")
    with plain_user() as name:
        yield name


@pytest.fixture
def folder(user: str) -> Iterator[Path]:
    """A folder of the user's that others may pass through."""
    made = Path(tempfile.mkdtemp(prefix="seatrial-rootless-"))
    made.chmod(0o711)
    shutil.chown(made, user, user)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def seatrial(user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = as_user(user, SEATRIAL, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def processes_of(user: str) -> list[str]:
    """Command lines of what runs as the user, or as one of the user's further ids."""
    own = pwd.getpwnam(user).pw_uid
    cells = next(line.split(":") for line in Path("/etc/subuid").read_text().split() if line.startswith(user))
    further = range(int(cells[1]), int(cells[1]) + int(cells[2]))
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            uid, line = entry.stat().st_uid, (entry / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if line and (uid == own or uid in further):
            found.append(line)
    return found


def run(
    user: str, folder: Path, script: str, *more: str, spec: str = "", seconds: int = 60
) -> tuple[int, dict[str, Any]]:
    """Try an image that runs the script, for so many seconds; exit code and report."""
    write_layout(folder / "image", busybox_image(["/bin/sh", "-c", script]))
    (folder / "spec.yaml").write_text(f"version: 1\n{LIMITS.format(seconds)}{spec}")
    done = seatrial(
        user, "run", f"oci:{folder}/image", "--json", "--spec", f"{folder}/spec.yaml",
        "--state", f"{folder}/state", *more,
    )  # fmt: skip
    assert done.stdout.startswith("{"), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_crun_is_passed_over_where_only_root_could_help_it(user: str) -> None:
    cgroups = find_cgroups()
    if cgroups.version == 2 or cgroups.unified is None or shutil.which("crun") is None:
        pytest.skip("needs crun, and both versions of control groups")
    report = json.loads(seatrial(user, "doctor", "--json", "--quick").stdout)
    detail = report["mechanisms"][0]["detail"]
    assert " does not work here: create: it does not know a host with both versions" in detail


def test_doctor_names_the_downgrade(user: str) -> None:
    done = seatrial(user, "doctor", "--json")
    report = json.loads(done.stdout)
    missing = [
        one["downgrade"] for one in report["mechanisms"] if not one["available"] and one["need"] != "stated"
    ]
    assert (done.returncode, missing) == (1, ["cgroup-limits"]), done.stdout
    assert report["mechanisms"][-1]["name"] == "self-test"


@pytest.fixture
def closed_groups() -> Iterator[None]:
    """A worker of root's, strict about what others see, has runs of its own."""
    folder = next(iter(find_cgroups().by_controller.values()), find_cgroups().unified) / "seatrial"
    folder.mkdir(exist_ok=True)
    mode = folder.stat().st_mode
    folder.chmod(0o700)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            folder.chmod(mode)


@pytest.mark.usefixtures("closed_groups")
def test_groups_of_a_worker_of_root_are_no_obstacle(user: str, folder: Path) -> None:
    code, report = run(user, folder, "exit 0", *ALLOW)
    assert (code, report["verdict"]) == (0, "warn"), report


def test_refused_unless_it_is_allowed(user: str, folder: Path) -> None:
    code, report = run(user, folder, "exit 0")
    assert (code, report["verdict"], report["error"]["reason"]) == (2, "error", "isolation-missing")
    assert "--allow-downgrade cgroup-limits" in report["error"]["message"]
    assert report["runs"] == []


def test_a_run_says_what_it_went_without(user: str, folder: Path) -> None:
    code, report = run(user, folder, "cat /proc/self/uid_map; id -u; exit 0", *ALLOW)
    assert (code, report["verdict"], report["downgrades"]) == (0, "warn", ["cgroup-limits"]), report
    assert report["runs"][0]["log"].split() == ["0", "1", "65536", "0"]
    applied = {one["name"]: one["applied"] for one in report["mechanisms"]}
    assert applied["cgroup limits"] is False
    assert applied["seccomp"] is applied["user namespace"] is applied["network namespace"] is True
    # What it left in the cache belongs to further ids of the user's, who can remove it all the same.
    done = seatrial(user, "worker", "cache", "prune", f"{folder}/state/cache", "--json")
    assert done.returncode == 0, done.stderr
    assert {one["kind"] for one in json.loads(done.stdout)["removed"]} == {"blob", "snapshot"}
    assert list((folder / "state/cache/snapshots").iterdir()) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("b() { b | b & b; }; b", None),
        ("exec tail /dev/zero", None),
        ("dd if=/dev/zero of=/fill bs=1M count=100", None),
        ("trap '' TERM; while :; do sleep 1; done", "timeout"),
    ],
)
def test_bombs_end_and_leave_nothing(user: str, folder: Path, script: str, reason: str | None) -> None:
    started = time.monotonic()
    code, report = run(user, folder, script, *ALLOW, spec="expect: {exit: 0}\n", seconds=4)
    assert (code, report["verdict"]) == (1, "fail"), report
    assert reason in (None, report["runs"][0]["reason"])
    assert time.monotonic() - started < 120
    assert not list((folder / "state").glob("run*/*"))
    # What it was started from ends by itself, a moment after it.
    deadline = time.monotonic() + 30
    while (left := processes_of(user)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_http_is_probed(user: str, folder: Path) -> None:
    script = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    spec = "expect: {http: [{port: 80, body: hello, within_seconds: 50}]}\n"
    code, report = run(user, folder, script, *ALLOW, spec=spec)
    assert (code, report["verdict"]) == (0, "warn"), report


def test_a_user_without_ids_cannot_run(folder: Path) -> None:
    with plain_user(ids=False) as name:
        done = seatrial(name, "doctor", "--json")
        assert done.returncode == 2
        missing = [one for one in json.loads(done.stdout)["mechanisms"] if one["name"] == "user namespace"]
        assert "/etc/subuid" in missing[0]["detail"]
        assert "usermod --add-subuids" in missing[0]["fix"]
        done = seatrial(name, "run", f"oci:{folder}/image")
        assert (done.returncode, "/etc/subuid" in done.stderr) == (2, True)
