"""Each reader of what strangers have written fuzzed by coverage, for as long as ``make hostile`` says.
Without that there is no test here: what chance finds must not fail an unchanged tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.fuzztargets import targets
from tests.kit.mutating import seeds

SECONDS = int(os.environ.get("SEATRIAL_TEST_FUZZ_SECONDS", "0"))

if SECONDS:

    @pytest.mark.timeout(SECONDS * 2 + 300)
    @pytest.mark.parametrize(
        "name", sorted({seed.path for seed in seeds()} | {one.name for one in targets()})
    )
    def test_nothing_that_a_reader_is_handed_raises_or_hangs(name: str, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "tests.hostile.scanners.fuzz", name, str(SECONDS), str(tmp_path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-5000:]
        assert "Done " in done.stderr
