"""The contract of runtimes, with those of Debian: runc, and crun, which needs its way around two versions of
control groups on a host that has both."""

from __future__ import annotations

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
        if dock.runtime.info.name == "runc":
            done = await dock.sh("exec true", limits=limits)
            assert seen(done) == [True]
            return
        with pytest.raises(SandboxError, match=r"limits\.pids is 1, and crun itself needs more") as caught:
            await dock.sh("exec true", limits=limits)
        assert caught.value.reason == "spec-invalid"
