"""The version before this one, to run beside it.

``PREVIOUS`` is the commit of the version that people upgrade from: the last release. When a release is made,
its commit comes here. It must run with the libraries of this version's lock file.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.kit.sources import ROOT
from tests.kit.wheel import Installed, build_wheel, install

PREVIOUS = "23dd533b68a7b5fed8225171108c507575b90baf"


def install_previous(folder: Path) -> Installed:
    """Build the previous version's wheel from the history and install it under ``folder``."""
    sources = folder / "sources"
    sources.mkdir()
    archive = subprocess.run(
        ["git", "archive", "--format=tar", PREVIOUS], cwd=ROOT, capture_output=True, check=False
    )
    assert archive.returncode == 0, (
        f"the clone has no commit {PREVIOUS}, the version before this one; a shallow clone is not enough:\n"
        + archive.stderr.decode()
    )
    subprocess.run(["tar", "-x", "-C", sources], input=archive.stdout, check=True)
    return install(build_wheel(folder, sources=sources), folder / "previous", extras=["server"])
