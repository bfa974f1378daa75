"""Limits of one run and of preparing one image."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from registry.contract.base import Wire, is_none

MIB = 1024 * 1024
GIB = 1024 * MIB
UNPACKED_FACTOR = 4
"""What an image takes on a worker's disk, pulled and unpacked, for each byte of its layers as they are
pushed. Only a guess: gzip packs programs to a third or so."""


class Limits(Wire):
    """What one run may use at most. Seconds, bytes, and CPUs as a number of whole processors."""

    memory_bytes: int = Field(default=512 * MIB, ge=4 * MIB, description="memory; there is no swap beside it")
    cpus: float = Field(default=1.0, gt=0, le=1024, description="processors, as a share of time")
    pids: int = Field(default=256, ge=1, le=65536, description="processes and threads")
    written_bytes: int = Field(default=GIB, ge=MIB, description="bytes written to the writable layer")
    wall_seconds: float = Field(default=60.0, gt=0, description="wall clock from start to forced end")
    alive_seconds: float = Field(
        default=5.0, gt=0, description="how long a service must stay up, or has to answer"
    )
    log_bytes: int = Field(default=MIB, ge=1024, description="bytes of output kept")
    io_bytes_per_second: int | None = Field(
        default=None,
        ge=64 * 1024,
        exclude_if=is_none,
        description="reading from and writing to the worker's disk, each; null is no limit",
    )


class PrepareLimits(Wire):
    """What preparing one image may use at most."""

    unpacked_bytes: int = Field(default=20 * GIB, ge=MIB, description="bytes after unpacking")
    files: int = Field(default=1_000_000, ge=1, description="entries over all layers")
    seconds: float = Field(default=900.0, gt=0, description="pull and unpack, together")


def lowered(limits: Limits, ceiling: Limits) -> Limits:
    """``limits``, each no higher than the ceiling's."""
    pairs = {name: (getattr(limits, name), getattr(ceiling, name)) for name in Limits.model_fields}
    known = {name: [one for one in pair if one is not None] for name, pair in pairs.items()}
    return Limits.model_validate({name: min(pair, default=None) for name, pair in known.items()})


def together(each: Sequence[Limits]) -> Limits:
    """What several that run side by side may use at most; all else is as the first has it."""
    return each[0].model_copy(
        update={
            name: sum(getattr(one, name) for one in each)
            for name in ("memory_bytes", "cpus", "pids", "written_bytes")
        }
    )


def exceeds(limits: Limits, ceiling: Limits) -> str | None:
    """The name of the first limit above its ceiling, or ``None``."""
    for name in Limits.model_fields:
        limit, highest = getattr(limits, name), getattr(ceiling, name)
        if highest is not None and limit is not None and limit > highest:
            return name
    return None
