"""The set-up scripts where nothing can be installed: they say what is missing, and why it is wanted."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kit.sources import ROOT


def packages(target: str, programs: Path) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/packages.sh`` with no program but those in ``programs`` and the system's own."""
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, ROOT / "scripts" / "packages.sh", target],
        env={"PATH": str(programs)}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in ("bash", "dirname", "head", "grep", "env", "python3"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    return tmp_path


def test_it_lists_what_is_missing_with_its_purpose_and_goes_on(programs: Path) -> None:
    result = packages("demo", programs)
    assert result.returncode == 0, result.stderr
    assert "podman           builds, pushes and pulls the images" in result.stdout
    assert "as root:  apt-get install " in result.stdout
    assert "Going on without them." in result.stdout


def test_what_is_there_is_not_listed(programs: Path) -> None:
    for name in ("podman", "skopeo"):
        (programs / name).symlink_to("/bin/true")
    result = packages("demo", programs)
    assert "podman " not in result.stdout
    assert "skopeo " not in result.stdout
    assert "busybox-static" in result.stdout


def test_a_target_that_is_none_is_refused(programs: Path) -> None:
    result = packages("everything", programs)
    assert result.returncode == 64
    assert "usage: packages.sh" in result.stderr


def test_ci_runs_each_target_that_there_is() -> None:
    targets = (ROOT / "Makefile").read_text()
    called = re.findall(
        r"^(?:begin )?(?:env ONCE=1 )?make (\w+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE
    )
    assert called == ["setup", "check", "test", "vm", "demo", "interop"]
    for name in ("setup", "check", "test", "interop", "vm", "hostile", "bench", "demo", "docs"):
        assert f"\n{name}: ##" in targets
