"""What distributions publish in forms of their own: Debian's security tracker and its lists of bulletins,
changelogs of packages, and Alpine's secdb."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from registry.advisories.facts import Fact, is_fit
from registry.advisories.reading import BROKEN, regular_members, unpacked
from registry.advisories.severity import severity_of_word
from registry.advisories.values import Skip

_RELEASES: Mapping[str, str] = MappingProxyType(
    {
        "stretch": "Debian:9",
        "buster": "Debian:10",
        "bullseye": "Debian:11",
        "bookworm": "Debian:12",
        "trixie": "Debian:13",
        "forky": "Debian:14",
        "duke": "Debian:15",
        "focal": "Ubuntu:20.04:LTS",
        "jammy": "Ubuntu:22.04:LTS",
        "noble": "Ubuntu:24.04:LTS",
        "plucky": "Ubuntu:25.04",
        "questing": "Ubuntu:25.10",
        "resolute": "Ubuntu:26.04:LTS",
    }
)
_SUITE = re.compile(r"([a-z]+)(?:-security|-updates|-proposed-updates|-proposed|-backports|-lts)?")
_NAME = re.compile(r"CVE-\d{4}-\d{4,10}")
_TRACKED = re.compile(r"(?:CVE-\d{4}-\d{4,10}|TEMP-\d{1,10}-[0-9A-F]{1,10})")
_BULLETIN = re.compile(r"\[\d\d \w{3} \d{4}\] (D[SL]A-\d+(?:-\d+)?)\s")
_BULLETIN_FIX = re.compile(r"\[(\w+)\] - (\S+) (\S+)")
_ENTRY = re.compile(r"(\S+) \(([^)\s]+)\) +([^;\s][^;\n]*);")
_IN_PACKAGE = re.compile(r"(?:\./)?usr/share/doc/[^/]+/changelog(?:\.Debian)?(?:\.gz)?")
_CHANGELOG_BYTES = 16 * 1024 * 1024
_UNPACKED_BYTES = 2 * 1024**3


def release_of(suite: str) -> str | None:
    """``Debian:12`` of ``bookworm-security``."""
    match = _SUITE.fullmatch(suite)
    return _RELEASES.get(match[1]) if match else None


def debian_tracker(document: Mapping[str, Any]) -> Iterator[Fact | Skip]:
    """https://security-tracker.debian.org/tracker/data/json: what is open and what is fixed, by release."""
    for package, vulnerabilities in sorted(document.items()):
        if not isinstance(vulnerabilities, dict) or not is_fit(package):
            yield Skip(package[:100], "no package of the tracker")
            continue
        for name, said in sorted(vulnerabilities.items()):
            releases = said.get("releases") if isinstance(said, dict) else None
            if not isinstance(releases, dict) or not _TRACKED.fullmatch(name):
                yield Skip(f"{package[:100]} {name[:100]}", "no vulnerability of the tracker")
                continue
            for release, state in sorted(releases.items()):
                yield from _tracked(package, name, said, release, state)


def _tracked(
    package: str, name: str, said: Mapping[str, Any], release: str, state: object
) -> Iterator[Fact | Skip]:
    where = f"{package} {name} {release[:50]}"
    if not isinstance(state, dict):
        yield Skip(where, "no state of a release")
        return
    ecosystem = _RELEASES.get(release)
    if ecosystem is None:
        yield Skip(where, "a release without a number")
        return
    fixed = state.get("fixed_version", "") if state.get("status") == "resolved" else ""
    if state.get("status") not in ("resolved", "open", "undetermined") or not isinstance(fixed, str):
        yield Skip(where, "no state of a release")
    elif state.get("status") == "resolved" and not is_fit(fixed):
        yield Skip(where, "a version that is none")
    elif fixed != "0":  # which says that the release never had it
        summary = said.get("description")
        yield Fact(
            name,
            ecosystem,
            package,
            fixed,
            severity_of_word(state.get("urgency")),
            summary[:400] if isinstance(summary, str) else "",
        )


def debian_bulletins(text: str) -> Iterator[Fact | Skip]:
    """data/DSA/list and data/DLA/list of Debian's tracker: what a bulletin fixed, by release."""
    bulletin, names = "", list[str]()
    for line in text.splitlines():
        if (match := _BULLETIN.match(line)) is not None:
            bulletin, names = match[1], []
        elif "{" in line:
            names = _NAME.findall(line)
        elif (fix := _BULLETIN_FIX.search(line)) is not None and bulletin:
            release, package, version = fix.groups()
            ecosystem = _RELEASES.get(release)
            if ecosystem is None:
                yield Skip(f"{bulletin} {release}"[:200], "a release without a number")
            elif version.startswith("<"):
                yield Skip(f"{bulletin} {package}"[:200], "no fixed version")
            elif not is_fit(package, version):
                yield Skip(bulletin, "a version that is none")
            elif not names:
                yield Skip(bulletin, "names no CVE")
            else:
                for name in names:
                    yield Fact(name, ecosystem, package, version)


def alpine_secdb(document: Mapping[str, Any], where: str) -> Iterator[Fact | Skip]:
    """https://secdb.alpinelinux.org: which version of a package fixed what."""
    version, packages = document.get("distroversion"), document.get("packages")
    if not isinstance(version, str) or not isinstance(packages, list) or not re.fullmatch(r"[\w.]+", version):
        yield Skip(where, "no secdb of a release")
        return
    ecosystem = f"Alpine:{version}"
    for one in packages:
        package = one.get("pkg") if isinstance(one, dict) else None
        name = package.get("name") if isinstance(package, dict) else None
        fixes = package.get("secfixes") if isinstance(package, dict) else None
        if not isinstance(name, str) or not isinstance(fixes, dict) or not is_fit(name):
            yield Skip(where, "no package of secdb")
            continue
        for fixed, names in fixes.items():
            if fixed == "0":  # the package never had it
                continue
            if not is_fit(fixed) or not isinstance(names, list):
                yield Skip(f"{where} {name}", "a version that is none")
                continue
            for text in names:
                for found in _NAME.findall(text) if isinstance(text, str) else ():
                    yield Fact(found, ecosystem, name, fixed)


def changelog(text: str, where: str, ecosystem: str | None) -> Iterator[Fact | Skip]:
    """A changelog of a Debian package: the oldest entry that names a CVE is the one that fixed it.

    Without an ecosystem the suite of the newest entry tells it.
    """
    fixed: dict[str, str] = {}
    package = version = ""
    for line in text.splitlines():
        if (match := _ENTRY.match(line)) is not None:
            if not package:
                package = match[1]
                ecosystem = ecosystem or release_of(match[3].split()[0])
            version = match[2] if match[1] == package else ""
        elif version:
            # Entries are newest first: what is written last is the oldest.
            fixed.update((name, version) for name in _NAME.findall(line))
    if not package:
        yield Skip(where, "no changelog")
    elif ecosystem is None:
        yield Skip(where, "a changelog of no release; --ecosystem says which")
    else:
        for name, one in fixed.items():
            if is_fit(package, one):
                yield Fact(name, ecosystem, package, one)


def changelog_of_deb(content: bytes) -> str | None:
    """The changelog in a Debian package (an ar archive with a tar of files), if it has one.

    Raises:
        ValueError: it is no such package, or broken.
    """
    if not content.startswith(b"!<arch>\n"):
        raise ValueError("no ar archive")
    at = 8
    while at + 60 <= len(content):
        name = content[at : at + 16].rstrip().rstrip(b"/")
        size = int(content[at + 48 : at + 58])
        if size < 0:
            raise ValueError("a size below zero")
        body = content[at + 60 : at + 60 + size]
        if name.startswith(b"data.tar"):
            return _changelog_of_tar(body)
        at += 60 + size + size % 2
    raise ValueError("no files")


def _changelog_of_tar(body: bytes) -> str | None:
    found: str | None = None
    try:
        for name, stream in regular_members(unpacked(io.BytesIO(body)), _UNPACKED_BYTES):
            if _IN_PACKAGE.fullmatch(name):
                data = unpacked(io.BytesIO(stream.read(_CHANGELOG_BYTES)))
                found = data.read(_CHANGELOG_BYTES).decode("utf-8", "replace")
                if "Debian" in name:
                    break
    except BROKEN as error:
        if found is None:
            raise ValueError(str(error)) from None
    return found
