"""What ecosystems of OSV have of their own: the order of versions, which names are the same, and which of
them are about the same packages."""

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
_RED_HAT = re.compile(r"Red Hat:enterprise_linux:(\d+)(?:\.\d+)?(?:::.*)?")
_SUSE = re.compile(r"SUSE:((?:Linux|Package Hub)[A-Za-z0-9& -]*?) (\d+(?: SP\d+|\.\d+)?)(?:-[A-Za-z]+)*")
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


def names_either(ecosystem: str) -> bool:
    """Whether advisories may name a package by its own name or by that of its source. Those of rpm do: SUSE
    and Rocky Linux name sources, AlmaLinux and Photon OS what is built of them, Red Hat both."""
    return order_of(ecosystem) == "rpm"


def line_of(ecosystem: str) -> str:
    """What stands for all ecosystems whose records are about the same packages; mostly the ecosystem itself.

    Red Hat and SUSE name products, which no image tells: each of Red Hat's repositories of one release of its
    Enterprise Linux (``Red Hat:enterprise_linux:8::baseos``), and each module of a service pack of SUSE's,
    with what is only mended for who pays longer (``SUSE:Linux Enterprise Server 15 SP4-LTSS``).
    """
    if (match := _RED_HAT.fullmatch(ecosystem)) is not None:
        return f"Red Hat:enterprise_linux:{match[1]}"
    if (match := _SUSE.fullmatch(ecosystem)) is not None:
        # Micro has releases of its own: 5.5 is no release of anything else.
        return f"SUSE:{'Linux Micro' if 'Micro' in match[1] else 'Linux Enterprise'} {match[2]}"
    return ecosystem


def fold(ecosystem: str, name: str) -> str:
    """The name by which a package is looked up: of Python by PEP 503, of all others as it is. Names of Go are
    case-sensitive, and an old npm name may have capitals too."""
    return _SEPARATORS.sub("-", name).lower() if ecosystem == "PyPI" else name
