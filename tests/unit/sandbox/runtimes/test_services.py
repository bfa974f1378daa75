"""Runtimes under which no service can be had, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from registry.contract.expectations import ExecExpectation
from registry.contract.limits import Limits
from registry.contract.plan import make_plan
from sandbox.errors import SandboxError
from sandbox.runtimes.base import RuntimeInfo
from sandbox.runtimes.cgroups import find_cgroups
from sandbox.runtimes.choose import open_runtime
from sandbox.runtimes.job import RunJob, ServiceJob
from sandbox.runtimes.services import start_services
from sandbox.runtimes.underway import Underway
from tests.kit.runs import image_config


@pytest.mark.parametrize(
    ("name", "version", "kernel", "reason", "said"),
    [
        (
            "runsc",
            "release-20260905.0",
            "own",
            "isolation-missing",
            "none can join the network that runsc has",
        ),
        ("runc", "1.1.5", "host", "runtime-error", "the service db is ready by exec, and runc 1.1.5 runs no"),
        ("runc", "1.2.1", "host", "runtime-error", "the worker needs runc 1.2.2 or crun"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_reason(
    tmp_path: Path, *, name: str, version: str, kernel: Literal["own", "host"], reason: str, said: str
) -> None:
    info = RuntimeInfo(name, version, Path("/bin/false"), kernel, True, True, ())
    config = image_config("/bin/true")
    plan = make_plan(config, None, limits=Limits(), ceiling=Limits(), image_spec_allowed=False)
    asking = replace(plan, exec=(ExecExpectation(command=("/up",)),))
    service = ServiceJob("db", "a@b", asking, 1.0, config, tmp_path, tmp_path, "run-1", 100000, 65536)
    job = RunJob(
        plan, config, tmp_path, tmp_path, "run", 100000, 65536, info, tmp_path, (), services=(service,)
    )
    trial = Underway(job, open_runtime(info, tmp_path), find_cgroups(), lambda: False)
    with pytest.raises(SandboxError) as raised:
        start_services(trial)
    assert raised.value.reason == reason
    assert said in raised.value.message
    assert trial.services == []
