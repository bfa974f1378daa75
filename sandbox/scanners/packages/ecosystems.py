"""Under which name OSV has the advisories of a package. Pure.

Names: "Defined ecosystems" of the OSV schema. What it has no name for gets the empty one, never that of a
relative: an advisory of Debian says nothing of a package that somebody else has built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

LANGUAGES: Mapping[str, str] = {
    "python": "PyPI",
    "npm": "npm",
    "go": "Go",
    "rust": "crates.io",
    "java": "Maven",
}
UNVERSIONED: Mapping[str, str] = {"wolfi": "Wolfi", "chainguard": "Chainguard", "minimos": "MinimOS"}
BY_MAJOR: Mapping[str, str] = {
    "rocky": "Rocky Linux",
    "almalinux": "AlmaLinux",
    "azurelinux": "Azure Linux",
    "mariner": "Azure Linux",
    "mageia": "Mageia",
}

_major = re.compile(r"([1-9][0-9]*)(?:\.[0-9]+)*")
_alpine = re.compile(r"([1-9][0-9]*\.[0-9]+)(?:\.[0-9]+)?")
_ubuntu = re.compile(r"([0-9]{2})\.(04|10)")
_dotted = re.compile(r"[1-9][0-9]*\.[0-9]+")
_suse = re.compile(r"(12|15)(?:\.([0-9]))?")
_suse_name = re.compile(r"SUSE (Linux [A-Za-z ]{1,40} [0-9]{1,2}(?: SP[0-9]|\.[0-9]{1,2})?)")
_openeuler = re.compile(r"openEuler ([0-9]{2}\.[0-9]{2})(?: \((LTS(?:-SP[0-9]+)?)\))?")


class NamedSystem(Protocol):
    """What os-release says; a scan's ``System`` and a module's ``FoundSystem`` alike."""

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def name(self) -> str: ...


def ecosystem_of(system: NamedSystem | None, kind: str) -> str:
    """OSV's name for a package of ``kind`` on ``system`` (None: the image does not say), or empty."""
    if kind in LANGUAGES:
        return LANGUAGES[kind]
    if system is None:
        return ""
    match kind:
        case "dpkg":
            return _of_dpkg(system)
        case "apk":
            return _of_apk(system)
        case "rpm":
            return _of_rpm(system)
        case _:
            return ""


def _of_dpkg(system: NamedSystem) -> str:
    if system.id == "debian" and (found := _major.fullmatch(system.version)):
        return f"Debian:{found[1]}"
    if system.id == "ubuntu" and (found := _ubuntu.fullmatch(system.version)):
        # Each April's release of an even year is one with long-term support.
        long_term = found[2] == "04" and int(found[1]) % 2 == 0
        return f"Ubuntu:{system.version}{':LTS' if long_term else ''}"
    return ""


def _of_apk(system: NamedSystem) -> str:
    if system.id == "alpine" and (found := _alpine.fullmatch(system.version)):
        return f"Alpine:v{found[1]}"
    if system.id == "alpaquita" and system.version:
        return f"Alpaquita:{system.version}"
    return UNVERSIONED.get(system.id, "")


def _of_rpm(system: NamedSystem) -> str:
    if system.id in BY_MAJOR:
        found = _major.fullmatch(system.version)
        return f"{BY_MAJOR[system.id]}:{found[1]}" if found else ""
    match system.id:
        case "rhel" if found := _major.fullmatch(system.version):
            return f"Red Hat:enterprise_linux:{found[1]}"
        case "photon" if _dotted.fullmatch(system.version):
            return f"Photon OS:{system.version}"
        case "opensuse-tumbleweed":
            return "openSUSE:Tumbleweed"
        case "opensuse-leap" if _dotted.fullmatch(system.version):
            return f"openSUSE:Leap {system.version}"
        case "sles" if found := _suse.fullmatch(system.version):
            pack = f" SP{found[2]}" if found[2] and found[2] != "0" else ""
            return f"SUSE:Linux Enterprise Server {found[1]}{pack}"
        case "sles" if _dotted.fullmatch(system.version):
            return f"SUSE:Linux Enterprise Server {system.version}"
        case "sled" | "sles_sap" | "sle_hpc" | "sle-micro" | "sl-micro" if found := _suse_name.fullmatch(
            system.name
        ):
            return f"SUSE:{found[1]}"
        case "openEuler" if found := _openeuler.fullmatch(system.name):
            return f"openEuler:{found[1]}{'-' + found[2] if found[2] else ''}"
        case _:
            return ""
