"""The contract of runtimes, with those that Debian has not: a current runc, and runsc (gVisor)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.images import busybox_image, write_layout
from tests.kit.plainuser import as_user, plain_user
from tests.kit.runs import Harbour, image_config
from tests.kit.runtime_contract import RuntimeContract, docked

SEATRIAL = str(Path(sys.prefix) / "bin/seatrial")
THREADS = b"""
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
static void *nothing(void *x) { return x; }
int main(void) {
    pthread_t thread;
    pid_t pid;
    int status;
    char *command[] = {"true", 0}, *none[] = {0};
    if (pthread_create(&thread, 0, nothing, 0) || pthread_join(thread, 0)) return 1;
    if (posix_spawn(&pid, "/bin/true", 0, 0, command, none) || waitpid(pid, &status, 0) != pid) return 2;
    return status;
}
"""


@pytest.fixture(scope="module", params=["runc", "runsc"])
def dock(request: pytest.FixtureRequest, tools: Path) -> Iterator[Harbour]:
    """A harbour with one that ``scripts/tools.sh`` built."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with docked(request.param, path=f"{tools}:{os.environ['PATH']}") as place:
        yield place


class TestContract(RuntimeContract):
    """runc 1.5.2 and runsc."""

    async def test_threads_start_and_programs_too(self, dock: Harbour) -> None:
        """A C library tries a newer call for both, and an older one where the answer is ENOSYS alone."""
        root = dock.rootfs()
        subprocess.run(
            ["gcc", "-static", "-pthread", "-x", "c", "-", "-o", root / "bin/threads"],
            input=THREADS,
            check=True,
        )
        dock.own(root)
        done = await dock.run(image_config("/bin/threads"), root=root)
        assert (done.run.log, done.run.exit_code) == ("", 0)


@pytest.mark.parametrize("runtime", ["runc", "runsc"])
def test_doctor_proves_what_each_holds(tools: Path, runtime: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    command = [SEATRIAL, "doctor", "--json", "--runtime", runtime]
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert done.returncode == 0, done.stdout
    lines = {one["name"]: one for one in json.loads(done.stdout)["mechanisms"]}
    assert not [name for name, one in lines.items() if one["proven"] is False]
    assert "at most 32: ended by the kernel" in lines["cgroup limits"]["seen"]
    # runsc has no host namespace of its own for these, and another stack.
    own = {"cgroup namespace", "network fence", "time namespace"}
    assert {lines[name]["available"] for name in own} == {runtime == "runc"}


def test_runsc_is_refused_to_a_plain_user_and_passed_over(tools: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a user")
    with plain_user() as name, tempfile.TemporaryDirectory(prefix="seatrial-plain-") as made:
        folder = Path(made)
        shutil.copy(tools / "runsc", folder)
        write_layout(folder / "image", busybox_image(["true"]))
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, name, name)
        folder.chmod(0o711)

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            there = f"PATH={folder}:/usr/sbin:/usr/bin:/sbin:/bin"
            command = as_user(name, "/usr/bin/env", there, SEATRIAL, *arguments)
            return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

        why = "runsc needs a worker with root: without, it makes control groups where it may not"
        refused = run("run", f"oci:{folder}/image", "--runtime", "runsc", "--state", f"{folder}/state")
        assert (refused.returncode, why in refused.stderr, refused.stdout) == (2, True, "")
        said = run("doctor", "--json", "--quick", "--runtime", "runsc")
        line = json.loads(said.stdout)["mechanisms"][0]
        assert (said.returncode, line["available"], why in line["detail"]) == (2, False, True)
        assert line["fix"].startswith("run the worker as root")
        # Left to itself it takes another one, and says why.
        said = run("doctor", "--json", "--quick")
        line = json.loads(said.stdout)["mechanisms"][0]
        assert (said.returncode, line["available"]) == (1, True)
        assert f"passed over: {why}" in line["detail"]
