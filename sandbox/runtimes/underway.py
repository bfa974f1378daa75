"""What the supervisor of one run knows of it so far."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from registry.contract.report import Mechanism, Run, RunLimits, Step
from sandbox.bundles.config import Surroundings
from sandbox.network.attach import Attached
from sandbox.network.stubs import StubsAtWork
from sandbox.runtimes.base import Runtime
from sandbox.runtimes.cgroups import Cgroups
from sandbox.runtimes.hooks import CreateHook
from sandbox.runtimes.job import RunJob
from sandbox.runtimes.output import LogBuffer
from sandbox.runtimes.sampling import Layer, Samples, looking
from sandbox.runtimes.sockets import netlink_bytes, share_of


@dataclass(slots=True)
class ServiceAtWork:
    """A service of the run; without a ``log`` it has not been made."""

    name: str
    trial: Underway
    log: LogBuffer | None = None
    waited_seconds: float = 0.0
    """For those before it."""
    begun: float = 0.0
    """By the monotonic clock."""
    failed: Run | None = None
    """What it came to, where that is why the run says nothing."""


@dataclass(slots=True)
class Underway:
    """What is known so far of the one run of this process."""

    job: RunJob
    runtime: Runtime
    cgroups: Cgroups
    cancelled: Callable[[], bool]
    downgrades: tuple[str, ...] = ()
    surroundings: Surroundings = field(init=False)
    document: dict[str, Any] = field(default_factory=dict)
    hook: CreateHook | None = None
    pid: int = 0
    samples: Samples = field(init=False)
    companions: tuple[int, ...] = ()
    """Other children, of the runtime, with the run's stubs or its services, that last as long as it does."""
    network: Attached = field(default_factory=Attached)
    stubs: StubsAtWork = field(default_factory=StubsAtWork)
    services: list[ServiceAtWork] = field(default_factory=list)
    services_seconds: float | None = None
    """Until all of them were ready."""
    listened: set[int] = field(default_factory=set)
    """The ports that the run itself was seen to listen on, beside services."""
    joins: int = 0
    """The process whose network is this one's as well; 0: it has one of its own."""
    hoards: bool = False
    """Whether it was ended for what the kernel held for its sockets."""
    limits: RunLimits | None = None
    """What it is held to; ``None``: that was not looked at so far."""
    layer: Layer | None = None
    """Its writable layer, as long as it is open."""
    mechanisms: list[Mechanism] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.samples = Samples(looking(self.cgroups, self.cgroup, lambda: self.network, lambda: self.layer))

    @property
    def cgroup(self) -> str:
        return f"{self.runtime.cgroup_parent}/{self.job.run_id}"

    def tick(self, seconds: float) -> None:
        """Look at what changes while the command runs."""
        self.samples.tick(seconds)
        self.stubs.read()
        self.end_hoarder()

    def end_hoarder(self) -> None:
        """Kill the command where the kernel holds too much for sockets that no control group counts."""
        if self.runtime.info.kernel == "own" or self.hoards:
            return
        each = (self, *(service.trial for service in self.services))
        if netlink_bytes(self.pid) > share_of(sum(one.job.plan.limits.memory_bytes for one in each)):
            self.hoards = True
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.steps.append(Step(name=name, seconds=time.monotonic() - started))
