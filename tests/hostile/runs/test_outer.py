"""What stands around a run whatever its runtime and its bundle do: the outer list, the Landlock domain."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from registry.oci.imageconfig import Healthcheck
from sandbox import landlock
from sandbox.errors import SandboxError
from sandbox.runtimes.execute import Execution
from sandbox.runtimes.oci import OciRuntime
from sandbox.runtimes.outer import verify_domain
from sandbox.runtimes.verify import verify_privileges
from tests.kit.runs import Harbour, image_config, seen

ROOT = Path(__file__).resolve().parents[3]


def applied(execution: Execution) -> dict[str, bool]:
    return {one.name: one.applied for one in execution.mechanisms}


async def test_a_run_has_both_lists(port: Harbour) -> None:
    done = await port.sh("grep Seccomp_filters /proc/self/status")
    assert done.run.log.split() == ["Seccomp_filters:", "2"]
    assert applied(done)["outer seccomp"] is applied(done)["seccomp"] is True


async def test_the_outer_list_stays_where_the_runtime_applies_none(port: Harbour) -> None:
    runtime = port.runtime
    assert isinstance(runtime, OciRuntime)
    port.runtime = dataclasses.replace(runtime, info=dataclasses.replace(runtime.info, seccomp=False))
    port.allowed = frozenset({"seccomp"})
    done = await port.sh("grep Seccomp_filters /proc/self/status; dmesg -c")
    assert done.run.log.splitlines() == [
        "Seccomp_filters:\t1",
        "dmesg: klogctl: Function not implemented",
    ]
    assert applied(done)["outer seccomp"] is True
    assert applied(done)["seccomp"] is False


async def test_a_probe_inside_has_them_too_and_may_signal_the_command(port: Harbour) -> None:
    check = Healthcheck(("grep -q 'Seccomp_filters:.*2' /proc/self/status && kill -0 1",), shell=True)
    assert seen(await port.run(image_config("/bin/sleep", "60", healthcheck=check))) == [True]


def test_a_process_without_them_is_not_taken_for_a_run() -> None:
    rights = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--reuid=1"]
    command = [*rights, "--clear-groups", "sh", "-c", "echo; exec sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            with pytest.raises(SandboxError, match="not filtered"):
                verify_privileges(process.pid, (), seccomp=False, inherited=1)
            if landlock.version() >= landlock.SCOPES_ABI:
                with pytest.raises(SandboxError, match="Landlock"):
                    verify_domain(process.pid)
        finally:
            process.kill()


DOMAIN = """
import json, os, socket, subprocess, sys
sys.path.insert(0, sys.argv[1])
from sandbox.runtimes.outer import enter_domain, verify_domain
child = subprocess.Popen(["sleep", "100"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
enter_domain()

def said(attempt):
    try:
        attempt()
    except OSError as error:
        return error.strerror
    return "OK"

def reach(name):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)

own = socket.socket(socket.AF_UNIX)
own.bind("\\0seatrial-own-" + sys.argv[2])
own.listen()
inside = subprocess.Popen(["sleep", "100"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(json.dumps({
    "signal": said(lambda: os.kill(os.getppid(), 0)),
    "signal a child from before": said(lambda: os.kill(child.pid, 0)),
    "signal a child": said(lambda: os.kill(inside.pid, 0)),
    "socket": said(lambda: reach("\\0seatrial-" + sys.argv[2])),
    "own socket": said(lambda: reach("\\0seatrial-own-" + sys.argv[2])),
    "memory": said(lambda: open(f"/proc/{os.getppid()}/mem")),
    "root": said(lambda: os.stat(f"/proc/{os.getppid()}/root")),
    "before": child.pid,
    "files": said(lambda: open("/etc/passwd")),
    "mechanism": verify_domain(inside.pid).applied,
}))
inside.kill()
"""


def test_nothing_outside_the_domain_can_be_reached() -> None:
    """As root, in no namespace of its own: the domain alone stands against it."""
    name = f"test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0seatrial-{name}")
        listening.listen()
        command = [sys.executable, "-I", "-c", DOMAIN, str(ROOT), name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    os.kill(told.pop("before"), signal.SIGKILL)
    held = landlock.version() >= landlock.SCOPES_ABI
    assert told.pop("mechanism") is held
    for allowed in ("signal a child", "own socket", "files"):
        assert told.pop(allowed) == "OK"
    if held:
        assert set(told.values()) == {"Operation not permitted", "Permission denied"}
