"""From what was seen to how a run ended: pure rules, each with a reason of its own."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable, Sequence

from registry.contract.capabilities import GRANTABLE, KEPT, NEVER
from registry.contract.limits import MIB, Limits
from registry.contract.report import EndReason, Run
from sandbox.probes.base import Ending, plain
from sandbox.runtimes.readings import Usage
from sandbox.runtimes.watch import Over

# The kernel charges memory in batches: a group at its limit may stand a little below it.
_OOM_SPARE_BYTES = 4 * MIB
_TAIL_BYTES = 16 * 1024
_FATAL = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT),
        *(signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGALRM),
        *(signal.SIGTERM, signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ),
    }
)
# A report has at most 4 MiB, and a log can need six bytes of JSON for one of its own.
_LOG_JSON_BYTES = 3 * 1024 * 1024 + 1024
_COMMAND_CHARACTERS = 16 * 1024
_COMMAND_WORDS = 2000
# Behind the words, in a Python traceback on the next line; not far, since lines are a stranger's.
_DENIED = (
    r"(?:[^\n]{0,300}\n[^\n]{0,40}error: )?[^\n]{0,300}"
    r"(?:operation not permitted|permission denied|function not implemented)"
)
# Before them, as Node says it.
_EPERM = r"eperm: operation not permitted, "
_READONLY = "read-only file system"
# What programs say when a right is missing, most telling first. A text that an image fakes turns its own
# `fail` into `error`: nothing is won by it.
_CAPABILITY_TEXTS: tuple[tuple[str, str], ...] = (
    (rf"iptables|ip6tables|nftables|rtnetlink answers{_DENIED}", "CAP_NET_ADMIN"),
    (rf"(?:raw socket|sock_raw|ping: socket){_DENIED}", "CAP_NET_RAW"),
    (rf"(?:pivot_root|unshare|setns|\bu?mount\b|mount:){_DENIED}", "CAP_SYS_ADMIN"),
    (rf"chroot{_DENIED}", "CAP_SYS_CHROOT"),
    (rf"mknod{_DENIED}", "CAP_MKNOD"),
    (
        rf"(?:settimeofday|clock_settime|adjtime|set(?:ting)? (?:the )?(?:date|clock)){_DENIED}",
        "CAP_SYS_TIME",
    ),
    (rf"(?:ptrace|process_vm_){_DENIED}", "CAP_SYS_PTRACE"),
    (rf"(?:mlock|lock memory){_DENIED}", "CAP_IPC_LOCK"),
    (rf"(?:sched_set|set_?priority|renice){_DENIED}", "CAP_SYS_NICE"),
    (rf"(?:setrlimit|rlimit_){_DENIED}", "CAP_SYS_RESOURCE"),
    (rf"(?:init_module|modprobe|insmod){_DENIED}", "CAP_SYS_MODULE"),
    (rf"(?:setcap|set capabilities on file){_DENIED}", "CAP_SETFCAP"),
    (rf"(?:setgroups|initgroups|setre?s?gid|setegid){_DENIED}|{_EPERM}set(?:groups|e?gid)", "CAP_SETGID"),
    (
        rf"(?:setre?s?uid|seteuid|failed switching to|su: |setpriv: ){_DENIED}|{_EPERM}sete?uid",
        "CAP_SETUID",
    ),
    (rf"(?:chown|changing ownership|change owner){_DENIED}|{_EPERM}[lf]?chown", "CAP_CHOWN"),
    (rf"(?:chmod|changing permissions){_DENIED}|{_EPERM}[lf]?chmod", "CAP_FOWNER"),
)
_NOT_EXECUTABLE = re.compile(
    rb"\A(?:exec /[^\n]*|exec user process caused|[^\n]*standard_init_linux[^\n]*"
    rb"|\{\"msg\":\"exec container process [^\n`]*`[^\n`]*`): "
    rb"(?:\"[^\n]*\": )?(exec format error|no such file or directory|permission denied|argument list too long"
    rb"|text file busy|invalid argument)(?:\",\"level\":[^\n]*)?\s*\Z",
    re.IGNORECASE,
)
# What an init says of a command that it cannot execute.
_NOT_EXECUTABLE_BY_INIT = re.compile(
    rb"\A(?:ERROR \(catatonit:\d+\)|\[FATAL tini \(\d+\)\])[^\n]*exec[^\n]*: (exec format error"
    rb"|no such file or directory|permission denied|argument list too long|text file busy|invalid argument"
    rb"|is a directory|not a directory)\s*\Z",
    re.IGNORECASE,
)
# What runc, crun and runsc say, in this order where they differ.
_CREATE_TEXTS: tuple[tuple[str, str], ...] = (
    (
        r"executable file not found in \$PATH|executable file `[^/`]*` not found|error finding executable",
        "it is not on the image's PATH",
    ),
    (
        r"exec: .*no such file or directory|executable file `/.*` not found|failed to load .*no such file",
        "there is no such file in the image",
    ),
    (
        r"exec: .*too many levels of symbolic|open executable: too many|failed to load .*too many symbolic",
        "it is a link that leads in a circle",
    ),
    (
        r"(?:exec|failed to load|open executable).*: (?:permission denied|is a directory|operation not perm)",
        "it is not an executable file",
    ),
    (r"failed to load .*exec format error", "exec format error"),
    (r"argument list too long", "arguments and environment are too long"),
    (r"chdir to cwd|mkdir .*cwd|chdir `", "its user may not enter the working folder"),
)


def oom_of_others(usage: Usage, limits: Limits) -> bool:
    """Whether the kernel killed for want of memory though the run was well below its own limit.

    Then it was the limit of all runs together, or the host's: nothing that the image did.
    """
    spare = min(_OOM_SPARE_BYTES, limits.memory_bytes // 8)
    peak = usage.memory_peak_bytes
    return usage.oom_kills > 0 and peak is not None and peak < limits.memory_bytes - spare


def readable_log(data: bytes | bytearray) -> tuple[str, bool]:
    """The output as text that fits into a report, and whether something had to be cut off for that."""
    text = plain(data.decode("utf-8", "replace"))
    kept = _fitting(text, _LOG_JSON_BYTES)
    return kept, kept != text


def fitting_logs(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs with as much of their logs as fits into one report."""
    if len(runs) < 2:
        return tuple(runs)
    kept = [_fitting(run.log, _LOG_JSON_BYTES // len(runs)) for run in runs]
    return tuple(
        run if log == run.log else run.model_copy(update={"log": log, "log_truncated": True})
        for run, log in zip(runs, kept, strict=True)
    )


def _fitting(text: str, limit_bytes: int) -> str:
    while (size := len(json.dumps(text, ensure_ascii=False).encode())) > limit_bytes:
        text = text[: len(text) * limit_bytes // size - 1]
    return text


def shown_command(command: Sequence[str]) -> tuple[str, ...]:
    """The command as a report shows it: an image may have a megabyte of arguments."""
    shown: list[str] = []
    room = _COMMAND_CHARACTERS
    for argument in command:
        if len(argument) > room or len(shown) == _COMMAND_WORDS - 1:
            return (*shown, plain(argument[:room]) + "…")
        shown.append(plain(argument))
        room -= len(argument) + 1
    return tuple(shown)


def end_reason(ending: Ending | None, over: Over, *, usage: Usage, disk_full: bool, init: bool) -> EndReason:
    """The one word for how the run ended; ``init`` is whether an init of ours stood before the command."""
    if ending is None:
        return "timeout" if over == "timeout" else "log-full" if over == "log-full" else "stopped"
    if ending.exit_code == 0:
        return "exited"
    if usage.oom_kills:
        return "oom"
    if disk_full:
        return "disk-full"
    return "exited" if fatal_signal(ending, init=init) is None else "signal"


def fatal_signal(ending: Ending | None, *, init: bool) -> int | None:
    """The signal that the command died of. An init ends with 128 and the number of its child's signal."""
    if ending is None or ending.signal is not None or not init:
        return None if ending is None else ending.signal
    number = (ending.exit_code or 0) - 128
    return number if number in _FATAL else None


def peak(of_kernel: int | None, sampled: Iterable[int | None]) -> int | None:
    """The most at once, by the kernel's own count; where it has none, of the samples."""
    if of_kernel is not None:
        return of_kernel
    return max((one for one in sampled if one is not None), default=None)


def withheld_capability(ending: Ending | None, log: bytes | bytearray, held: Sequence[str]) -> str | None:
    """The right that the command died of not having, where its last words tell."""
    if ending is None or ending.exit_code in (0, None):
        return None
    tail = bytes(log[-_TAIL_BYTES:]).decode("utf-8", "replace").lower()
    for pattern, name in _CAPABILITY_TEXTS:
        if name not in held and re.search(pattern, tail):
            return name
    return None


def how_to_have(capability: str, *, profile: str) -> str:
    """How a run comes by a capability that it lacked, in words."""
    name = capability.removeprefix("CAP_")
    if name not in KEPT and name not in GRANTABLE:
        return f"no run is given it: {NEVER[name]}"
    ask = f"a run spec may ask for it with 'capabilities: [{name}]'"
    if name in GRANTABLE:
        ask += f", where the worker's operator allows it with --allow-capability {name}"
    return f"the profile restricted has none; under standard {ask}" if profile == "restricted" else ask


def needs_writable_root(ending: Ending | None, log: bytes | bytearray) -> bool:
    """Whether the command died of files that it could not write to, where its last words tell."""
    if ending is None or ending.exit_code in (0, None):
        return False
    return _READONLY in bytes(log[-_TAIL_BYTES:]).decode("utf-8", "replace").lower()


def not_executable(ending: Ending | None, log: bytes | bytearray) -> str | None:
    """Why the command could not be executed, where that came out only at the very start."""
    if ending is None or ending.exit_code not in (1, 126, 127, 255) or len(log) > 4096:
        return None
    match = _NOT_EXECUTABLE_BY_INIT.match(bytes(log))
    if match is None and ending.exit_code in (1, 255):
        match = _NOT_EXECUTABLE.match(bytes(log))
    return match[1].decode().lower() if match else None


def why_not_created(text: str) -> str | None:
    """What a failed ``create`` or ``start`` says about the image's command; ``None``: nothing."""
    for pattern, reason in _CREATE_TEXTS:
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    return None
