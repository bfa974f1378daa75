"""The contract of runtimes, with those that Debian has not: a current runc, and runsc (gVisor)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.runs import Harbour, image_config
from tests.kit.runtime_contract import RuntimeContract, docked

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
    command = [str(Path(sys.prefix) / "bin/seatrial"), "doctor", "--json", "--runtime", runtime]
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stdout
    lines = {one["name"]: one for one in json.loads(done.stdout)["mechanisms"]}
    assert not [name for name, one in lines.items() if one["proven"] is False]
    assert "at most 32: ended by the kernel" in lines["cgroup limits"]["seen"]
    # runsc has no host namespace of its own for these, and another stack.
    own = {"cgroup namespace", "network fence", "time namespace"}
    assert {lines[name]["available"] for name in own} == {runtime == "runc"}
