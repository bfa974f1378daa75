"""The end of a run: it is stopped, and what was seen of it becomes a report."""

from __future__ import annotations

import signal
from dataclasses import replace
from functools import partial

from registry.contract.report import OUTBOUND_MAX, Mechanism, Observation, Outbound, ReportError, Run
from sandbox.bundles.rootfs import Rootfs
from sandbox.probes.afterwards import Afterwards, look_back
from sandbox.probes.ending import stop_observation
from sandbox.runtimes.cgroups import kill_group
from sandbox.runtimes.outcome import (
    end_reason,
    fatal_signal,
    how_to_have,
    needs_writable_root,
    not_executable,
    oom_of_others,
    peak,
    readable_log,
    shown_command,
    withheld_capability,
)
from sandbox.runtimes.output import LogBuffer
from sandbox.runtimes.readings import Usage, read_usage
from sandbox.runtimes.services import outbound_of
from sandbox.runtimes.underway import Underway
from sandbox.runtimes.watch import Stopped, Watched, in_words, stop

RUN_NAME = "smoke"
"""Of a run that is of no case."""
_GRACE_SECONDS = 3.0


def conclude(
    trial: Underway, watched: Watched, log: LogBuffer, rootfs: Rootfs
) -> tuple[Run, ReportError | None]:
    """Stop what still runs, and say what was seen; where the end says nothing about the image, why."""
    samples = trial.samples.last(watched.seconds)
    if trial.job.plan.random_user:
        who = trial.document["process"]["user"]
        drawn = f"uid {who['uid']}, gid {who['gid']}"
        trial.mechanisms.append(Mechanism(name="random user", applied=True, detail=drawn))
    trial.stubs.read()
    with trial.step("stop"):
        observations = _stop(trial, watched, log)
        log.read()
        trial.stubs.read(ending=True)
    usage = read_usage(trial.cgroups, trial.cgroup)
    received, sent = trial.network.traffic() or (None, None)
    ending = watched.ending
    seen = replace(watched, observations=observations)
    error = _why_unknown(trial, seen, log, usage)
    text, cut = readable_log(log.data)
    memory_peak_bytes = peak(usage.memory_peak_bytes, (one.memory_bytes for one in samples))
    outbound = trial.network.outbound()
    afterwards = Afterwards(
        ready_seconds=watched.ready_seconds,
        memory_peak_bytes=memory_peak_bytes,
        cpu_seconds=usage.cpu_seconds,
        outbound=outbound,
        log=bytes(log.data),
        log_cut=log.full,
    )
    run = Run(
        name=RUN_NAME,
        command=shown_command(trial.job.plan.command),
        exit_code=ending.exit_code if ending else None,
        signal=fatal_signal(ending, init=trial.job.plan.init),
        reason="oom"
        if trial.hoards
        else end_reason(
            ending,
            watched.over,
            usage=usage,
            disk_full=rootfs.nearly_full(),
            init=trial.job.plan.init,
        ),
        oom_killed=usage.oom_kills > 0 or trial.hoards,
        seconds=watched.seconds,
        services_seconds=trial.services_seconds,
        cpu_seconds=usage.cpu_seconds,
        memory_peak_bytes=memory_peak_bytes,
        log=text,
        log_truncated=log.full or cut,
        pids_peak=peak(usage.pids_peak, (one.pids for one in samples)),
        read_bytes=usage.read_bytes,
        written_bytes=usage.written_bytes,
        throttled_seconds=usage.throttled_seconds,
        received_bytes=received,
        sent_bytes=sent,
        outbound=_with_services(trial, outbound),
        stubs=trial.stubs.uses(),
        samples=samples,
        limits=trial.limits,
        pids_refused=usage.pids_refused,
        observations=(*observations, *look_back(trial.job.plan, afterwards)),
    )
    return run, error


def _with_services(trial: Underway, outbound: tuple[Outbound, ...] | None) -> tuple[Outbound, ...] | None:
    """With what services of the run tried to reach, as far as there is room."""
    return None if outbound is None else (*outbound, *outbound_of(trial.services))[:OUTBOUND_MAX]


def _stop(trial: Underway, watched: Watched, log: LogBuffer) -> tuple[Observation, ...]:
    """End what still runs; the observations, with that of its end where one is expected."""
    limits, expected = trial.job.plan.limits, trial.job.plan.stop
    grace = 0.0 if watched.over else _GRACE_SECONDS
    if expected is not None and not watched.over:
        grace = max(0.0, min(expected.within_seconds, limits.wall_seconds - watched.seconds))
    stopped = Stopped(listened=False, ending=None, seconds=0.0)
    if watched.ending is None:
        stopped = stop(
            trial.pid,
            signal_number(trial.job.config.stop_signal),
            log=log,
            grace_seconds=grace,
            cancelled=partial(_given_up, trial),
            kill_all=partial(kill_group, trial.cgroups, trial.cgroup),
            send=trial.runtime.sender(trial.job.run_id),
            companions=trial.companions,
            keep=[service.trial.pid for service in trial.services],
        )
    if expected is None:
        return watched.observations
    observed = stop_observation(
        expected,
        before=watched.ending,
        over=in_words(watched.over, limits),
        listened=stopped.listened,
        ending=stopped.ending,
        seconds=stopped.seconds,
        given_seconds=grace,
    )
    return (*watched.observations, observed)


def _given_up(trial: Underway) -> bool:
    trial.end_hoarder()
    return trial.cancelled()


def _why_unknown(trial: Underway, watched: Watched, log: LogBuffer, usage: Usage) -> ReportError | None:
    if all(one.met for one in watched.observations):
        return None
    if oom_of_others(usage, trial.job.plan.limits):
        message = (
            "the run was ended below its own memory limit: all runs of the worker together were above theirs"
        )
        return ReportError(reason="worker-error", message=message, retryable=True)
    if trial.stubs.lost:
        message = "the stub that the worker has for the run ended before it, and no longer answered"
        return ReportError(reason="worker-error", message=message, retryable=True)
    command = trial.job.plan.command[0][:200]
    broken = not_executable(watched.ending, log.data)
    if broken is not None:
        return ReportError(reason="start-failed", message=f"the command {command!r} cannot be run: {broken}")
    held = trial.document["process"]["capabilities"]["bounding"]
    capability = withheld_capability(watched.ending, log.data, held)
    if capability is not None:
        how = how_to_have(capability, profile=trial.job.plan.profile)
        message = f"the command ended ({watched.ending}) after being refused what needs {capability}; {how}"
        return ReportError(reason="needs-capability", message=message)
    if trial.document["root"]["readonly"] and needs_writable_root(watched.ending, log.data):
        mounts = [one["destination"] for one in trial.document["mounts"] if one["type"] == "tmpfs"]
        writable = ", ".join(path for path in mounts if not f"{path}/".startswith("/dev/"))
        message = (
            f"the command ended ({watched.ending}) after it could not write to the image's own files, which "
            f"are read-only in this run; it may write to {writable}"
        )[:2000]
        return ReportError(reason="needs-writable-root", message=message)
    return None


def signal_number(text: str) -> int:
    """A stop signal by number or name (``SIGQUIT``, ``QUIT``); SIGTERM where it is none."""
    if text.isascii() and text.isdigit() and len(text) < 4 and int(text) in signal.valid_signals():
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    number = getattr(signal, name, signal.SIGTERM)
    return int(number) if isinstance(number, signal.Signals) else int(signal.SIGTERM)
