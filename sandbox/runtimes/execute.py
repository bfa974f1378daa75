"""One run, from bundle to teardown: ``execute``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.contract.plan import Plan
from registry.contract.report import Mechanism, ReportError, Run, Step
from registry.oci.imageconfig import ImageConfig

if TYPE_CHECKING:
    from sandbox.ids import IdRange
    from sandbox.runtimes.base import Runtime


@dataclass(frozen=True, slots=True)
class Execution:
    """What one run showed."""

    run: Run
    mechanisms: tuple[Mechanism, ...]
    downgrades: tuple[str, ...]
    """Isolation that was missing and that the operator allowed to be missing, by name."""
    steps: tuple[Step, ...]
    error: ReportError | None = None
    """Set where the command ran but its end says nothing about the image (a withheld capability)."""


async def execute(
    plan: Plan,
    *,
    config: ImageConfig,
    root: Path,
    run_dir: Path,
    run_id: str,
    ids: IdRange,
    runtime: Runtime,
    allowed_downgrades: frozenset[str],
) -> Execution:
    """Run ``plan`` in the prepared root file system and observe it.

    ``root`` is a mounted, writable root file system of this run alone, owned by ``ids``; ``run_dir`` an
    existing empty folder of this run alone, reachable (0711) for the mapped users; ``run_id`` a name of at
    most 64 characters ``[a-z0-9-]`` never used before. Whatever happens, cancellation included, container,
    cgroups and processes of the run are gone when this returns or raises; ``root`` is left to the caller.

    Raises:
        SandboxError: nothing was run, and why (``image-refused``, ``user-unknown``, ``config-invalid``,
            ``isolation-missing``, ``start-failed``, ``runtime-error``, ``worker-error``).
    """
    raise NotImplementedError
