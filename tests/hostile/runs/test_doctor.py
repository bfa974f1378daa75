"""``seatrial doctor`` on this host, and on one that cannot make user namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.runtimes.base import DOWNGRADES

SEATRIAL = str(Path(sys.prefix) / "bin/seatrial")


def doctor(*prefix: str) -> tuple[int, dict[str, Any]]:
    command = [*prefix, SEATRIAL, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("{"), done.stderr
    report = json.loads(done.stdout)
    assert report["exit_code"] == done.returncode
    return done.returncode, {one["name"]: one for one in report["mechanisms"]}


def test_as_root_everything_is_there() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    code, mechanisms = doctor()
    assert code == 0, mechanisms
    assert mechanisms["self-test"]["available"] is True
    assert {"network fence", "egress, bandwidth", "cpu set", "block io"} <= set(mechanisms)
    assert set(DOWNGRADES) <= set(mechanisms)
    for one in mechanisms.values():
        assert one["need"] in ("required", "downgrade", "stated")
        assert one["detail"]


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


def test_in_words() -> None:
    done = subprocess.run([SEATRIAL, "doctor"], capture_output=True, text=True, timeout=60, check=False)
    assert "runtime: runc" in done.stdout
    assert done.stderr == ""


def test_a_runtime_without_a_driver() -> None:
    command = [SEATRIAL, "doctor", "--json", "--runtime", "runsc"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no driver" in done.stdout
