"""The folder outside the clone in which the scripts keep what they fetched and built."""

from __future__ import annotations

import os
from pathlib import Path


def tools_folder() -> Path:
    """Where ``scripts/tools.sh`` builds programs, and others of the scripts put what goes with them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SEATRIAL_TEST_TOOLS") or cache / "seatrial/tools")
