"""The contract of runtimes, with those of Debian: runc, and crun, which needs its way around two versions of
control groups on a host that has both."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator

import pytest

from sandbox.errors import SandboxError
from sandbox.runtimes.oci import SEARCH
from tests.kit.runs import QUICK, Harbour, seen
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

    async def test_one_process_is_enough_or_too_few_for_the_runtime(self, dock: Harbour) -> None:
        limits = QUICK.model_copy(update={"pids": 1})
        (outcome,) = await asyncio.gather(dock.sh("exec true", limits=limits), return_exceptions=True)
        name = dock.runtime.info.name
        # runc, in Go, makes a thread more or not, as it comes; crun makes none.
        if name == "crun" or (name == "runc" and not isinstance(outcome, BaseException)):
            assert seen(outcome) == [True]
            return
        assert isinstance(outcome, SandboxError), outcome
        assert outcome.reason == "spec-invalid"
        assert f"limits.pids is 1, and {name} itself needs more" in outcome.message
