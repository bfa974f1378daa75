"""The contract of runtimes, with those of Debian: runc, and crun, which needs its way around two versions of
control groups on a host that has both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from sandbox.runtimes.oci import SEARCH
from tests.kit.runs import Harbour
from tests.kit.runtime_contract import RuntimeContract, docked


@pytest.fixture(scope="module", params=["runc", "crun"])
def dock(request: pytest.FixtureRequest) -> Iterator[Harbour]:
    """A harbour with the runtime of the distribution, whatever stands before it on PATH."""
    if os.geteuid() != 0 or shutil.which(request.param, path=SEARCH) is None:
        pytest.skip(f"needs root and {request.param}")
    with docked(request.param, path=SEARCH) as place:
        yield place


class TestContract(RuntimeContract):
    """runc and crun."""
