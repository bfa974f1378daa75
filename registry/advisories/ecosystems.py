"""What ecosystems of OSV have of their own: the order of versions, and which names are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_SEPARATORS = re.compile(r"[-_.]+")

_DISTRIBUTIONS: Mapping[str, str] = MappingProxyType(
    {
        "Debian": "dpkg",
        "Ubuntu": "dpkg",
        "Echo": "dpkg",
        "Alpine": "apk",
        "Alpaquita": "apk",
        "BellSoft Hardened Containers": "apk",
        "Chainguard": "apk",
        "MinimOS": "apk",
        "Wolfi": "apk",
        "AlmaLinux": "rpm",
        "Amazon Linux": "rpm",
        "Azure Linux": "rpm",
        "Fedora": "rpm",
        "Mageia": "rpm",
        "Oracle Linux": "rpm",
        "Photon OS": "rpm",
        "Red Hat": "rpm",
        "Rocky Linux": "rpm",
        "SUSE": "rpm",
        "openEuler": "rpm",
        "openSUSE": "rpm",
    }
)
_LANGUAGES: Mapping[str, str] = MappingProxyType(
    {"PyPI": "python", "npm": "semver", "crates.io": "semver", "Go": "go", "Maven": "maven"}
)


def family(ecosystem: str) -> str:
    """``Debian`` of ``Debian:12``."""
    return ecosystem.partition(":")[0]


def order_of(ecosystem: str) -> str | None:
    """Which order of :data:`~registry.advisories.versions.ORDERS` its versions have, if any is known."""
    name = family(ecosystem)
    return _DISTRIBUTIONS.get(name) or _LANGUAGES.get(name)


def is_distribution(ecosystem: str) -> bool:
    """Whether its packages are those of an operating system."""
    return family(ecosystem) in _DISTRIBUTIONS


def fold(ecosystem: str, name: str) -> str:
    """The name by which a package is looked up: of Python by PEP 503, of all others as it is. Names of Go are
    case-sensitive, and an old npm name may have capitals too."""
    return _SEPARATORS.sub("-", name).lower() if ecosystem == "PyPI" else name
