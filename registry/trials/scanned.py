"""Whether the image of a part was scanned, as its row says it, and what is kept of a scan. Pure."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from registry.contract.scan import Package, Scan
from registry.oci.digest import Digest, digest_of
from registry.trials.states import plain_text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 6
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


def document_of(scan: Scan) -> Document:
    """What is kept of a scan. It takes up to seconds."""
    harmless = Scan.model_validate(_harmless(scan.model_dump() | {"lease": ""}), strict=False)
    raw = harmless.model_dump_json().encode()
    packed = zstd.compress(raw, level=_LEVEL)
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
    )


def parse_document(packed: bytes) -> Scan:
    """The scan that was kept."""
    return Scan.model_validate_json(zstd.decompress(packed))


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
