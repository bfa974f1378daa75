"""The capabilities that a run may have, by the names of capabilities(7) without ``CAP_``.

All count inside the run's own user namespace only. What the layers around a run rely on to be missing is
given to none, and neither is what the kernel asks for outside of any user namespace: it would do nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from registry.errors import RequestInvalidError

KEPT: Mapping[str, int] = MappingProxyType(
    {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7}
)
"""Those of an image that starts as root, under the profile ``standard``, with the kernel's numbers. A run
spec may give them to another user as well: it could as well start the run as root."""
GRANTABLE: Mapping[str, int] = MappingProxyType(
    {"SETPCAP": 8, "NET_BIND_SERVICE": 10, "IPC_OWNER": 15, "SYS_CHROOT": 18, "SETFCAP": 31}
)
"""Those that a run spec may ask for where the worker's operator allows each by name."""
_PRIVATE = "it counts outside of user namespaces only, and would be without effect in a run"
NEVER: Mapping[str, str] = MappingProxyType(
    {
        "BPF": "it puts programs into the host's kernel",
        "CHECKPOINT_RESTORE": "it opens the memory of processes",
        "DAC_READ_SEARCH": "it opens files by their handles, past the run's root",
        "MAC_ADMIN": "it changes the rules of AppArmor and SELinux",
        "MAC_OVERRIDE": "it passes by the rules of AppArmor and SELinux",
        "NET_ADMIN": "it changes the network that a run is held in",
        "NET_RAW": "its packets pass by the fence around a run's network",
        "PERFMON": "it watches the host's kernel",
        "SYS_ADMIN": "it undoes what isolates a run: mounts, namespaces, filters",
        "SYS_BOOT": "it ends the system or loads another",
        "SYS_MODULE": "it loads modules into the host's kernel",
        "SYS_PTRACE": "it opens the memory of processes",
        "SYS_RAWIO": "it reaches the host's hardware",
        "SYS_TIME": "it sets the host's clock",
        "SYSLOG": "it reads the log of the host's kernel",
        **dict.fromkeys(("AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND"), _PRIVATE),
        **dict.fromkeys(("IPC_LOCK", "LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_BROADCAST"), _PRIVATE),
        **dict.fromkeys(("SYS_NICE", "SYS_PACCT", "SYS_RESOURCE", "SYS_TTY_CONFIG"), _PRIVATE),
        "WAKE_ALARM": _PRIVATE,
    }
)
"""Those that no run is given, each with why."""


def parse_capability(text: str) -> str:
    """The name as it stands here, of one that runs can have: ``cap_chown`` is ``CHOWN``.

    Raises:
        ValueError: there is none of that name, or no run is given it.
    """
    name = text.upper().removeprefix("CAP_")
    if name in NEVER:
        raise ValueError(f"{name} is given to no run: {NEVER[name]}")
    if name not in KEPT and name not in GRANTABLE:
        raise ValueError(
            f"{text[:40]!r} is no capability; a run can have {', '.join(sorted((*KEPT, *GRANTABLE)))}"
        )
    return name


def parse_allowed(texts: Iterable[str]) -> frozenset[str]:
    """What ``--allow-capability NAME`` says, each time that it is given.

    Raises:
        RequestInvalidError: there is none of that name, or no run is given it.
    """
    try:
        return frozenset(parse_capability(text) for text in texts)
    except ValueError as error:
        raise RequestInvalidError(f"--allow-capability: {error}") from None
