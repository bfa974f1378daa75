"""Each reader of packages fuzzed by coverage, for as long as ``make hostile`` says. Without that there is no
test here: what chance finds must not fail an unchanged tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.mutating import seeds

SECONDS = int(os.environ.get("SEATRIAL_TEST_FUZZ_SECONDS", "0"))

if SECONDS:

    @pytest.mark.timeout(SECONDS * 2 + 300)
    @pytest.mark.parametrize("path", sorted({seed.path for seed in seeds()}))
    def test_nothing_that_a_reader_is_handed_raises_or_hangs(path: str, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "tests.hostile.scanners.fuzz", path, str(SECONDS), str(tmp_path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-5000:]
        assert "Done " in done.stderr
