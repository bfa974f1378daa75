"""The services of a run: each in a container of its own that joins the network of the run.

The container of the image under test is there before them, stopped before its command: its network is what
they join, and it begins when the last of them is ready. A service has ids, mounts, processes and a control
group of its own, and as much isolation as the run.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from registry.contract.plan import Plan
from registry.contract.report import Mechanism, Outbound, Run
from sandbox.bundles.rootfs import open_rootfs
from sandbox.errors import SandboxError
from sandbox.probes.base import Ending
from sandbox.runtimes.isolation import privileged
from sandbox.runtimes.job import ServiceJob
from sandbox.runtimes.making import begin, connect, create, probes_of
from sandbox.runtimes.oci import at_least
from sandbox.runtimes.outcome import end_reason, fatal_signal, readable_log, shown_command
from sandbox.runtimes.output import LogBuffer
from sandbox.runtimes.readings import read_usage
from sandbox.runtimes.underway import ServiceAtWork, Underway
from sandbox.runtimes.watch import Over, Watched, find_ending, watch

_NOT_OF_A_SERVICE = frozenset({"egress", "bandwidth", "block io"})
"""What a run may have by request, and a service has not: it reaches nothing outside."""
_RUNC_JOINS = (1, 2, 2)
"""The first whose ``exec`` enters a network that the container has joined (opencontainers/runc#4492)."""
_LISTENING = "0A"
_LATE_SECONDS = 1.0
"""By how much the end of a service may be seen later than what came of it."""


def start_services(trial: Underway) -> None:
    """Start each when the one before it is ready. The run is made and has not begun.

    Raises:
        SandboxError: ``service-failed`` or why it could not be started, naming the service.
    """
    _require_possible(trial)
    started = time.monotonic()
    for service in trial.job.services:
        at_work = ServiceAtWork(
            service.name,
            Underway(
                trial.job.of_service(service), trial.runtime, trial.cgroups, trial.cancelled, joins=trial.pid
            ),
        )
        trial.services.append(at_work)
        at_work.waited_seconds = time.monotonic() - started
        try:
            _start(trial, at_work, service)
        except SandboxError as error:
            if error.reason == "service-failed":
                raise
            message = f"the service {service.name}: {error.message}"
            raise SandboxError(error.reason, message[:2000], retryable=error.retryable) from None
    look_at_ports(trial)
    trial.services_seconds = time.monotonic() - started


def look_after(services: Iterable[ServiceAtWork]) -> None:
    """Take in what the services write, and see that each still runs.

    Raises:
        SandboxError: ``service-failed``: one does not.
    """
    for service in services:
        if service.log is None:
            continue
        service.log.read()
        ending = find_ending(service.trial.pid)
        if service.log.full:
            raise _too_much(service, service.log)
        if ending is not None:
            raise _failed(service, "ended while it was needed", service.log, ending=ending)


def look_at_ports(trial: Underway) -> Collection[int]:
    """The ports that the run listens on now, if it has services, which are kept in mind.

    Raises:
        SandboxError: ``service-failed``: a service listens where the image is tested, and would answer in
            its place.
    """
    plan, job, own = trial.job.plan, trial.job, set[int]()
    if not trial.services:
        return own
    tested = _named(plan).union(plan.any_tcp)
    if plan.healthcheck is not None:
        # Which port it asks is not known; the image says on which it listens.
        tested |= {one.number for one in job.config.exposed_ports if one.protocol == "tcp"}
    for port, uid in _listeners(trial.services[0].trial.pid):
        if job.id_base <= uid < job.id_base + job.id_size:
            own.add(port)
        for service in trial.services:
            its = service.trial.job
            if port in tested and its.id_base <= uid < its.id_base + its.id_size:
                assert service.log is not None
                what = f"listens on port {port}, on which the image is tested, and answers in its place"
                raise _failed(service, what, service.log)
    trial.listened |= own
    return own


def require_served(trial: Underway, *, met: bool) -> None:
    """Let what was seen of the run count: the services ran to its end, and none answered in its place.

    Raises:
        SandboxError: ``service-failed``.
    """
    if not trial.services:
        return
    if not met:
        # The image may have missed a service before the kernel says that it is gone.
        _wait_for_ending(trial)
    look_after(trial.services)
    own = look_at_ports(trial)
    if met:
        _require_own_answer(trial, own)


def outbound_of(services: Iterable[ServiceAtWork]) -> tuple[Outbound, ...]:
    """What services tried to reach, each by its name, as far as it was seen."""
    return tuple(
        one.model_copy(update={"service": service.name})
        for service in services
        for one in service.trial.network.outbound() or ()
    )


def _require_possible(trial: Underway) -> None:
    info = trial.runtime.info
    if info.kernel == "own":
        raise SandboxError(
            "isolation-missing",
            f"the run spec has services, and none can join the network that {info.name} has of its own; its "
            "worker needs --runtime runc, or auto",
        )
    asks = next((one.name for one in trial.job.services if one.plan.exec), None)
    if asks is not None and info.name == "runc" and not at_least(info.version, _RUNC_JOINS):
        raise SandboxError(
            "runtime-error",
            f"the service {asks} is ready by exec, and {info} runs no command in a container that joins a "
            f"network: the worker needs runc {'.'.join(map(str, _RUNC_JOINS))} or crun, or the spec 'tcp', "
            "'http' or 'log'",
            retryable=True,
        )
    if not privileged():
        raise SandboxError(
            "isolation-missing",
            "the run spec has services, and a worker without root cannot let them join the run's network",
        )


def _start(trial: Underway, at_work: ServiceAtWork, service: ServiceJob) -> None:
    own = at_work.trial
    with open_rootfs(service.root) as rootfs:
        log = at_work.log = create(own, rootfs, None)
    trial.companions = (*trial.companions, own.pid)
    connect(own, log)
    _require_same(trial, own)
    at_work.begun = time.monotonic()
    begin(own, log)
    watched = watch(
        own.pid,
        probes_of(own),
        log=log,
        limits=service.plan.limits.model_copy(update={"wall_seconds": service.ready_seconds}),
        cancelled=trial.cancelled,
        sample=partial(_look_at_beginning, trial, at_work),
        companions=(trial.pid, *trial.companions),
    )
    _require_ready(at_work, watched, service.ready_seconds, log)
    trial.downgrades = tuple(dict.fromkeys((*trial.downgrades, *own.downgrades)))
    detail = (
        f"{service.image}, ready after {watched.seconds:.1f} s; ids, mounts, processes and limits of its "
        "own, the network of the run, nothing outside"
    )
    trial.mechanisms.append(
        Mechanism(name=f"service {service.name}"[:64], applied=True, detail=detail[:1000])
    )


def _look_at_beginning(trial: Underway, at_work: ServiceAtWork, _seconds: float) -> None:
    look_after(one for one in trial.services if one is not at_work)
    at_work.trial.end_hoarder()


def _require_same(trial: Underway, own: Underway) -> None:
    """Let a service have all the isolation that the run has so far, and its network."""
    had = {one.name for one in own.mechanisms if one.applied}
    lacking = {one.name for one in trial.mechanisms if one.applied} - had - _NOT_OF_A_SERVICE
    lacking = {name for name in lacking if not name.startswith("service ")}
    if os.readlink(f"/proc/{own.pid}/ns/net") != os.readlink(f"/proc/{trial.pid}/ns/net"):
        lacking.add("network of the run")
    if trial.job.network is not None and own.network.fence is None:
        # Nothing else keeps it from what the run may reach.
        lacking.add("network fence")
    if lacking:
        raise SandboxError(
            "isolation-missing", f"it does not have what the run has: {', '.join(sorted(lacking))}"
        )


def _require_ready(service: ServiceAtWork, watched: Watched, seconds: float, log: LogBuffer) -> None:
    if watched.over == "cancelled":
        raise SandboxError("worker-error", "the worker stopped the run", retryable=True)
    if watched.ending is not None:
        raise _failed(service, "ended before it was ready", log, ending=watched.ending)
    if watched.over == "log-full":
        raise _too_much(service, log)
    missed = next((one for one in watched.observations if not one.met), None)
    if missed is not None:
        raise _failed(
            service, f"was not ready within {seconds:g} s: {missed.seen[:300]}", log, over="timeout"
        )


def _too_much(service: ServiceAtWork, log: LogBuffer) -> SandboxError:
    return _failed(
        service, f"wrote more than {log.limit_bytes} bytes of output (log_bytes)", log, over="log-full"
    )


def _wait_for_ending(trial: Underway) -> None:
    with ExitStack() as stack:
        poll = select.poll()
        for service in trial.services:
            pidfd = os.pidfd_open(service.trial.pid)
            stack.callback(os.close, pidfd)
            poll.register(pidfd, select.POLLIN)
        poll.poll(_LATE_SECONDS * 1000)


def _require_own_answer(trial: Underway, listens: Collection[int]) -> None:
    """Let the image have answered where it is tested: it listens there when that is over or, where it has
    ended by then, was seen to."""
    plan = trial.job.plan
    own = set(listens) if find_ending(trial.pid) is None else trial.listened
    lacking = _named(plan) - own or (set() if own.intersection(plan.any_tcp) else set(plan.any_tcp))
    if lacking:
        ports = " or ".join(map(str, sorted(lacking)))
        raise SandboxError(
            "service-failed",
            f"on port {ports} the image is tested, and was not seen to listen: with services beside it "
            "nobody knows who answered",
        )


def _named(plan: Plan) -> set[int]:
    """The ports on which something is expected of the image."""
    return {*(one.port for one in plan.tcp), *(one.port for one in plan.http)}


def _listeners(pid: int) -> Iterator[tuple[int, int]]:
    """The TCP ports that are listened on in the network of the process, each with the id of who does."""
    for kind in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{kind}", encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for row in rows:
            if row[3] == _LISTENING:
                yield int(row[1].rpartition(":")[2], 16), int(row[7])


def _failed(
    service: ServiceAtWork, what: str, log: LogBuffer, *, ending: Ending | None = None, over: Over = ""
) -> SandboxError:
    """Why the run says nothing; what the service came to is kept as a run of its own, whose log not everybody
    may read."""
    log.read()
    own = service.trial
    limits = own.job.plan.limits
    usage = read_usage(own.cgroups, own.cgroup)
    text, cut = readable_log(log.data)
    name = f"service {service.name}"
    service.failed = Run(
        name=name[:64],
        command=shown_command(own.job.plan.command),
        exit_code=ending.exit_code if ending else None,
        signal=fatal_signal(ending, init=False),
        reason=end_reason(ending, over, usage=usage, disk_full=False, init=False),
        oom_killed=usage.oom_kills > 0,
        seconds=time.monotonic() - service.begun,
        cpu_seconds=usage.cpu_seconds,
        memory_peak_bytes=usage.memory_peak_bytes,
        log=text,
        log_truncated=log.full or cut,
        outbound=outbound_of([service]) or None,
        services_seconds=service.waited_seconds,
        limits=own.limits,
        pids_refused=usage.pids_refused,
        observations=(),
    )
    if ending is not None:
        memory = f", out of memory (limits.memory_bytes is {limits.memory_bytes})" if usage.oom_kills else ""
        what = f"{what}: {ending}{memory}"
    return SandboxError("service-failed", f"the {name} {what}; its log is kept as that of a run"[:2000])
