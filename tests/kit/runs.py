"""Runs in the real runtime on plain root folders, and the proof that the host is as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.contract.limits import Limits
from registry.contract.plan import make_plan
from registry.contract.runspec import RunSpec
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform
from sandbox.ids import IdRange
from sandbox.network.permits import NetworkPolicy
from sandbox.network.resolve import pin
from sandbox.runtimes.base import Runtime
from sandbox.runtimes.cgroups import find_cgroups, group_names
from sandbox.runtimes.execute import Execution, OnOutput, execute
from sandbox.runtimes.spawn import Supervisors
from sandbox.runtimes.sweep import forget
from tests.kit.images import APPLETS, BUSYBOX

MIB = 1024 * 1024
QUICK = Limits(alive_seconds=0.3, wall_seconds=60, memory_bytes=64 * MIB, pids=64)
"""For what ends by itself, or needs nothing but to stay up: who has something to do within ``alive_seconds``
gets more of them, since a machine may be busy."""


def runtime_name() -> str:
    """Which runtime the tests of runs are for: ``SEATRIAL_TEST_RUNTIME``, else Debian's runc, so that what is
    expected of it does not hang on what else is installed."""
    return os.environ.get("SEATRIAL_TEST_RUNTIME", "runc")


def image_config(*command: str, **members: Any) -> ImageConfig:
    """A config that runs ``command``."""
    return ImageConfig(Platform("linux", "amd64"), (), cmd=command, **members)


@dataclass(frozen=True, slots=True)
class Host:
    """What a run could leave behind or touch."""

    mounts: tuple[str, ...]
    groups: tuple[str, ...]
    states: tuple[str, ...]
    processes: tuple[str, ...]
    canary: tuple[tuple[str, int, bytes], ...]


@dataclass(slots=True)
class Harbour:
    """A place to make root folders and run in them. ``folder`` lets others pass through."""

    folder: Path
    runtime: Runtime
    supervisors: Supervisors
    ids: IdRange
    allowed: frozenset[str] = frozenset()
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    cpu_set: str | None = None
    count: int = 0
    """Of root folders and runs so far; the ids of runs follow from it."""

    @property
    def own_kernel(self) -> bool:
        """Whether the runtime brings a kernel along (gVisor), which differs where a test says so."""
        return self.runtime.info.kernel == "own"

    def rootfs(self) -> Path:
        """A new root folder with a static busybox, owned by the run's root."""
        self.count += 1
        root = self.folder / f"root{self.count}"
        (root / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, root / "bin/busybox")
        for applet in APPLETS.split():
            (root / "bin" / applet).symlink_to("busybox")
        self.own(root)
        return root

    def own(self, root: Path) -> None:
        """Give everything below ``root`` to the run's root."""
        for path in (root, *root.rglob("*")):
            os.chown(path, self.ids.base, self.ids.base, follow_symlinks=False)

    async def run(
        self,
        config: ImageConfig,
        *,
        spec: dict[str, Any] | None = None,
        limits: Limits = QUICK,
        root: Path | None = None,
        on_output: OnOutput | None = None,
    ) -> Execution:
        """Carry out one run and forget its folders.

        Without a spec the command must exit 0, so that nothing hangs on how fast it is; ``{}`` is what an
        image without a spec gets.
        """
        if spec is None and config.healthcheck is None and not config.exposed_ports:
            spec = {"expect": {"exit": 0}}
        self.count += 1
        run_id = f"run{self.count}"
        run_dir = self.folder / run_id
        run_dir.mkdir(mode=0o711)
        plan = make_plan(
            config,
            None if spec is None else RunSpec.model_validate({"version": 1, **spec}, strict=False),
            limits=limits,
            ceiling=limits,
            image_spec_allowed=False,
        )
        try:
            return await execute(
                plan,
                config=config,
                root=root or self.rootfs(),
                run_dir=run_dir,
                run_id=run_id,
                ids=self.ids,
                runtime=self.runtime,
                supervisors=self.supervisors,
                allowed_downgrades=self.allowed,
                network=await pin(plan.network, self.network),
                cpu_set=self.cpu_set,
                on_output=on_output,
            )
        finally:
            shutil.rmtree(run_dir)

    async def sh(self, script: str, **options: Any) -> Execution:
        """Run a script in busybox's shell."""
        config = {
            name: options.pop(name)
            for name in ("user", "working_dir", "volumes", "stop_signal")
            if name in options
        }
        return await self.run(image_config("/bin/sh", "-c", script, **config), **options)

    def host(self) -> Host:
        """Everything that this harbour's runs could have left on the host."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        canary = self.folder / "canary"
        return Host(
            mounts=tuple(line for line in mounts if str(self.folder) in line),
            groups=group_names(find_cgroups(), self.runtime.cgroup_parent),
            states=tuple(self.runtime.list_runs()),
            processes=tuple(self.processes()),
            canary=tuple(
                (str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
                for path in sorted(canary.rglob("*"))
            ),
        )

    def processes(self) -> Iterator[str]:
        """Living processes that belong to one of the run's ids."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    uid = entry.stat().st_uid
                    # One that nobody has reaped yet is gone all the same.
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if state != "Z" and self.ids.base <= uid < self.ids.base + self.ids.size:
                    yield entry.name


@contextmanager
def harbour(folder: Path, runtime: Runtime, supervisors: Supervisors) -> Iterator[Harbour]:
    """A harbour in ``folder``, with a range of ids and a canary tree of its own."""
    folder.chmod(0o711)
    canary = folder / "canary"
    canary.mkdir()
    (canary / "bird").write_text("sings")
    # Away from the ranges that workers lease: whatever has these ids is of this test process.
    yield Harbour(folder, runtime, supervisors, IdRange(0x60000000 + os.getpid() % 4096 * 65536))
    forget(runtime)


def seen(execution: Execution) -> Sequence[bool | None]:
    """Whether each expectation was met."""
    return [one.met for one in execution.run.observations]
