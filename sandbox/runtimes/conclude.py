"""The end of a run: it is stopped, and what was seen of it becomes a report."""

from __future__ import annotations

import signal

from registry.contract.report import ReportError, Run
from sandbox.bundles.rootfs import Rootfs
from sandbox.runtimes.cgroups import Usage, read_usage
from sandbox.runtimes.outcome import (
    end_reason,
    needs_writable_root,
    not_executable,
    oom_of_others,
    readable_log,
    shown_command,
    withheld_capability,
)
from sandbox.runtimes.underway import Underway
from sandbox.runtimes.watch import LogBuffer, Watched, stop

_GRACE_SECONDS = 3.0


def conclude(
    trial: Underway, watched: Watched, log: LogBuffer, rootfs: Rootfs
) -> tuple[Run, ReportError | None]:
    plan = trial.job.plan
    with trial.step("stop"):
        if watched.ending is None:
            number = signal_number(trial.job.config.stop_signal)
            grace = 0.0 if watched.over else _GRACE_SECONDS
            send = trial.runtime.sender(trial.job.run_id)
            stop(trial.pid, number, log=log, grace_seconds=grace, send=send)
        log.read()
    usage = read_usage(trial.cgroups, trial.cgroup)
    received, sent = trial.network.traffic() or (None, None)
    ending = watched.ending
    error = _why_unknown(trial, watched, log, usage)
    text, cut = readable_log(log.data)
    run = Run(
        name="smoke",
        command=shown_command(plan.command),
        exit_code=ending.exit_code if ending else None,
        signal=ending.signal if ending else None,
        reason=end_reason(ending, watched.over, usage=usage, disk_full=rootfs.nearly_full()),
        oom_killed=usage.oom_kills > 0,
        seconds=watched.seconds,
        cpu_seconds=usage.cpu_seconds,
        memory_peak_bytes=usage.memory_peak_bytes,
        log=text,
        log_truncated=log.full or cut,
        pids_peak=usage.pids_peak,
        read_bytes=usage.read_bytes,
        written_bytes=usage.written_bytes,
        throttled_seconds=usage.throttled_seconds,
        received_bytes=received,
        sent_bytes=sent,
        outbound=trial.network.outbound(),
        observations=watched.observations,
    )
    return run, error


def _why_unknown(trial: Underway, watched: Watched, log: LogBuffer, usage: Usage) -> ReportError | None:
    if all(one.met for one in watched.observations):
        return None
    if oom_of_others(usage, trial.job.plan.limits):
        message = (
            "the run was ended below its own memory limit: all runs of the worker together were above theirs"
        )
        return ReportError(reason="worker-error", message=message, retryable=True)
    command = trial.job.plan.command[0][:200]
    broken = not_executable(watched.ending, log.data)
    if broken is not None:
        return ReportError(reason="start-failed", message=f"the command {command!r} cannot be run: {broken}")
    held = trial.document["process"]["capabilities"]["bounding"]
    capability = withheld_capability(watched.ending, log.data, held)
    if capability is not None:
        refused = f"what needs {capability}"
    elif trial.document["root"]["readonly"] and needs_writable_root(watched.ending, log.data):
        refused = "to write to the image's own files, which the profile restricted keeps read-only"
    else:
        return None
    message = f"the command ended ({watched.ending}) after being refused {refused}"
    return ReportError(reason="needs-capability", message=message)


def signal_number(text: str) -> int:
    """A stop signal by number or name (``SIGQUIT``, ``QUIT``); SIGTERM where it is none."""
    if text.isascii() and text.isdigit() and len(text) < 4 and int(text) in signal.valid_signals():
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    number = getattr(signal, name, signal.SIGTERM)
    return int(number) if isinstance(number, signal.Signals) else int(signal.SIGTERM)
