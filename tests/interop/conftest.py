"""The tools that ``make interop`` builds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.server import Registry, RegistryProcess
from tests.kit.toolfolder import tools_folder

collect_ignore = [] if os.environ.get("SEATRIAL_TEST_KYVERNO") else ["test_kyverno.py"]


@pytest.fixture(scope="session")
def tools() -> Path:
    """Folder with the clients and a current runc; see ``scripts/tools.sh``."""
    folder = tools_folder()
    if not (folder / "crane").exists():
        pytest.skip("the tools are not built: make interop")
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """The real ``seatrial serve``, without trials."""
    process = RegistryProcess(tmp_path / "registry")
    yield process.start()
    process.stop()
