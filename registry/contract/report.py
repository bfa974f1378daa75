"""Reports: what a worker saw. It states facts; the registry judges (``registry.contract.judge``)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from registry.contract.base import LEASE, Wire, is_empty, is_none

MAX_REPORT_BYTES = 4 * 1024 * 1024
"""A larger body is refused: 1 MiB of log, base64-free, with room for escapes."""
MAX_SAMPLES = 60
MAX_RUNS = 20
OUTBOUND_MAX = 100

ErrorReason = Literal[
    "pull-failed",
    "digest-mismatch",
    "manifest-invalid",
    "config-invalid",
    "layer-invalid",
    "too-large",
    "too-many-files",
    "prepare-timeout",
    "worker-disk",
    "image-refused",
    "no-command",
    "user-unknown",
    "start-failed",
    "needs-capability",
    "platform-unsupported",
    "spec-invalid",
    "isolation-missing",
    "runtime-error",
    "worker-error",
    "worker-lost",
    "probe-failed",
    "egress-refused",
    "capability-refused",
    "needs-writable-root",
    "service-failed",
]
"""Why a check could not be done. Whatever stands here gives the verdict ``error``, never ``pass``."""

EndReason = Literal["exited", "signal", "oom", "timeout", "log-full", "disk-full", "stopped"]
"""How a run ended. ``stopped``: the worker ended it after it had seen enough."""


class Mechanism(Wire):
    """One isolation mechanism and what was really applied in this run."""

    name: str = Field(max_length=64)
    applied: bool
    detail: str = Field(default="", max_length=1000)


class Step(Wire):
    """One step of starting a container (MISSION.md S10), with its time."""

    name: str = Field(max_length=64)
    seconds: float = Field(ge=0)


class Observation(Wire):
    """One expectation and what was seen. ``met`` is null where the worker could not look."""

    expectation: str = Field(max_length=300, description="in words, as in 'exit code is 0'")
    seen: str = Field(max_length=2000)
    met: bool | None


class Outbound(Wire):
    """One address beyond loopback that a run tried to reach, permitted or not."""

    address: str = Field(max_length=64, description="or 'others': addresses beyond the first few dozens")
    port: int = Field(ge=0, le=65535)
    protocol: Literal["tcp", "udp", "other"]
    attempts: int = Field(ge=1, lt=2**63)
    permitted: bool = False
    service: str | None = Field(
        default=None, max_length=253, exclude_if=is_none, description="which service tried, not the image"
    )


class Sample(Wire):
    """What a run used at one moment. What counts up (processor time, bytes) counts from its start; what the
    worker's kernel does not say is left out."""

    seconds: float = Field(ge=0, description="since the command was started")
    cpu_seconds: float | None = Field(default=None, ge=0, exclude_if=is_none)
    memory_bytes: int | None = Field(
        default=None, ge=0, lt=2**63, exclude_if=is_none, description="with its files that the kernel keeps"
    )
    pids: int | None = Field(
        default=None, ge=0, lt=2**63, exclude_if=is_none, description="processes and threads"
    )
    read_bytes: int | None = Field(default=None, ge=0, lt=2**63, exclude_if=is_none)
    written_bytes: int | None = Field(default=None, ge=0, lt=2**63, exclude_if=is_none)
    received_bytes: int | None = Field(default=None, ge=0, lt=2**63, exclude_if=is_none)
    sent_bytes: int | None = Field(default=None, ge=0, lt=2**63, exclude_if=is_none)
    layer_bytes: int | None = Field(
        default=None, ge=0, lt=2**63, exclude_if=is_none, description="taken of its writable layer"
    )


class RunLimits(Wire):
    """What a run was held to: memory, processors and processes as the worker read them back from the kernel;
    what nothing held the whole run to is left out."""

    memory_bytes: int | None = Field(default=None, ge=1, lt=2**63, exclude_if=is_none)
    cpus: float | None = Field(default=None, gt=0, le=2**20, exclude_if=is_none)
    pids: int | None = Field(
        default=None,
        ge=1,
        lt=2**63,
        exclude_if=is_none,
        description="with those of the run's own kernel, if it has one",
    )
    written_bytes: int | None = Field(
        default=None, ge=1, lt=2**63, exclude_if=is_none, description="in its writable layer"
    )
    wall_seconds: float | None = Field(default=None, gt=0, exclude_if=is_none)


class StubRequest(Wire):
    """What a stub was asked for, by method and path."""

    method: str = Field(max_length=16)
    path: str = Field(max_length=300, description="with its query, as far as there is room")
    times: int = Field(ge=1, lt=2**31)


class StubUse(Wire):
    """What a run wanted of a stub."""

    name: str = Field(max_length=253)
    port: int = Field(ge=1, le=65535)
    connections: int = Field(ge=0, lt=2**31)
    requests: tuple[StubRequest, ...] = Field(
        default=(), max_length=32, description="the first that are not the same, where it is one for HTTP"
    )
    full: bool = Field(
        default=False, description="it took nothing more: connections or bytes had come to their limit"
    )


class Run(Wire):
    """One container execution."""

    name: str = Field(max_length=64)
    command: tuple[str, ...] = Field(max_length=2000)
    exit_code: int | None = Field(
        ge=0, le=255, description="null where the worker stopped it or it never started"
    )
    signal: int | None = Field(default=None, ge=1, le=64)
    reason: EndReason
    oom_killed: bool = False
    seconds: float = Field(ge=0)
    cpu_seconds: float | None = Field(default=None, ge=0)
    memory_peak_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    log: str = Field(max_length=MAX_REPORT_BYTES, description="output as UTF-8, undecodable bytes replaced")
    log_truncated: bool = False
    pids_peak: int | None = Field(
        default=None, ge=0, lt=2**63, description="most processes and threads at once"
    )
    read_bytes: int | None = Field(default=None, ge=0, lt=2**63, description="read from disks")
    written_bytes: int | None = Field(
        default=None, ge=0, lt=2**63, description="written to disks, as far as the kernel says by whom"
    )
    throttled_seconds: float | None = Field(
        default=None, ge=0, description="waited for a processor because of the limit"
    )
    received_bytes: int | None = Field(default=None, ge=0, lt=2**63, description="from outside, if it may")
    sent_bytes: int | None = Field(default=None, ge=0, lt=2**63, description="to the outside, if it may")
    outbound: tuple[Outbound, ...] | None = Field(
        default=None,
        max_length=OUTBOUND_MAX,
        description="what it, and its services, tried to reach; null where that was not seen",
    )
    stubs: tuple[StubUse, ...] = Field(
        default=(), max_length=8, exclude_if=is_empty, description="what it asked of the stubs of its spec"
    )
    samples: tuple[Sample, ...] = Field(
        default=(), max_length=MAX_SAMPLES, exclude_if=is_empty, description="its use over its time"
    )
    limits: RunLimits | None = Field(
        default=None, exclude_if=is_none, description="what it was held to; null: its worker does not say"
    )
    pids_refused: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        exclude_if=is_none,
        description="processes and threads that it could not begin, for its limit or that of all runs",
    )
    observations: tuple[Observation, ...] = Field(max_length=200)
    services_seconds: float | None = Field(
        default=None, ge=0, exclude_if=is_none, description="before its start, until its services were ready"
    )
    case: str | None = Field(
        default=None,
        max_length=64,
        exclude_if=is_none,
        description="of which case of the spec, if it has any",
    )
    attempt: int | None = Field(
        default=None, ge=1, le=100, exclude_if=is_none, description="which of several, from 1 on"
    )

    def all_seconds(self) -> float:
        """What it took of a worker: its own time, and that until its services were ready."""
        return self.seconds + (self.services_seconds or 0.0)

    def met(self) -> bool | None:
        """Whether all that was expected of it holds; ``None``: not all of it is known."""
        seen = {one.met for one in self.observations}
        return False if False in seen else None if None in seen or not seen else True


class ReportError(Wire):
    """Why the image could not be judged."""

    reason: ErrorReason
    message: str = Field(max_length=2000)
    retryable: bool = Field(
        default=False,
        description="whether another attempt could end otherwise (a network fault, a full disk)",
    )


class Report(Wire):
    """``POST /worker/v1/report``: the end of one lease. Exactly one is taken for each."""

    protocol: int
    lease: str = Field(pattern=f"{LEASE}|^$", description="empty where an image is tried without a registry")
    digest: str
    platform: str
    tested: str = Field(max_length=300, description="what was tested, in words: 'TCP port 80 accepts'")
    runtime: str = Field(max_length=100, description="name and version, as in 'runc 1.1.5'")
    mechanisms: tuple[Mechanism, ...] = Field(default=(), max_length=100)
    downgrades: tuple[str, ...] = Field(
        default=(), max_length=50, description="isolation the operator went without"
    )
    steps: tuple[Step, ...] = Field(default=(), max_length=100)
    runs: tuple[Run, ...] = Field(default=(), max_length=MAX_RUNS)
    error: ReportError | None = None

    def ended(self) -> str:
        """In one word: how the last run ended, or why there was none; ``not-run``: none was asked for."""
        if self.error:
            return self.error.reason
        return self.runs[-1].reason if self.runs else "not-run"


RUN_NEWS = frozenset(
    {
        *("pids_peak", "read_bytes", "written_bytes", "throttled_seconds"),
        *("received_bytes", "sent_bytes", "outbound", "samples", "limits", "pids_refused"),
        *("case", "attempt", "stubs", "services_seconds"),
    }
)
"""What a registry of the version before does not know of a run, and has no columns for."""


_REASONS_BEFORE: Mapping[ErrorReason, ErrorReason] = MappingProxyType(
    {"needs-writable-root": "needs-capability", "service-failed": "start-failed"}
)
"""The reasons that a registry of the version before does not know, by what stood there."""


def dump_report(report: Report, *, news: bool = True) -> bytes:
    """The report as it is sent; without ``news`` as a registry of the version before takes it."""
    if not news and report.error is not None:
        reason = _REASONS_BEFORE.get(report.error.reason, report.error.reason)
        report = report.model_copy(update={"error": report.error.model_copy(update={"reason": reason})})
    without = None if news else {"runs": {"__all__": set(RUN_NEWS)}}
    return report.model_dump_json(exclude=without).encode()
