"""A current runc, found before Debian's older one: it has all eight namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.images import busybox_image, write_layout


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not tmp_path: its parents are closed to the run's users, and pytest closes them again."""
    path = Path(tempfile.mkdtemp(prefix="seatrial-runc-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def test_it_is_chosen_and_gives_a_time_namespace(tools: Path, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("running images with all isolation needs root")
    image = busybox_image(["/bin/sh", "-c", "readlink /proc/self/ns/time; cat /proc/uptime; exit 0"])
    layout = write_layout(folder / "layout", image)
    done = subprocess.run(
        [sys.executable, "-m", "registry.main", "run", f"oci:{layout}", "--json", "--runtime", "runc",
         "--state", folder / "state"],
        env={"PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    version = subprocess.run([tools / "runc", "--version"], capture_output=True, text=True, check=True).stdout
    assert report["runtime"] == version.splitlines()[0].replace("version ", "")
    own = os.readlink("/proc/self/ns/time")
    namespace, uptime = report["runs"][0]["log"].splitlines()
    assert namespace not in ("", own)
    # Its clocks begin when it does, not with the host.
    assert float(uptime.split()[0]) < time.clock_gettime(time.CLOCK_BOOTTIME) / 2
