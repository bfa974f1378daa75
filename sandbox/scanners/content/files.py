"""What is wrong with single files and folders, by name and mode."""

from __future__ import annotations

import re
from typing import BinaryIO

from sandbox.scanners.content.catalogue import mark, misconfigured
from sandbox.scanners.content.digests import digests_of
from sandbox.scanners.facts import Entry, Facts, FoundThing

_STICKY, _SETID, _OTHERS_WRITE, _GROUP_WRITES = 0o1000, 0o6000, 0o002, 0o020
_ACCOUNTS = re.compile(r"etc/(passwd|shadow|group|gshadow|sudoers)")
_SHELLS = re.compile(r"(usr/)?bin/(sh|bash|dash|ash|zsh|ksh|busybox)|busybox/(sh|busybox)")
_NEVER_SET = re.compile(
    r"(.*/)?((a|ba|c|da|fi|k|mk|tc|z)?sh|busybox|(python|perl|ruby|lua|php|node|nodejs|tclsh)[0-9.]*"
    r"|[gmn]?awk|cat|chmod|chown|cp|dd|ed|env|find|less|more|mv|nano|rvim|sed|tar|tee|vi|view|vim(\..+)?|xargs)"
)
"""Programs that run or write whatever they are told: no distribution has one set the user."""
_BY_NAME = {
    "ST-SUDO": re.compile(r"(usr/)?bin/(sudo|doas)"),
    "ST-REMOTE-LOGIN": re.compile(r"(usr/)?(local/)?s?bin/(sshd|in\.telnetd|telnetd|utelnetd|dropbear)"),
    "ST-AUTHORIZED-KEYS": re.compile(r"(.*/)?\.ssh/authorized_keys2?"),
    "ST-SSH-HOST-KEY": re.compile(r"etc/(ssh/ssh_host_[a-z0-9]+_key|dropbear/dropbear_[a-z0-9]+_host_key)"),
    "ST-GIT-FOLDER": re.compile(r"(.*/)?\.git/HEAD"),
    "ST-LIBRARY-PRELOAD": re.compile(r"etc/ld\.so\.preload"),
}
_CACHES = re.compile(
    r"(?P<apt>var/cache/apt/archives/[^/]+\.deb|var/lib/apt/lists/[^/]+_(In)?Release)"
    r"|(?P<apk>var/cache/apk/APKINDEX\..+|etc/apk/cache/APKINDEX\..+)|(?P<rpm>var/cache/(yum|dnf|libdnf5|zypp)/.+/.+)"
    r"|(?P<pip>(root|home/[^/]+)/\.cache/(pip|uv)/.+)|(?P<npm>(root|home/[^/]+)/\.npm/_cacache/.+)"
    r"|(?P<go>(root|home/[^/]+)/\.cache/go-build/.+)"
)
_NAMES = re.compile("|".join(pattern.pattern for pattern in (*_BY_NAME.values(), _CACHES, _SHELLS)))


class FileRules:
    """A :class:`~sandbox.scanners.facts.Module` for one layer: a cache is told once in it."""

    name = "files"
    version = 2

    def __init__(self) -> None:
        self._caches: set[str | None] = set()

    def wants(self, entry: Entry) -> bool:
        if entry.kind == "link":
            return False
        if entry.kind == "other":
            return not entry.path.startswith("dev/")
        return bool(entry.mode & (_SETID | _OTHERS_WRITE | _GROUP_WRITES) or entry.capabilities) or (
            entry.kind == "file" and _NAMES.fullmatch(entry.path) is not None
        )

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        """What is wrong with it."""
        if entry.kind == "other":
            return Facts(things=(misconfigured("ST-SPECIAL-FILE", _mode(entry)),))
        if entry.kind == "folder":
            open_to_all = entry.mode & _OTHERS_WRITE and not entry.mode & _STICKY
            return Facts(
                things=(misconfigured("ST-WORLD-WRITABLE-FOLDER", _mode(entry)),) if open_to_all else ()
            )
        return Facts(things=(*self._by_mode(entry, content), *self._by_name(entry)))

    def _by_mode(self, entry: Entry, content: BinaryIO) -> list[FoundThing]:
        things = []
        if _ACCOUNTS.fullmatch(entry.path) and entry.mode & (_OTHERS_WRITE | _GROUP_WRITES):
            things.append(misconfigured("ST-ACCOUNTS-WRITABLE", _mode(entry)))
        elif entry.mode & _OTHERS_WRITE:
            things.append(misconfigured("ST-WORLD-WRITABLE-FILE", _mode(entry)))
        # Without the right to run it, set-group-id is an old sign for locks.
        is_set = entry.mode & 0o4000 or entry.mode & 0o2010 == 0o2010
        if (is_set and entry.mode & 0o111) or entry.capabilities:
            digests = () if _NEVER_SET.fullmatch(entry.path) else digests_of(content)
            if is_set and entry.mode & 0o111:
                things.append(misconfigured("ST-SETUID", _mode(entry), digests=digests))
            if entry.capabilities:
                things.append(misconfigured("ST-FILE-CAPABILITIES", _mode(entry), digests=digests))
        return things

    def _by_name(self, entry: Entry) -> list[FoundThing]:
        if not _NAMES.fullmatch(entry.path):
            return []
        if _SHELLS.fullmatch(entry.path):
            return [mark("shell", entry.path)]
        if cache := _CACHES.fullmatch(entry.path):
            if cache.lastgroup in self._caches:
                return []
            self._caches.add(cache.lastgroup)
            return [misconfigured("ST-PACKAGE-CACHE", cache.lastgroup or "")]
        return [
            misconfigured(rule)
            for rule, pattern in _BY_NAME.items()
            if pattern.fullmatch(entry.path) and entry.size_bytes > 0
        ]


def _mode(entry: Entry) -> str:
    return f"mode {entry.mode & 0o7777:04o}, owner {entry.uid}:{entry.gid}"
