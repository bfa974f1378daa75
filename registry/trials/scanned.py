"""Whether the image of a part was scanned, as its row says it, and what is kept of a scan. Pure."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from pydantic import TypeAdapter

from registry.contract.scan import Found, Incomplete, Package, Reported, Scan
from registry.oci.digest import Digest, digest_of
from registry.trials.states import plain_text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 6
ListName = Literal["packages", "found", "incomplete", "reported"]
_ENTRIES: Mapping[ListName, TypeAdapter[Sequence[Any]]] = MappingProxyType(
    {
        "packages": TypeAdapter(tuple[Package, ...]),
        "found": TypeAdapter(tuple[Found, ...]),
        "incomplete": TypeAdapter(tuple[Incomplete, ...]),
        "reported": TypeAdapter(tuple[Reported, ...]),
    }
)
"""The lists, in their order in the document."""
_FRAMED_BYTES = 64 * 1024
"""A smaller document is read whole."""
_IN_FRAME = 500
"""So many entries of a list are compressed together, and read together."""
UNREADABLE = (zstd.ZstdError, ValueError)
"""What :func:`parse_document` raises where the bytes are no scan."""
Standing = Literal["asked", "off", "unable", "taken"]
"""``off``: the repository wants none. ``unable``: the worker that tried the image scans none."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """Where the scan of a part stands, and what it counted. A part that is done and still ``asked`` was not
    scanned, though it should have been."""

    state: Standing
    document_digest: str = ""
    packages: int = 0
    found: int = 0
    incomplete: int = 0
    truncated: bool = False

    def stored(self) -> str:
        """As it stands in a row."""
        return json.dumps(asdict(self) if self.state == "taken" else {"state": self.state})


ASKED, OFF, UNABLE = Scanned("asked"), Scanned("off"), Scanned("unable")


def parse_scanned(stored: str | None) -> Scanned | None:
    """What a row says; ``None``: nothing."""
    return None if stored is None else Scanned(**json.loads(stored))


@dataclass(frozen=True, slots=True)
class Component:
    """A package as advisories know it, wherever it is. ``source`` and ``source_version`` are the package's
    own where it has no source of another name or version."""

    kind: str
    ecosystem: str
    name: str
    version: str
    source: str
    source_version: str

    @property
    def key(self) -> str:
        """What stands for all of it in an index."""
        return hashlib.sha256(json.dumps(list(asdict(self).values())).encode()).hexdigest()


def component_of(package: Package) -> Component:
    """What of a package does not depend on where it is."""
    return Component(
        kind=package.kind,
        ecosystem=package.ecosystem,
        name=package.name,
        version=package.version,
        source=package.source or package.name,
        source_version=package.source_version or package.version,
    )


@dataclass(frozen=True, slots=True)
class Held:
    """A package in an image: whether all that is there of it belongs to a distribution's package, and the
    first layer that brought it; of what belongs to one in part, the first that brought the rest."""

    component: Component
    owned: bool
    layer: int


@dataclass(frozen=True, slots=True)
class Frame:
    """Entries of a list, from the number ``first`` on, which are ``size`` bytes of the packed document."""

    first: int
    offset: int
    size: int


Frames = Mapping[ListName, Sequence[Frame]]


@dataclass(frozen=True, slots=True)
class Document:
    """A scan as it is kept: no lease, and no character in it that moves a cursor."""

    digest: Digest
    packed: bytes
    packed_digest: Digest
    image: str
    platform: str
    scanner: str
    system: str
    scanned: Scanned
    layers: Sequence[str]
    """The line of the history of each, base first."""
    held: Sequence[Held]
    """Each package once."""
    frames: Frames | None
    """Where in ``packed`` the entries of its lists are; ``None``: it is small, and read whole."""


def document_of(scan: Scan) -> Document:
    """What is kept of a scan. It takes up to seconds."""
    harmless = Scan.model_validate(_harmless(scan.model_dump() | {"lease": ""}), strict=False)
    raw = harmless.model_dump_json().encode()
    packed, frames = _packed(raw, harmless)
    digest = digest_of(raw)
    system = harmless.system
    return Document(
        digest=digest,
        packed=packed,
        packed_digest=digest_of(packed),
        image=harmless.digest,
        platform=harmless.platform,
        scanner=harmless.scanner,
        system="" if system is None else system.name or f"{system.id} {system.version}".strip(),
        scanned=Scanned(
            "taken",
            document_digest=str(digest),
            packages=len(harmless.packages),
            found=len(harmless.found),
            incomplete=len(harmless.incomplete),
            truncated=harmless.truncated,
        ),
        layers=[layer.created_by for layer in harmless.layers],
        held=_held(harmless.packages),
        frames=frames,
    )


def parse_document(packed: bytes) -> Scan:
    """The scan that was kept."""
    return Scan.model_validate_json(zstd.decompress(packed))


def stored_frames(frames: Frames | None) -> str | None:
    """As they stand in a row."""
    if frames is None:
        return None
    return json.dumps({name: [[*astuple(one)] for one in found] for name, found in frames.items()})


def parse_frames(stored: str | None) -> Frames | None:
    """What a row says; ``None``: its document is read whole."""
    if stored is None:
        return None
    return {name: [Frame(*one) for one in found] for name, found in json.loads(stored).items()}


def parse_frame(packed: bytes, name: ListName) -> Sequence[Any]:
    """The entries that a frame holds."""
    # What divides it from the next one is at its end.
    entries = zstd.decompress(packed).removesuffix(b",")
    return _ENTRIES[name].validate_json(b"[" + entries + b"]")


def _packed(raw: bytes, scan: Scan) -> tuple[bytes, Frames | None]:
    """The document, compressed in frames one after the other, which is the same as compressed at once for
    whoever reads it whole; and which entries each of them holds."""
    if len(raw) < _FRAMED_BYTES:
        return zstd.compress(raw, level=_LEVEL), None
    begins: dict[int, tuple[ListName, int] | None] = {0: None}
    at = 0
    for name in _ENTRIES:
        entries = getattr(scan, name)
        # No text holds this: a quotation mark in one has a backslash before it.
        begin = raw.find(f',"{name}":['.encode(), at)
        if begin < 0 or not entries:
            continue
        at = raw.index(b"[", begin) + 1
        for number, entry in enumerate(entries):
            if number % _IN_FRAME == 0:
                begins[at] = (name, number)
            at += len(entry.model_dump_json().encode()) + 1
        assert raw[at - 1 : at] == b"]", f"an entry of {name} is not written as in its list"
        begins[at - 1] = None
    frames: dict[ListName, list[Frame]] = {}
    pieces = []
    offset = 0
    for begin, end in pairwise([*begins, len(raw)]):
        piece = zstd.compress(raw[begin:end], level=_LEVEL)
        if (held := begins[begin]) is not None:
            frames.setdefault(held[0], []).append(Frame(held[1], offset, len(piece)))
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces), frames


def _held(packages: Sequence[Package]) -> Sequence[Held]:
    found: dict[Component, Held] = {}
    for package in packages:
        component = component_of(package)
        this = Held(component, package.owned_by is not None, package.layer)
        before = found.get(component, this)
        found[component] = min(before, this, key=lambda one: (one.owned, one.layer))
    # In one order, so that two who store the same wait for each other in turn.
    return sorted(found.values(), key=lambda one: one.component.key)


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return {name: _harmless(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_harmless(one) for one in value]
    return value
