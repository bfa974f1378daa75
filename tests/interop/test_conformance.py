"""The distribution-spec's own program: nothing failed, nothing skipped, and all the cases of a full run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.kit.server import ADMIN, Registry

CASES = {"1.1": 860, "dev": 986}


@pytest.mark.parametrize("version", CASES)
def test_the_official_runner(tools: Path, registry: Registry, tmp_path: Path, version: str) -> None:
    done = subprocess.run(
        [tools / "conformance"],
        env={
            "OCI_REGISTRY": registry.host,
            "OCI_TLS": "disabled",
            "OCI_REPO1": "conformance/one",
            "OCI_REPO2": "conformance/two",
            "OCI_VERSION": version,
            "OCI_USERNAME": ADMIN,
            "OCI_PASSWORD": registry.token,
            "OCI_LOG": "error",
            "OCI_RESULTS_DIR": str(tmp_path / "results"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    # It exits with 0 also when it could not start, and when it skipped: only the counts tell.
    counts = dict(re.findall(r"^ +(Pass|FAIL|Skip|Error)\.+: +(\d+)$", done.stdout, re.MULTILINE))
    failed = "\n".join(line for line in done.stdout.splitlines() if line.endswith((": FAIL", ": Skip")))
    assert counts == {"Pass": str(CASES[version]), "FAIL": "0", "Skip": "0", "Error": "0"}, (
        failed + done.stdout[-2000:] + done.stderr[-2000:]
    )
