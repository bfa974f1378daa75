"""The process that supervises one run: makes it, watches it, ends it and removes every trace of it.

A process of its own, because being a subreaper, forking probes and waiting for programs concern a whole
process. It reads one job from standard input and answers with one result; when its input closes, because the
worker gave up or died, it ends the run and goes.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from registry.contract.report import ReportError, Run
from sandbox.bundles.rootfs import Rootfs, open_rootfs
from sandbox.errors import SandboxError
from sandbox.runtimes.base import Runtime, RuntimeFailure
from sandbox.runtimes.cgroups import find_cgroups, kill_group, remove_group
from sandbox.runtimes.choose import open_runtime
from sandbox.runtimes.conclude import conclude
from sandbox.runtimes.job import MAX_LINE_BYTES, RunJob, RunResult, dump_result, parse_job
from sandbox.runtimes.making import begin, connect, create, probes_of
from sandbox.runtimes.outer import enter_domain
from sandbox.runtimes.sampling import Layer
from sandbox.runtimes.services import look_after, look_at_ports, require_served, start_services
from sandbox.runtimes.underway import Underway
from sandbox.runtimes.watch import kill, reap_strays, watch
from sandbox.syscalls import become_subreaper


def supervise(
    job: RunJob, runtime: Runtime, *, cancelled: Callable[[], bool], live_fd: int | None = None
) -> RunResult:
    """Carry out one job. The calling process must be a single-threaded subreaper without other children."""
    trial = Underway(job, runtime, find_cgroups(), cancelled)
    run: Run | None = None
    error: ReportError | None = None
    left: str | None = None
    try:
        with open_rootfs(job.root) as rootfs:
            run, error = _carry_out(trial, rootfs, live_fd)
    except SandboxError as problem:
        error = ReportError(reason=problem.reason, message=problem.message, retryable=problem.retryable)
        run = next((one.failed for one in trial.services if one.failed is not None), None)
    except OSError as problem:
        message = f"the run could not be prepared or watched: {os.strerror(problem.errno or 0)}"
        error = ReportError(reason="worker-error", message=message, retryable=True)
    finally:
        left = _teardown(trial)
    if left is not None:
        run, error = None, ReportError(reason="worker-error", message=left, retryable=True)
    return RunResult(run, tuple(trial.mechanisms), trial.downgrades, tuple(trial.steps), error)


def _carry_out(trial: Underway, rootfs: Rootfs, live_fd: int | None) -> tuple[Run, ReportError | None]:
    job = trial.job
    log = create(trial, rootfs, live_fd)
    try:
        connect(trial, log)
        if job.services:
            with trial.step("start services"):
                start_services(trial)
        trial.layer = Layer(rootfs)
        begin(trial, log)
        with trial.step("run and observe"):
            watched = watch(
                trial.pid,
                probes_of(trial),
                log=log,
                limits=job.plan.limits,
                cancelled=trial.cancelled,
                sample=partial(_look, trial),
                companions=trial.companions,
            )
        if watched.over == "cancelled":
            raise SandboxError("worker-error", "the worker stopped the run", retryable=True)
        require_served(trial, met=all(one.met for one in watched.observations))
        return conclude(trial, watched, log, rootfs)
    finally:
        log.close()


def _look(trial: Underway, seconds: float) -> None:
    trial.tick(seconds)
    look_after(trial.services)
    look_at_ports(trial)


def _teardown(trial: Underway) -> str | None:
    """Remove everything, also what stands behind a part that stays; what is left, in words, or ``None``."""
    left: list[str] = []
    each = [*(service.trial for service in reversed(trial.services)), trial]
    # Each is reaped when all have ended: until then its number is nobody else's.
    pids = [one.pid for one in each if one.pid]
    with trial.step("teardown"):
        for one in each:
            kill_group(one.cgroups, one.cgroup)
            if one.pid:
                kill(one.pid, keep=pids)
            try:
                one.runtime.delete(one.job.run_id)
            except (RuntimeFailure, OSError):
                left.append("container")
        reap_strays(keep=())
        trial.stubs.close()
        for service in trial.services:
            if service.log is not None:
                service.log.close()
        try:
            trial.network.close()
        except OSError:
            left.append("network")
        removed = [remove_group(one.cgroups, one.cgroup) for one in each]
        if not all(removed):
            left.append("control groups")
    return f"the run's {' and '.join(dict.fromkeys(left))} could not be removed" if left else None


def main(live_fd: int | None = None) -> int:
    """Read one job, carry it out, write one result; the output of the run goes to ``live_fd`` as it comes."""
    if live_fd is not None:
        # No program that is started from here may hold it.
        os.set_inheritable(live_fd, False)
        os.set_blocking(live_fd, False)
    line = _read_line(0)
    if not line.endswith(b"\n"):
        return 1
    job = parse_job(line)
    become_subreaper()
    enter_domain()
    result = supervise(
        job, open_runtime(job.runtime, job.runtime_state), cancelled=_input_closed, live_fd=live_fd
    )
    if not _input_closed():
        with suppress(BrokenPipeError):
            _write(1, dump_result(result))
    return 0


def _read_line(fd: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        line += chunk
    return bytes(line)


def _input_closed() -> bool:
    # Nothing is ever sent after the job: readable means closed.
    return bool(select.select([0], [], [], 0)[0])


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    sys.exit(main())
