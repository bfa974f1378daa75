"""What a run uses over its time, in a list that stays short however long the run takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from registry.contract.report import MAX_SAMPLES, Sample
from sandbox.bundles.rootfs import Rootfs
from sandbox.network.attach import Attached
from sandbox.runtimes.cgroups import Cgroups
from sandbox.runtimes.readings import read_level, read_usage

FIRST_INTERVAL_SECONDS = 0.1

Look = Callable[[float], Sample]


@dataclass(slots=True)
class Samples:
    """Samples at even intervals. Where there is no room for another, every second one goes and the interval
    doubles; the first and the last of a run are always there."""

    look: Look
    taken: list[Sample] = field(default_factory=list, init=False)
    _interval_seconds: float = field(default=FIRST_INTERVAL_SECONDS, init=False)
    _slot: int = field(default=-1, init=False)

    def tick(self, seconds: float) -> None:
        """Take a sample if it is time for one."""
        if self._slot_of(seconds) <= self._slot:
            return
        # One place is kept for the last.
        if len(self.taken) == MAX_SAMPLES - 1:
            del self.taken[1::2]
            self._interval_seconds *= 2
            self._slot = self._slot_of(self.taken[-1].seconds)
            if self._slot_of(seconds) <= self._slot:
                return
        self._slot = self._slot_of(seconds)
        self.taken.append(self.look(seconds))

    def last(self, seconds: float) -> tuple[Sample, ...]:
        """All of them, with one of now; to be asked before the control group is removed."""
        last = self.look(seconds)
        return (*(one for one in self.taken if one.seconds < last.seconds), last)

    def _slot_of(self, seconds: float) -> int:
        # With a little to spare for a time that is a whole number of intervals but for its last bit.
        return int(seconds / self._interval_seconds + 1e-6)


class Layer:
    """The writable layer of a run, and how much of it the run has taken since this was made."""

    def __init__(self, rootfs: Rootfs) -> None:
        self._rootfs = rootfs
        self._room_bytes = rootfs.room_bytes()

    def taken(self) -> int:
        """In bytes, as its file system counts them."""
        # What was there before may have gone.
        return max(0, self._room_bytes - self._rootfs.room_bytes())


def looking(
    cgroups: Cgroups, group: str, network: Callable[[], Attached], layer: Callable[[], Layer | None]
) -> Look:
    """What the control group ``group`` uses, what went over its network, and what its layer holds."""

    def look(seconds: float) -> Sample:
        memory, pids = read_level(cgroups, group)
        usage = read_usage(cgroups, group)
        received, sent = network().traffic() or (None, None)
        written = layer()
        return Sample(
            seconds=round(seconds, 3),
            cpu_seconds=None if usage.cpu_seconds is None else round(usage.cpu_seconds, 6),
            memory_bytes=memory,
            pids=pids,
            read_bytes=usage.read_bytes,
            written_bytes=usage.written_bytes,
            received_bytes=received,
            sent_bytes=sent,
            layer_bytes=None if written is None else written.taken(),
        )

    return look
