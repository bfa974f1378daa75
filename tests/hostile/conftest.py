"""Runs in the real runtime. Every test here also shows that the host is as it was before."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.spawn import Supervisors, opened_supervisors
from sandbox.runtimes.sweep import sweep
from tests.kit.runs import Harbour, harbour, runtime_name
from tests.kit.runtime_contract import as_before


@pytest.fixture(scope="session")
def supervisors() -> Iterator[Supervisors]:
    """Those of this test process, as a worker has them: what they are forked from is started once."""
    with opened_supervisors() as made:
        yield made


@pytest.fixture
def port(supervisors: Supervisors) -> Iterator[Harbour]:
    """A harbour of this test alone; afterwards nothing of its runs may be left."""
    if os.geteuid() != 0 or shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/bin") is None:
        pytest.skip("needs root and runc")
    # Not tmp_path: its parents are closed to the mapped users.
    folder = Path(tempfile.mkdtemp(prefix="seatrial-runs-"))
    try:
        runtime = find_runtime(folder / "state", name=runtime_name())
        with harbour(folder, runtime, supervisors) as place:
            before = place.host()
            assert before.groups == before.states == before.processes == ()
            try:
                yield place
                as_before(place, before)
            finally:
                sweep(place.runtime)
    finally:
        shutil.rmtree(folder)
