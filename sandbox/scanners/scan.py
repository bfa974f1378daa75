"""One image scanned: its layers, merged into the document that says what it holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
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
from sandbox.scanners.layers import LayerResult, Scanner, layer_result
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
    results: list[LayerResult | None] = []
    failed: list[Gap] = []
    with ExitStack() as stack:
        for number, blob in enumerate(image.layers):
            on_layer(number + 1, len(image.layers))
            left = deadline_at - time.monotonic()
            try:
                if left <= 0:
                    raise SandboxError("prepare-timeout", "there was no time left for it")
                with leased_ids() as ids:
                    result = await layer_result(
                        blob,
                        image.config.diff_ids[number],
                        cache=use.cache,
                        scanner=scanner,
                        ids=ids,
                        seconds=min(left, scanner.limits.layer_seconds),
                    )
            except SandboxError as error:
                failed.append(Gap("", "", error.message, number))
                results.append(None)
                continue
            except OSError as error:
                failed.append(Gap("", "", f"the worker cannot scan it: {error.strerror}", number))
                results.append(None)
                continue
            stack.callback(result.file.close)
            results.append(result)
            if result.problem:
                failed.append(Gap("", "", result.problem, number))
        scan = await asyncio.to_thread(_document, results, failed, subject, scanner)
    return await asyncio.to_thread(with_whole, scan, config, scanner.rules, now=datetime.now(UTC))


def failed_scan(
    image: PulledImage, scanner: Scanner, reason: str, *, digest: str, platform: str, lease: str = ""
) -> Scan:
    """What is said where nothing could be found out. Pure."""
    diff_ids = tuple(map(str, image.config.diff_ids))
    subject = Subject(digest, platform, diff_ids, ("",) * len(diff_ids), lease)
    return make_scan(View(), subject, scanner=_named(scanner), failed=[Gap("", "", reason, None)])


def _document(
    results: list[LayerResult | None], failed: list[Gap], subject: Subject, scanner: Scanner
) -> Scan:
    deadline_at = time.monotonic() + MERGE_SECONDS
    layers: list[LayerFacts] = [_NOTHING if one is None else one.lines for one in results]
    view = merge(layers, scanner.modules, is_late=lambda: time.monotonic() > deadline_at)
    return make_scan(view, subject, scanner=_named(scanner), failed=failed)


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
