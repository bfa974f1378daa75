"""Package URLs (purl-spec 1.0): the name of a package that every tool knows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from packageurl import PackageURL

from registry.contract.scan import Package, PackageKind, Scan, System
from registry.errors import SeatrialError
from registry.oci.names import parse_image_name

TYPES: Mapping[PackageKind, str] = MappingProxyType(
    {
        "dpkg": "deb",
        "apk": "apk",
        "rpm": "rpm",
        "python": "pypi",
        "npm": "npm",
        "go": "golang",
        "rust": "cargo",
        "java": "maven",
        "other": "generic",
    }
)
"""By the kind of a package."""
DISTRIBUTED = ("deb", "apk", "rpm")
"""Types whose namespace is the distribution's name."""
_UNVERSIONED = "(devel)"
"""What Go says where a program was built without a version."""


def purl_of(package: Package, system: System | None) -> str | None:
    """The purl of a package in an image with this system; ``None`` where its name can be none.

    Of a distribution's package ``arch`` and ``distro`` say which it is, and ``epoch`` of an rpm.
    """
    kind = TYPES[package.kind]
    qualifiers: dict[str, str] = {}
    namespace, name, version = "", package.name, package.version
    if kind in DISTRIBUTED:
        namespace = system.id if system is not None else ""
        if package.architecture:
            qualifiers["arch"] = package.architecture
        if system is not None and system.id:
            qualifiers["distro"] = f"{system.id}-{system.version}" if system.version else system.id
        if kind == "rpm" and ":" in version:
            qualifiers["epoch"], _, version = version.partition(":")
    elif kind == "maven":
        namespace, _, name = name.rpartition(":")
    elif kind in ("npm", "golang"):
        namespace, _, name = name.rpartition("/")
    if version == _UNVERSIONED:
        version = ""
    try:
        return PackageURL(kind, namespace, name, version, qualifiers).to_string()
    except (ValueError, TypeError):  # the latter where nothing is left of a name once it is stripped
        return None


def purls_of(scan: Scan) -> list[str | None]:
    """The purl of each package of a scan, in their order."""
    return [purl_of(package, scan.system) for package in scan.packages]


def image_purl(image: str, scan: Scan) -> str | None:
    """The purl of an image that a registry has; ``None`` for one in a file or folder."""
    try:
        name = parse_image_name(image)
    except SeatrialError:
        return None
    _, _, architecture = scan.platform.partition("/")
    qualifiers = {"arch": architecture, "repository_url": f"{name.host}/{name.repository}"}
    if name.tag:
        qualifiers["tag"] = name.tag
    last = name.repository.rpartition("/")[2]
    return PackageURL("oci", None, last, scan.digest, qualifiers).to_string()
