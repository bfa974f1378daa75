"""Landlock by its three calls: a domain that a thread enters and never leaves.

Light on purpose: the confined child imports it. The kernel shows nowhere in which domain a process is.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from sandbox import syscalls as kernel

SCOPES_ABI = 6
"""The first version that knows scopes (Linux 6.12)."""
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_RULE_PATH_BENEATH = 1


def version() -> int:
    """The kernel's Landlock ABI; 0 where there is none, or it is not active."""
    try:
        return kernel.syscall(_CREATE, 0, 0, _ASK_VERSION, what="landlock")
    except OSError:
        return 0


def restrict(
    *, files: int = 0, network: int = 0, scoped: int = 0, below: Sequence[tuple[int, int]] = ()
) -> None:
    """Take the rights ``files`` and ``network`` from this thread and what it starts, but for ``below``: pairs
    of rights and the descriptor of a folder; ``scoped`` keeps to its own domain what it may reach.

    The thread has no_new_privs or CAP_SYS_ADMIN; what this kernel's version does not know must be 0.

    Raises:
        OSError: the kernel refuses.
    """
    attributes = struct.pack("QQQ", files, network, scoped)
    # An older kernel takes a longer structure if what it does not know is zero.
    ruleset = kernel.syscall(
        _CREATE, ctypes.c_char_p(attributes), len(attributes), 0, what="landlock_create_ruleset"
    )
    try:
        for rights, folder in below:
            rule = ctypes.c_char_p(struct.pack("=Qi", rights, folder))
            kernel.syscall(_ADD, ruleset, _RULE_PATH_BENEATH, rule, 0, what="landlock_add_rule")
        kernel.syscall(_RESTRICT, ruleset, 0, what="landlock_restrict_self")
    finally:
        os.close(ruleset)
