"""What ``execute`` and a run's supervisor process say to each other: one JSON line each way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from registry.contract.plan import Plan
from registry.contract.report import Mechanism, ReportError, Run, Step
from registry.oci.imageconfig import ImageConfig
from sandbox.bundles.config import Bind
from sandbox.network.permits import PinnedNetwork
from sandbox.runtimes.base import RuntimeInfo

MAX_LINE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """A service of a run, in a container of its own; ``image`` is ``NAME@DIGEST`` for the record."""

    name: str
    image: str
    plan: Plan
    ready_seconds: float
    config: ImageConfig
    root: Path
    run_dir: Path
    run_id: str
    id_base: int
    id_size: int


@dataclass(frozen=True, slots=True)
class RunJob:
    """Everything a supervisor needs; it is told nothing else and has no secret."""

    plan: Plan
    config: ImageConfig
    root: Path
    run_dir: Path
    run_id: str
    id_base: int
    id_size: int
    runtime: RuntimeInfo
    """What the worker found; the supervisor has no PATH of its own to find another."""
    runtime_state: Path
    allowed_downgrades: tuple[str, ...]
    network: PinnedNetwork | None = None
    cpu_set: str | None = None
    services: tuple[ServiceJob, ...] = ()
    """Started before it, in this order."""
    names: tuple[str, ...] = ()
    """What stands for its loopback in /etc/hosts, its own name included where it is a service."""
    binds: tuple[Bind, ...] = ()
    """What it is to look at, beside its own files."""

    def of_service(self, service: ServiceJob) -> RunJob:
        """The job of one of its services: what it reaches is the run's loopback and no more, also where the
        run, in the same network, reaches more."""
        network = self.network
        if network is not None:
            network = replace(network, destinations=(), hosts=(), by_itself=())
        return replace(
            self,
            plan=service.plan,
            config=service.config,
            root=service.root,
            run_dir=service.run_dir,
            run_id=service.run_id,
            id_base=service.id_base,
            id_size=service.id_size,
            network=network,
            services=(),
            binds=(),
        )


@dataclass(frozen=True, slots=True)
class RunResult:
    """``run`` or ``error`` is set; both where the command ran but its end says nothing about the image."""

    run: Run | None
    mechanisms: tuple[Mechanism, ...]
    downgrades: tuple[str, ...]
    steps: tuple[Step, ...]
    error: ReportError | None


# Made here, before supervisors are forked: it takes as long as the container.
_JOB, _RESULT = TypeAdapter(RunJob), TypeAdapter(RunResult)


def dump_job(job: RunJob) -> bytes:
    """The job as one line."""
    return _JOB.dump_json(job, by_alias=True) + b"\n"


def parse_job(line: bytes) -> RunJob:
    """Read a job.

    Raises:
        ValueError: it is not one.
    """
    return _JOB.validate_json(line)


def dump_result(result: RunResult) -> bytes:
    """The result as one line."""
    return _RESULT.dump_json(result) + b"\n"


def parse_result(line: bytes) -> RunResult:
    """Read a result.

    Raises:
        ValueError: it is not one.
    """
    return _RESULT.validate_json(line)
