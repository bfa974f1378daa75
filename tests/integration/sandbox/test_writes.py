"""``seatrial run --list-writes --keep-writes FILE``: what the run left in its writable layer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.images import busybox_image, write_layout

COMMAND = [sys.executable, "-c", "import sys; from registry.main import run; sys.exit(run(sys.argv[1:]))"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running with all isolation needs root")
# A cursor that moves, and bytes that are no text.
SCRIPT = (
    "echo more >> /etc/passwd; rm /bin/sh; mkdir /new; echo data > /new/file; echo x > /tmp/t;"
    " touch \"$(printf '/e\\033[2Jsc')\" \"$(printf '/\\377')\"; cat /etc/hosts > /dev/null; exit 0"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """Not tmp_path: its parents are closed to the run's users."""
    path = Path(tempfile.mkdtemp(prefix="seatrial-writes-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def _run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "run", f"oci:{place}/layout", "--state", f"{place}/state", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_listed_and_kept(place: Path) -> None:
    write_layout(place / "layout", busybox_image(["/bin/sh", "-c", SCRIPT]))
    kept = place / "writes.tar"
    done = _run(place, "--list-writes", "--keep-writes", str(kept), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    writes = json.loads(done.stdout)["writes"]
    changes = {one["path"]: one["change"] for one in writes["entries"]}
    assert changes == {
        "/bin": "changed",
        "/bin/sh": "deleted",
        "/e\x1b[2Jsc": "added",
        "/etc": "changed",
        "/etc/passwd": "changed",
        "/new": "added",
        "/new/file": "added",
        "/tmp": changes["/tmp"],
        "/tmp/t": "added",
        "/\\xff": "added",
    }
    one = next(one for one in writes["entries"] if one["path"] == "/new/file")
    assert {name: one[name] for name in ("kind", "size_bytes", "mode", "uid", "gid")} == {
        "kind": "file",
        "size_bytes": 5,
        "mode": "0644",
        "uid": 0,
        "gid": 0,
    }
    assert (writes["count"], writes["left_out"], writes["file"]) == (10, 0, str(kept))
    assert kept.stat().st_mode & 0o777 == 0o600
    with tarfile.open(kept) as tar:
        assert "bin/.wh.sh" in tar.getnames()
        member = tar.extractfile("new/file")
        assert member is not None
        assert member.read() == b"data\n"
    # For people: nothing in a name moves the cursor. What is kept is never written over.
    said = _run(place, "--list-writes").stdout
    assert "  D /bin/sh\n" in said
    assert "  A /e?[2Jsc" in said
    again = _run(place, "--keep-writes", str(kept))
    assert (again.returncode, "is there already" in again.stderr) == (64, True), again.stderr


def test_where_nothing_ran_nothing_is_kept(place: Path) -> None:
    write_layout(place / "layout", busybox_image(["/missing"]))
    kept = place / "writes.tar"
    done = _run(place, "--keep-writes", str(kept), "--json")
    assert (done.returncode, json.loads(done.stdout)["writes"]) == (2, None), done.stdout + done.stderr
    assert not kept.exists()
    done = _run(place, "--keep-writes", str(place / "absent" / "writes.tar"))
    assert (done.returncode, "cannot be made" in done.stderr) == (64, True), done.stderr


def test_a_full_disk_costs_the_file_and_not_the_verdict(place: Path) -> None:
    write_layout(
        place / "layout", busybox_image(["/bin/sh", "-c", "head -c 3000000 /dev/zero > /big; exit 0"])
    )
    small = place / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
    try:
        done = _run(place, "--keep-writes", str(small / "writes.tar"))
        assert done.returncode == 2
        assert done.stdout.startswith("pass: ")
        assert "nothing ran" not in done.stdout
        assert "was not kept: No space left on device" in done.stderr
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
