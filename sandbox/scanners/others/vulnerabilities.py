"""What formats share about vulnerabilities. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from packageurl import PackageURL

from registry.contract.scan import VULNERABILITY_ID, PackageKind
from registry.formats.purls import TYPES

_KINDS: Mapping[str, PackageKind] = MappingProxyType({name: kind for kind, name in TYPES.items()})


def is_id(name: str) -> bool:
    """Whether this can be the id of a vulnerability."""
    return re.fullmatch(VULNERABILITY_ID, name) is not None


def of_purl(purl: str) -> tuple[PackageKind, str, str] | None:
    """Kind, name and version of a package by its purl, as its own metadata has them; ``None``: it is no
    purl."""
    try:
        read = PackageURL.from_string(purl)
    except ValueError:
        return None
    kind = _KINDS.get(read.type, "other")
    name, version = read.name, read.version or ""
    if read.namespace and kind in ("npm", "go"):
        name = f"{read.namespace}/{name}"
    elif read.namespace and kind == "java":
        name = f"{read.namespace}:{name}"
    epoch = read.qualifiers.get("epoch") if isinstance(read.qualifiers, Mapping) else None
    if kind == "rpm" and epoch:
        version = f"{epoch}:{version}"
    return kind, name, version
