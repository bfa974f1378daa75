"""The order of versions in each ecosystem, as keys that compare.

dpkg, apk and semver are our own: ``univers`` refuses versions of the first two that their tools take, and
lets build metadata decide between two versions of the third (semver 2.0, 10, says it must not). rpm and Maven
are ``univers``'s, Python's are ``packaging``'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from packaging.version import InvalidVersion
from packaging.version import Version as PythonVersion
from univers import maven, rpm

Key = Any
"""Keys of one order compare with ``<`` and ``==``; each order has its own type."""

_MAX_LENGTH = 300
_PRINTED = re.compile(r"[!-~]{1,300}")
_DPKG = re.compile(r"(?:(\d+):)?(.+?)(?:-([^-]+))?")
_PARTS = re.compile(r"(\D*)(\d*)")
_APK = re.compile(
    r"(\d+)((?:\.\d+)*)([a-z]?)((?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)\d*)*)(~[0-9a-f]+)?(?:-r(\d+))?"
)
_APK_SUFFIX = re.compile(r"_([a-z]+)(\d*)")
_APK_BEFORE = ("alpha", "beta", "pre", "rc")
_APK_AFTER = ("cvs", "svn", "git", "hg", "p")
_SEMVER = re.compile(
    r"[vV=]*(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.+-]*)?"
)
_GO_RELEASE = re.compile(r"(?:go)?(\d+\.\d+(?:\.\d+)?)(?:(rc|beta|alpha)(\d+))?")


class VersionInvalidError(ValueError):
    """Nobody can say where this version stands."""


def key_of(order: str, version: str) -> Key:
    """The key of a version in an order of :data:`ORDERS`.

    Raises:
        VersionInvalidError: the order does not know such versions.
    """
    if not _PRINTED.fullmatch(version):
        raise VersionInvalidError(f"no version: {version[:_MAX_LENGTH]!r}")
    return ORDERS[order](version)


def dpkg_key(version: str) -> Key:
    """deb-version(7): an epoch, then parts of other characters and of digits in turn; ``~`` is before the
    end, letters before the rest."""
    match = _DPKG.fullmatch(version)
    if match is None or version.endswith("-") or (":" in version and match[1] is None):
        raise VersionInvalidError(f"no version of dpkg: {version!r}")
    return (int(match[1] or 0), _dpkg_parts(match[2]), _dpkg_parts(match[3] or "0"))


def _dpkg_parts(text: str) -> tuple[tuple[int, ...] | int, ...]:
    parts: list[tuple[int, ...] | int] = []
    for match in _PARTS.finditer(text):
        if match[0]:
            parts += ((*(_dpkg_rank(letter) for letter in match[1]), 0), int(match[2] or 0))
    return (*parts, (0,), 0)


def _dpkg_rank(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256


def apk_key(version: str) -> Key:
    """As apk-tools compare: numbers, a letter, suffixes, a commit, a revision. What has more is later, but
    for the suffixes of what comes before a release. Numbers are compared as text if one begins with 0."""
    match = _APK.fullmatch(version)
    if match is None:
        raise VersionInvalidError(f"no version of apk: {version!r}")
    first, numbers, letter, suffixes, commit, revision = match.groups()
    key: list[tuple[int, Any]] = [(8, int(first))]
    key += [
        (7, (0, number) if number.startswith("0") else (1, int(number))) for number in numbers.split(".")[1:]
    ]
    if letter:
        key.append((6, letter))
    for name, number in _APK_SUFFIX.findall(suffixes):
        early = name in _APK_BEFORE
        key.append((0, _APK_BEFORE.index(name)) if early else (5, _APK_AFTER.index(name)))
        if number:
            key.append((4, int(number)))
    if commit:
        key.append((3, commit))
    if revision:
        key.append((2, int(revision)))
    return (*key, (1, 0))


def semver_key(version: str) -> Key:
    """Semantic Versioning 2.0, 11; parts that are left out at the end are 0."""
    match = _SEMVER.fullmatch(version)
    if match is None:
        raise VersionInvalidError(f"no semantic version: {version!r}")
    numbers = tuple(int(match[part] or 0) for part in (1, 2, 3))
    if match[4] is None:
        return (*numbers, 1, ())
    parts = match[4].split(".")
    return (*numbers, 0, tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts))


def go_key(version: str) -> Key:
    """Of modules semantic versions; Go's own releases are named differently, as in ``go1.21rc2``."""
    if (match := _GO_RELEASE.fullmatch(version)) is not None and match[2]:
        release = match[1] if match[1].count(".") == 2 else f"{match[1]}.0"
        return semver_key(f"{release}-{match[2]}.{match[3]}")
    return semver_key(version.removeprefix("go"))


def rpm_key(version: str) -> Key:
    """``[epoch:]version[-release]`` as rpm compares them."""
    try:
        key = rpm.RpmVersion.from_string(version)  # type: ignore[no-untyped-call]
    except ValueError:
        raise VersionInvalidError(f"no version of rpm: {version!r}") from None
    if not key.version or key.epoch < 0:
        raise VersionInvalidError(f"no version of rpm: {version!r}")
    return key


def rpm_bare_key(version: str) -> Key:
    """As :func:`rpm_key`, without the epoch: packages name the version of their source without it."""
    epoch, colon, rest = version.partition(":")
    return rpm_key(rest if colon and epoch.isdecimal() else version)


def python_key(version: str) -> Key:
    """PEP 440."""
    try:
        return PythonVersion(version)
    except InvalidVersion:
        raise VersionInvalidError(f"no version by PEP 440: {version!r}") from None


def maven_key(version: str) -> Key:
    """As Maven's ComparableVersion."""
    if not any(letter.isalnum() for letter in version) or "${" in version:
        raise VersionInvalidError(f"no version of Maven: {version!r}")
    return maven.Version(version)  # type: ignore[no-untyped-call]


ORDERS: Mapping[str, Callable[[str], Key]] = MappingProxyType(
    {
        "dpkg": dpkg_key,
        "apk": apk_key,
        "rpm": rpm_key,
        "rpm-bare": rpm_bare_key,
        "python": python_key,
        "semver": semver_key,
        "go": go_key,
        "maven": maven_key,
    }
)
