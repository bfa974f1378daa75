"""How a run's container is made, connected and begun: each step is looked at before the next."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from registry.contract.report import Mechanism
from sandbox.bundles.assemble import assemble
from sandbox.bundles.rootfs import Rootfs
from sandbox.errors import SandboxError
from sandbox.ids import IdRange
from sandbox.network.attach import attach
from sandbox.network.stubs import LOOPBACK, open_stubs
from sandbox.probes.base import Probe, plain
from sandbox.probes.choose import make_probes
from sandbox.probes.forward import reach_through
from sandbox.probes.inside import NO_ROOM
from sandbox.probes.network import reach_loopback
from sandbox.runtimes.base import RuntimeFailure
from sandbox.runtimes.held import verify_limits
from sandbox.runtimes.hooks import HOOK_PIDS, make_hook, timed_create
from sandbox.runtimes.isolation import (
    check_downgrades,
    may_divide,
    missing_isolation,
    read_surroundings,
)
from sandbox.runtimes.job import RunJob
from sandbox.runtimes.modules import module_refusal, verify_modules
from sandbox.runtimes.oci import ends_within
from sandbox.runtimes.outcome import why_not_created
from sandbox.runtimes.outer import inherited_filters, outer_seccomp, verify_domain
from sandbox.runtimes.output import LogBuffer
from sandbox.runtimes.ownkernel import spare_pids, verify_kernel_privileges, verify_kernel_process
from sandbox.runtimes.readings import read_level
from sandbox.runtimes.underway import Underway
from sandbox.runtimes.verify import (
    applied_at_start,
    check_demand,
    verify_namespaces,
    verify_privileges,
)
from sandbox.runtimes.watch import children_of, find_ending
from sandbox.runtimes.within import enclose

_ENDING_SECONDS = 1.0


def create(trial: Underway, rootfs: Rootfs, live_fd: int | None) -> LogBuffer:
    """Make the container, stopped before its command; its output, which is the caller's to close.

    Raises:
        SandboxError: it cannot be made, and why.
    """
    job = trial.job
    with trial.step("read metadata and configuration"):
        _make_bundle(trial, rootfs)
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_fd, False)
    log = LogBuffer(read_fd, job.plan.limits.log_bytes, live_fd)
    try:
        try:
            # So that the command may open /dev/stdout and /dev/stderr again, as many images do.
            user = trial.document["process"]["user"]
            os.fchown(write_fd, job.id_base + user["uid"], job.id_base + user["gid"])
            trial.steps += timed_create(trial.hook, partial(_create, trial, write_fd))
        finally:
            os.close(write_fd)
    except BaseException:
        log.close()
        raise
    return log


def connect(trial: Underway, log: LogBuffer) -> None:
    """Look at what was made, and give it its network.

    Raises:
        SandboxError: what was promised is not there, or it ended meanwhile.
    """
    with _ends_explained(trial, log, begun=False):
        with trial.step("check namespaces and limits"):
            _verify_created(trial)
        with trial.step("fence and connect the network"):
            _attach_network(trial)
            coming = applied_at_start(trial.document)
            check_demand(trial.mechanisms, trial.job.plan.require, coming=coming)


def begin(trial: Underway, log: LogBuffer) -> None:
    """Let the command run.

    Raises:
        SandboxError: it cannot, or what was promised is not there.
    """
    with _ends_explained(trial, log, begun=True):
        with trial.step("start through the kernel"):
            _start(trial)
        with trial.step("apply security constraints"):
            _verify_started(trial)


def _make_bundle(trial: Underway, rootfs: Rootfs) -> None:
    job = trial.job
    info = trial.runtime.info
    missing = missing_isolation(info, trial.cgroups)
    trial.downgrades = check_downgrades(missing, frozenset(job.allowed_downgrades))
    trial.surroundings = read_surroundings(
        trial.cgroups,
        time_namespace=info.time_namespace,
        modules=info.kernel == "host",
        run_dir=job.run_dir,
        cpu_set=job.cpu_set,
        spare_pids=spare_pids(job.plan.limits.pids) if info.kernel == "own" else 0,
    )
    trial.surroundings = replace(trial.surroundings, binds=job.binds)
    if trial.joins:
        trial.surroundings = replace(trial.surroundings, network=Path(f"/proc/{trial.joins}/ns/net"))
    trial.document = assemble(
        job.plan,
        job.config,
        rootfs=rootfs,
        root=job.root,
        ids=IdRange(job.id_base, job.id_size),
        hosts=_hosts(job),
        cgroups_path=f"{trial.cgroups.prefix}{trial.cgroup}" if may_divide(trial.cgroups) else None,
        surroundings=trial.surroundings,
        downgrades=frozenset(trial.downgrades),
    )
    if job.plan.limits.pids >= HOOK_PIDS:
        trial.hook = make_hook(job.run_dir, IdRange(job.id_base, job.id_size))
    if trial.hook is not None:
        trial.document["hooks"] = trial.hook.document()
    # The environment may hold what other users of this host should not read.
    fd = os.open(job.run_dir / "config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        # Not dump(): that one does without the encoder in C.
        file.write(json.dumps(trial.document))
    if info.known_holes:
        detail = "; ".join(info.known_holes)[:1000]
        trial.mechanisms.append(Mechanism(name="checks for known holes", applied=True, detail=detail))


def _hosts(job: RunJob) -> tuple[tuple[IPv4Address, str], ...]:
    outside = () if job.network is None else job.network.hosts
    return (*outside, *((IPv4Address(LOOPBACK), name) for name in dict.fromkeys(job.names)))


def _create(trial: Underway, log_fd: int) -> None:
    job = trial.job
    try:
        trial.pid = trial.runtime.create(
            job.run_id, job.run_dir, log_fd=log_fd, pid_file=job.run_dir / "container.pid"
        )
        if trial.runtime.info.kernel == "own":
            trial.companions = tuple(one for one in children_of(os.getpid()) if one != trial.pid)
    except RuntimeFailure as failure:
        _blame_command(trial, failure)
        _blame_limits(trial, failure.text)
        refused = module_refusal(failure.text)
        if refused is not None:
            raise SandboxError("isolation-missing", refused) from None
        raise SandboxError("runtime-error", _public(trial, failure), retryable=failure.timed_out) from None


def _verify_created(trial: Underway) -> None:
    job = trial.job
    names = [one["type"] for one in trial.document["linux"]["namespaces"]]
    verify = verify_namespaces if trial.runtime.info.kernel == "host" else verify_kernel_process
    trial.mechanisms += verify(trial.pid, names, base=job.id_base, size=job.id_size)
    trial.mechanisms += verify_limits(trial)


def _verify_started(trial: Underway) -> None:
    info = trial.runtime.info
    verify = verify_privileges if info.kernel == "host" else verify_kernel_privileges
    trial.mechanisms += verify(
        trial.pid,
        trial.document["process"]["capabilities"]["bounding"],
        seccomp="seccomp" in trial.document["linux"],
        inherited=inherited_filters(info),
    )
    trial.mechanisms.append(outer_seccomp(info))
    trial.mechanisms += verify_modules(trial.pid, trial.document)
    check_demand(trial.mechanisms, trial.job.plan.require)


@contextmanager
def _ends_explained(trial: Underway, log: LogBuffer, *, begun: bool) -> Iterator[None]:
    """What fails since the process that waits to become the command has ended says so, and why it has; when
    the command may have ``begun``, only that there was no room for it."""
    try:
        yield
    except (OSError, SandboxError):
        # Where one of its threads has ended, all of them will.
        ending = find_ending(trial.pid) if ends_within(trial.pid, _ENDING_SECONDS) else None
        if ending is None:
            raise
        log.read()
        said = plain(log.data.decode("utf-8", "replace")).strip()
        # A runtime in Go makes a thread when it likes, also while it waits.
        _blame_limits(trial, said)
        if begun:
            raise
        message = f"the container ended before its command: {ending}" + (f": {said}" if said else "")
        raise SandboxError("runtime-error", message[:1000], retryable=True) from None


def _attach_network(trial: Underway) -> None:
    job = trial.job
    trial.network = attach(
        trial.pid,
        job.network,
        cgroups=trial.cgroups,
        group=trial.runtime.cgroup_parent,
        run_id=job.run_id,
        id_base=job.id_base,
        runtime=trial.runtime.info,
    )
    trial.stubs = open_stubs(trial.pid, job.plan.stubs, job.plan.stub, runtime=trial.runtime.info)
    if trial.stubs.pid:
        trial.companions = (*trial.companions, trial.stubs.pid)
    trial.mechanisms += trial.network.mechanisms
    trial.mechanisms.append(verify_domain(trial.pid))
    trial.mechanisms += enclose(trial.pid, job.root, trial.document, trial.runtime.info)


def _start(trial: Underway) -> None:
    try:
        trial.runtime.start(trial.job.run_id)
    except RuntimeFailure as failure:
        _blame_command(trial, failure)
        raise SandboxError("runtime-error", _public(trial, failure), retryable=failure.timed_out) from None


def _blame_command(trial: Underway, failure: RuntimeFailure) -> None:
    why = why_not_created(failure.text)
    if why is not None:
        command = trial.job.plan.command[0][:200]
        raise SandboxError("start-failed", f"the command {command!r} cannot be run: {why}") from None


def _blame_limits(trial: Underway, said: str) -> None:
    pids = trial.job.plan.limits.pids
    if pids < HOOK_PIDS and NO_ROOM.search(said):
        needs = f"{trial.runtime.info.name} itself needs more processes and threads to begin with"
        raise SandboxError("spec-invalid", f"limits.pids is {pids}, and {needs}") from None


def _public(trial: Underway, failure: RuntimeFailure) -> str:
    text = failure.text
    for path in (trial.job.root, trial.job.run_dir, trial.runtime.state):
        text = text.replace(str(path), "…")
    return f"{trial.runtime.info.name} could not {failure.call} the container: {text}"[:1000]


def probes_of(trial: Underway) -> tuple[Probe, ...]:
    """What looks at what the plan expects of the run."""
    forward = trial.runtime.forward(trial.job.run_id)
    return make_probes(
        trial.job.plan,
        trial.document,
        root=trial.job.root,
        run_inside=partial(_run_inside, trial),
        excuse=partial(_no_room, trial),
        reach=reach_loopback if forward is None else reach_through(forward, trial.job.run_dir),
        stubs=trial.stubs,
    )


def _no_room(trial: Underway) -> str | None:
    """Why nothing could be run inside: a runtime waits for threads that the run has no room for."""
    _, pids = read_level(trial.cgroups, trial.cgroup)
    full = pids is not None and pids >= trial.job.plan.limits.pids - 1
    # A kernel of its own counts its own there too.
    return "the run has no process left for it" if full and trial.runtime.info.kernel == "host" else None


def _run_inside(trial: Underway, process: Mapping[str, object], log_fd: int) -> int:
    return trial.runtime.exec(trial.job.run_id, process, log_fd=log_fd, folder=trial.job.run_dir)
