"""Which probes look at what a plan expects."""

from __future__ import annotations

from collections.abc import Mapping

from registry.contract.plan import Plan
from sandbox.probes.base import Probe
from sandbox.probes.ending import Alive, ExitCode
from sandbox.probes.healthcheck import Exec, HealthcheckProbe
from sandbox.probes.log import LogMatch
from sandbox.probes.network import Reach, http_probe, reach_loopback, tcp_probe


def make_probes(
    plan: Plan, process: Mapping[str, object], *, run_inside: Exec, reach: Reach = reach_loopback
) -> tuple[Probe, ...]:
    """One probe for each expectation. ``process`` is the run's own, as ``config.json`` has it."""
    within = plan.limits.alive_seconds
    probes: list[Probe] = []
    if plan.exit_code is not None:
        probes.append(ExitCode(plan.exit_code))
    if plan.alive or plan.exit_zero_or_alive:
        probes.append(Alive(within, zero_is_enough=plan.exit_zero_or_alive))
    if plan.healthcheck is not None:
        inside = {**process, "cwd": "/"}
        probes.append(HealthcheckProbe(plan.healthcheck, inside, plan.working_dir, run_inside))
    if plan.any_tcp:
        probes.append(tcp_probe(plan.any_tcp, reach=reach, within_seconds=within))
    probes += [LogMatch(one.match) for one in plan.log]
    probes += [http_probe(one, reach=reach, within_seconds=within) for one in plan.http]
    probes += [tcp_probe((one.port,), reach=reach, within_seconds=within) for one in plan.tcp]
    return tuple(probes)
