"""One image scanned: its layers, merged into the document that says what it holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from registry.contract.scan import Scan
from registry.oci.strictjson import parse_json_object
from sandbox.errors import SandboxError
from sandbox.ids import leased_ids
from sandbox.images.cache import Use
from sandbox.images.pull import PulledImage
from sandbox.scanners.content.whole import shown_lines, with_whole
from sandbox.scanners.document import Subject, make_scan
from sandbox.scanners.facts import Alias
from sandbox.scanners.layers import LayerResult, Scanner, layer_result
from sandbox.scanners.lines import Both, LineFile
from sandbox.scanners.loading import version_line
from sandbox.scanners.merge import Gap, LayerFacts, View, merge

OnLayer = Callable[[int, int], None]
MERGE_SECONDS = 120.0
"""What putting the layers of one image together may take; most take a second."""


async def scan_image(
    image: PulledImage,
    use: Use,
    scanner: Scanner,
    *,
    digest: str,
    platform: str,
    lease: str = "",
    on_layer: OnLayer = lambda _number, _of: None,
) -> Scan:
    """Scan an image whose blobs are held by ``use``. What could not be looked at is in the document: this
    raises nothing that has to do with the image. ``on_layer`` is told the number, from 1, of each layer, and
    how many there are."""
    config = parse_json_object(raw_config(image, use))
    subject = Subject(
        digest=digest,
        platform=platform,
        lease=lease,
        diff_ids=tuple(map(str, image.config.diff_ids)),
        created_by=await asyncio.to_thread(shown_lines, config, len(image.layers), scanner.rules),
    )
    deadline_at = time.monotonic() + scanner.limits.seconds
    with ExitStack() as stack:
        reading = _Reading(image, use, scanner, deadline_at, stack, on_layer)
        first = await reading.layers()
        view = await asyncio.to_thread(_merged, [one or _NOTHING for one in first], scanner)
        if read := view.aliases:
            second = await reading.layers(read)
            both = [
                Both(one, more) if one and more else one or _NOTHING
                for one, more in zip(first, second, strict=True)
            ]
            view = await asyncio.to_thread(_merged, both, scanner, read)
        scan = await asyncio.to_thread(
            make_scan, view, subject, scanner=_named(scanner), failed=reading.failed
        )
    return await asyncio.to_thread(with_whole, scan, config, scanner.rules, now=datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class _Reading:
    """Of an image's layers, and why what failed did."""

    image: PulledImage
    use: Use
    scanner: Scanner
    deadline_at: float
    stack: ExitStack
    on_layer: OnLayer
    failed: list[Gap] = field(default_factory=list)

    async def layers(self, aliases: Sequence[Alias] = ()) -> list[LineFile | None]:
        """What each layer says, of all that is in it or of what lies at ``aliases``."""
        found: list[LineFile | None] = []
        for number in range(len(self.image.layers)):
            self.on_layer(number + 1, len(self.image.layers))
            try:
                result = await self._layer(number, aliases)
            except SandboxError as error:
                self.failed.append(Gap("", "", error.message, number))
                found.append(None)
                continue
            except OSError as error:
                self.failed.append(Gap("", "", f"the worker cannot scan it: {error.strerror}", number))
                found.append(None)
                continue
            self.stack.callback(result.file.close)
            found.append(result.lines)
            if result.problem:
                self.failed.append(Gap("", "", result.problem, number))
        return found

    async def _layer(self, number: int, aliases: Sequence[Alias]) -> LayerResult:
        left = self.deadline_at - time.monotonic()
        if left <= 0:
            raise SandboxError("prepare-timeout", "there was no time left for it")
        with leased_ids() as ids:
            return await layer_result(
                self.image.layers[number],
                self.image.config.diff_ids[number],
                cache=self.use.cache,
                scanner=self.scanner,
                ids=ids,
                seconds=min(left, self.scanner.limits.layer_seconds),
                aliases=aliases,
            )


def failed_scan(
    image: PulledImage, scanner: Scanner, reason: str, *, digest: str, platform: str, lease: str = ""
) -> Scan:
    """What is said where nothing could be found out. Pure."""
    diff_ids = tuple(map(str, image.config.diff_ids))
    subject = Subject(digest, platform, diff_ids, ("",) * len(diff_ids), lease)
    return make_scan(View(), subject, scanner=_named(scanner), failed=[Gap("", "", reason, None)])


def _merged(layers: Sequence[LayerFacts], scanner: Scanner, read: Sequence[Alias] = ()) -> View:
    deadline_at = time.monotonic() + MERGE_SECONDS
    return merge(layers, scanner.modules, read=read, is_late=lambda: time.monotonic() > deadline_at)


def _named(scanner: Scanner) -> str:
    return f"seatrial {version('seatrial')} ({version_line(scanner.modules)})"


class _Nothing:
    """A layer of which nothing is known."""

    def records(self) -> tuple[Mapping[str, object], ...]:
        return ()

    def owned(self) -> tuple[tuple[str, str, str, str], ...]:
        return ()

    def digests(self) -> tuple[bytes, bytes]:
        return b"", b""


_NOTHING = _Nothing()


def raw_config(image: PulledImage, use: Use) -> bytes:
    """The configuration of an image whose blobs are held by ``use``, as it came."""
    assert image.manifest.config is not None
    return use.cache.blob(image.manifest.config.digest).read_bytes()
