"""What all formats tell alike: the tool, where a thing came from, what could not be looked at."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import quote

from registry.advisories.report import Report
from registry.contract.scan import Scan

TOOL = "seatrial"
NO_ADVISORIES = "no advisories were given: which vulnerabilities its packages have was not looked up"
_NAMESPACE = uuid.UUID("6d1bf8a2-52ab-4f3c-9d3e-7f2f0c1a9b55")


def tool_version() -> str:
    """The version of whoever writes the document."""
    return version("seatrial")


def time_of(at: datetime) -> str:
    """RFC 3339 in UTC with whole seconds: no format here takes less, and SPDX no more."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dumped(document: object) -> bytes:
    """A document of JSON as it is written; the same for the same values."""
    return json.dumps(document, indent=2).encode() + b"\n"


def same_for(document: object) -> uuid.UUID:
    """A UUID that is the same for the same values, and for no others."""
    return uuid.uuid5(_NAMESPACE, json.dumps(document, sort_keys=True))


def address_of(vulnerability: str) -> str:
    """A page about a vulnerability."""
    return f"https://osv.dev/vulnerability/{quote(vulnerability, safe='')}"


def layer_of(scan: Scan, index: int) -> str:
    """A layer in words: its number and its line of the history."""
    line = " ".join(scan.layers[index].created_by.split())
    return f"layer {index} ({line})" if line else f"layer {index}"


def base_of(known: Report) -> str:
    """What an image was built on, in a sentence."""
    if known.base is None:
        return "no base of it is known, so what came with one is not told apart"
    layers = f"its lowest {known.base.layers} of {len(known.scan.layers)} layers"
    return f"built on {known.base.repository}@{known.base.digest}: {layers}"


def gaps_of(scan: Scan) -> Iterator[str]:
    """What could not be looked at, a sentence for each; none: all of the image was looked at."""
    for one in scan.incomplete:
        where = f" {one.where}" if one.where else ""
        layer = "" if one.layer is None else f" (layer {one.layer})"
        yield f"{one.scanner}{where}{layer}: {one.reason}"
    if scan.truncated:
        yield "there was more than the document may hold"


def advisories_of(known: Report) -> str | None:
    """How old the advisories are, in a sentence; ``None``: there are none, or nothing is known of them."""
    oldest = None if known.advisories is None else known.advisories.oldest
    if known.advisories is None or oldest is None:
        return None
    sources = known.advisories.sources
    if len(sources) == 1:
        return f"held against advisories of {oldest.as_of:%Y-%m-%d} ({oldest.name})"
    newest = max(one.as_of for one in sources)
    told = f"the oldest ({oldest.name}) of {oldest.as_of:%Y-%m-%d}, the newest of {newest:%Y-%m-%d}"
    return f"held against advisories of {len(sources)} sources, {told}"


def age_in_days(at: datetime, now: datetime) -> str:
    """How long ago a time was, in whole days."""
    days = max(0, (now - at).days)
    return "1 day old" if days == 1 else f"{days} days old"


def not_looked_up_of(known: Report) -> Iterator[str]:
    """Which packages nobody looked up, a sentence for each ecosystem; and what else did not count."""
    yield from known.notes
    if known.advisories is None:
        yield NO_ADVISORIES
    for ecosystem, count in known.not_looked_up.items():
        of = f"of {ecosystem}" if ecosystem else "whose system advisories have no name for"
        yield f"not looked up: {count} packages {of}, about which these advisories say nothing"
