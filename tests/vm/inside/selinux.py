"""SELinux enforces the domain of runs: a run sees it, and the kernel logs what it refuses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.hosts import ask_doctor
from tests.kit.images import busybox_image, write_layout
from tests.kit.runs import Harbour
from tests.vm.inside.kernel import new_lines
from tests.vm.inside.tell import Record, keep

DOMAIN = "system_u:system_r:seatrial_run_t:s0"
SERVICE = ("runcon", "system_u:system_r:initrc_t:s0", "setpriv", "--no-new-privs")
"""As the worker's unit starts it."""
READ = (
    "cat /proc/net/dev /proc/meminfo /proc/sys/kernel/osrelease > /dev/null; head -c 1 /dev/urandom > /tmp/a"
)


async def test_a_run_is_in_the_domain(port: Harbour, record_property: Record) -> None:
    assert Path("/sys/fs/selinux/enforce").read_text() == "1"
    with new_lines() as log:
        done = await port.sh(
            f"{READ}; cat /proc/self/attr/current; echo; echo x > /proc/self/attr/exec; exit 0"
        )
    record_property("inside", done.run.log)
    seen, refused = done.run.log.splitlines()
    # The kernel ends it with a zero, of which the log shows only that it is no text.
    assert seen.rstrip("\ufffd") == DOMAIN
    assert refused.endswith("write error: Permission denied")
    assert {one.name: one.applied for one in done.mechanisms}["SELinux"] is True
    denied = next(line for line in log if "avc:  denied  { setexec }" in line and ":seatrial_run_t:" in line)
    record_property("log", denied)
    assert "permissive=0" in denied


def test_a_service_in_its_own_folder(record_property: Record) -> None:
    """In one that was given the label: the kernel asks for that of a file below an overlay, too."""
    with TemporaryDirectory(dir="/var/lib", prefix="seatrial-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        subprocess.run(["chcon", "-t", "seatrial_run_file_t", folder], check=True)
        write_layout(folder / "image", busybox_image(["/bin/sh", "-c", "cat /proc/self/attr/current"]))
        command = [*SERVICE, "seatrial", "run", "--json", f"oci:{folder}/image", "--state", f"{folder}/state"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("{"), done.stderr
        report = json.loads(done.stdout)
    assert report["error"] is None, report["error"]
    record_property("inside", report["runs"][0]["log"])
    assert report["runs"][0]["log"].startswith(DOMAIN)
    assert {one["name"]: one["applied"] for one in report["mechanisms"]}["SELinux"] is True


def test_doctor(record_property: Record) -> None:
    said = ask_doctor(SERVICE)
    keep("selinux", said)
    line = next(one for one in said["mechanisms"] if one["name"] == "SELinux")
    record_property("SELinux", f"{line['detail']} {line['seen']}")
    assert line["proven"] is True, line
