"""``seatrial doctor`` on this host, as root, as a plain user, and where there are no user namespaces."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.mend import carry_out, find_fixes, find_user
from sandbox.runtimes.base import DOWNGRADES
from tests.kit.plainuser import as_user, plain_user

SEATRIAL = str(Path(sys.prefix) / "bin/seatrial")


# By what a run of the self-test shows where it is root's.
PROVEN = {
    *(f"{kind} namespace" for kind in ("mount", "pid", "network", "ipc", "uts", "user", "cgroup")),
    *(
        "own ids",
        "openat2",
        "no_new_privs",
        "capabilities",
        "pivot_root",
        "cgroup limits",
        "seccomp",
        "self-test",
    ),
}


def doctor(*prefix: str) -> tuple[int, dict[str, Any]]:
    command = [*prefix, SEATRIAL, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.startswith("{"), done.stderr
    report = json.loads(done.stdout)
    assert report["exit_code"] == done.returncode
    assert report["host"]["kernel"] == os.uname().release
    return done.returncode, {one["name"]: one for one in report["mechanisms"]}


def test_as_root_everything_is_there_and_proven() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    code, mechanisms = doctor()
    assert code == 0, mechanisms
    assert {"network fence", "egress", "bandwidth", "cpu set", "block io"} <= set(mechanisms)
    assert set(DOWNGRADES) == {one["downgrade"] for one in mechanisms.values()} - {""}
    for one in mechanisms.values():
        assert one["need"] in ("required", "downgrade", "stated")
        assert one["detail"]
        assert one["available"] or one["without"]
        assert one["proven"] is not False, one
    proven = {name for name, one in mechanisms.items() if one["proven"]}
    assert proven >= PROVEN, PROVEN - proven
    limits = mechanisms["cgroup limits"]["seen"]
    assert "64 MiB of memory asked for, at most 32: ended by the kernel" in limits
    assert "63 started" in limits
    assert "unshare ENOSYS" in mechanisms["seccomp"]["seen"]
    assert "by its path: ENOENT" in mechanisms["pivot_root"]["seen"]
    if mechanisms["network fence"]["available"]:
        assert "counted: 1" in mechanisms["network fence"]["seen"]


def test_registry_only_where_no_user_namespace_can_be_made() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    # The limit is of the namespace in which it is set.
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    code, mechanisms = doctor("unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh")
    assert code == 2
    assert mechanisms["user namespace"]["available"] is False
    assert "max_user_namespaces" in mechanisms["user namespace"]["fix"]
    assert "self-test" not in mechanisms


def test_a_plain_user_goes_without_what_is_named() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a user")
    with plain_user() as name:
        code, mechanisms = doctor(*as_user(name))
    assert code == 1
    assert not mechanisms["cgroup limits"]["available"]
    assert {one for one in mechanisms if mechanisms[one]["proven"]} >= PROVEN - {"cgroup limits"}


def test_ids_are_given_to_a_plain_user_who_can_then_run_images() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a user")
    with plain_user(ids=False) as name:
        code, mechanisms = doctor(*as_user(name))
        assert code == 2
        assert "usermod --add-subuids" in mechanisms["user namespace"]["fix"]
        told = fix("--for", name, "--dry-run")
        assert [one["name"] for one in told["fixes"] if one["state"] == "planned"] == ["subordinate-ids"]
        (found,) = find_fixes(find_user(name))
        assert carry_out(found) is None
        assert fix("--for", name, "--dry-run")["fixes"] == []
        code, mechanisms = doctor(*as_user(name))
        assert (code, mechanisms["self-test"]["proven"]) == (1, True)
        # As it says.
        subprocess.run(found.undo, shell=True, check=True)
        (again,) = fix("--for", name, "--dry-run")["fixes"]
        assert (again["name"], again["state"]) == ("subordinate-ids", "planned")


def test_a_setting_is_mended_where_user_namespaces_are_forbidden() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    # In a namespace of its own, where the setting is too; the file of it is written to memory.
    forbid = (
        "mount -t tmpfs none /etc/sysctl.d; echo 0 > /proc/sys/user/max_user_namespaces;"
        ' "$@" >&2 < /dev/null; cat /etc/sysctl.d/*; exec "$@" --yes --json --quick'
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", forbid, "sh"]
    done = subprocess.run(
        [*command, SEATRIAL, "doctor", "--fix"], capture_output=True, text=True, timeout=200, check=False
    )
    # Without a terminal it asks nobody and does nothing.
    assert "say --yes" in done.stderr
    assert "undo  rm /etc/sysctl.d/60-seatrial-max-user-namespaces.conf" in done.stderr
    document = json.loads(done.stdout)
    states = {one["name"]: one["state"] for one in document["fixes"]}
    assert states["user.max_user_namespaces"] == "done"
    lines = {one["name"]: one for one in document["mechanisms"]}
    assert lines["user namespace"]["available"] is True


def test_only_root_mends() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a user")
    with plain_user(ids=False) as name:
        command = as_user(name, SEATRIAL, "doctor", "--fix", "--for", name, "--yes")
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, "needs root" in done.stderr) == (64, True)


def test_root_as_in_an_ordinary_container_can_run_nothing_and_is_told_why() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    code, mechanisms = doctor("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    assert code == 2
    assert [
        one["detail"] for one in mechanisms.values() if one["need"] == "required" and not one["available"]
    ]


def fix(*options: str) -> dict[str, Any]:
    command = [SEATRIAL, "doctor", "--fix", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_in_words_and_quick() -> None:
    command = [SEATRIAL, "doctor", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert re.search(r"^ +ok  runtime +(crun|runc|runsc) [0-9]", done.stdout, re.MULTILINE)
    assert "self-test" not in done.stdout
    assert done.stderr == ""


def test_a_runtime_without_a_driver() -> None:
    command = [SEATRIAL, "doctor", "--json", "--runtime", "kata"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert "no driver" in done.stdout
