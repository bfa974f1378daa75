"""The small init that may go before a command: a program of this host, static, shown to the run read-only."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("catatonit", "tini-static", "docker-init")
"""By preference; each is called as ``PROGRAM -- COMMAND...`` and ends with 128 and the number of the signal
that its command died of."""
FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/libexec/podman", "/usr/libexec/catatonit")
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<II")
_INTERPRETER = 3


def find_init(folders: Sequence[str] = FOLDERS) -> Path | None:
    """The first one that is installed, belongs to root alone and needs no library of the image."""
    for folder in folders:
        for name in PROGRAMS:
            path = Path(os.path.realpath(Path(folder) / name))
            if _trusted(path) and _static(path):
                return path
    return None


def _trusted(path: Path) -> bool:
    try:
        info = path.stat()
    except OSError:
        return False
    executable = info.st_mode & 0o005 == 0o005
    return stat.S_ISREG(info.st_mode) and info.st_uid == 0 and executable and not info.st_mode & 0o022


def _static(path: Path) -> bool:
    """Whether no loader is asked for: one of the image would be another program."""
    try:
        with path.open("rb") as file:
            head = file.read(64 * 1024)
        fields = _HEADER.unpack_from(head)
        identity, start, size, count = fields[0], fields[5], fields[9], fields[10]
        if not identity.startswith(b"\x7fELF\x02\x01"):
            return False
        kinds = {_PROGRAM_HEADER.unpack_from(head, start + size * index)[0] for index in range(count)}
    except (OSError, struct.error):
        return False
    return _INTERPRETER not in kinds
