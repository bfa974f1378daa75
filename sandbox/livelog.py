"""What a run writes, on its way to the registry while it goes on: for whoever watches there.

Nothing of a trial depends on it: the report holds the whole log. So nothing here is waited for.
"""

from __future__ import annotations

import asyncio
import codecs
from dataclasses import dataclass, field

import structlog

from registry.contract import PROTOCOL_VERSION
from registry.contract.livelog import CHUNK_MAX, LogChunk
from sandbox.client import LeaseOver, RegistryClient, RegistryRefusal, RegistryUnreachable
from sandbox.probes.base import plain

PAUSE_SECONDS = 1.0
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("seatrial.worker")


@dataclass(slots=True)
class _Run:
    """One run and its output that the registry has not taken: no more than its log may have."""

    name: str
    attempt: int | None
    position: int = 0
    text: str = ""
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )


@dataclass(slots=True)
class LiveLog:
    """The output of the runs of one attempt, in their order."""

    _runs: list[_Run] = field(default_factory=list)
    _wanted: bool = True

    def begin(self, name: str, attempt: int | None) -> None:
        """The next run begins: what comes is its output."""
        if self._runs:
            self._add(self._runs[-1].decoder.decode(b"", final=True))
        self._runs.append(_Run(name, attempt))

    def take(self, chunk: bytes) -> None:
        """Some more output of the run that goes on."""
        self._add(self._runs[-1].decoder.decode(chunk))

    def _add(self, text: str) -> None:
        if self._wanted:
            # Character by character as the report will have it: a place in one is that in the other.
            self._runs[-1].text += plain(text)

    async def tell(self, client: RegistryClient, lease: str) -> None:
        """Tell the registry as it comes, at most once a second, until cancelled, or until the registry wants
        no more of it."""
        number = 0
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            while number + 1 < len(self._runs) and not self._runs[number].text:
                number += 1
            if number == len(self._runs) or not self._runs[number].text:
                continue
            try:
                if await self._tell(client, lease, number):
                    break
            except RegistryUnreachable:
                continue
            except (LeaseOver, RegistryRefusal) as error:
                # One of the version before knows nothing of it.
                log.debug("live log not taken", reason=str(error))
                break
        self._wanted = False
        for run in self._runs:
            run.text = ""

    async def _tell(self, client: RegistryClient, lease: str, number: int) -> bool:
        """Whether the registry has enough."""
        run = self._runs[number]
        chunk = LogChunk(
            protocol=PROTOCOL_VERSION,
            lease=lease,
            run=number,
            name=run.name,
            attempt=run.attempt,
            position=run.position,
            text=run.text[:CHUNK_MAX],
        )
        taken = await client.tell_log(chunk)
        # More than was sent it cannot have; less only where it is full.
        told = min(max(taken.position - run.position, 0), len(chunk.text))
        run.position, run.text = run.position + told, run.text[told:]
        return taken.full
