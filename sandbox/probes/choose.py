"""Which probes look at what a plan expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from registry.contract.plan import Plan
from sandbox.probes.base import Probe
from sandbox.probes.ending import Alive, ExitCode
from sandbox.probes.exec import exec_probe
from sandbox.probes.file import FileProbe
from sandbox.probes.healthcheck import HealthcheckProbe, NoHealthcheck
from sandbox.probes.inside import Exec
from sandbox.probes.log import LogMatch
from sandbox.probes.network import Reach, http_probe, reach_loopback, tcp_probe
from sandbox.probes.stub import StubAsked, Told


def make_probes(
    plan: Plan,
    document: Mapping[str, Any],
    *,
    root: Path,
    run_inside: Exec,
    excuse: Callable[[], str | None],
    stubs: Told,
    reach: Reach = reach_loopback,
) -> tuple[Probe, ...]:
    """One probe for each expectation, save those that are looked at when the run is over.

    ``document`` is the run's ``config.json``, ``root`` its root file system as the worker sees it, ``excuse``
    why nothing could be run inside, if so, ``stubs`` what its stubs were asked."""
    within = plan.limits.alive_seconds
    inside = {**document["process"], "cwd": "/"}
    mounted = [mount["destination"] for mount in document["mounts"]]
    probes: list[Probe] = []
    if plan.exit_code is not None:
        probes.append(ExitCode(plan.exit_code))
    if plan.exit_zero_or_alive:
        probes.append(Alive(within, zero_is_enough=True))
    if plan.alive_seconds is not None:
        probes.append(Alive(plan.alive_seconds, zero_is_enough=False))
    if plan.healthcheck_missing:
        probes.append(NoHealthcheck())
    if plan.healthcheck is not None:
        probes.append(HealthcheckProbe(plan.healthcheck, inside, plan.working_dir, run_inside, excuse=excuse))
    if plan.any_tcp:
        probes.append(tcp_probe(plan.any_tcp, reach=reach, within_seconds=within))
    probes += [LogMatch(one) for one in plan.log if not one.absent]
    probes += [http_probe(one, reach=reach, within_seconds=one.within_seconds or within) for one in plan.http]
    probes += [
        tcp_probe((one.port,), reach=reach, within_seconds=one.within_seconds or within) for one in plan.tcp
    ]
    probes += [
        exec_probe(
            one, inside, execute=run_inside, excuse=excuse, within_seconds=one.within_seconds or within
        )
        for one in plan.exec
    ]
    probes += [FileProbe(one, root, mounted, one.within_seconds or within) for one in plan.file]
    probes += [
        StubAsked(one, number, stubs, one.within_seconds or within) for number, one in enumerate(plan.stub)
    ]
    return tuple(probes)
