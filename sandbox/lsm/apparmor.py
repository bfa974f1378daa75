"""The AppArmor profile of runs: whether it is loaded here, and whether a process is under it.

``security``, ``module`` and ``proc`` are where the kernel says so; tests give folders of their own.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files
from pathlib import Path

RUN_PROFILE = "seatrial-run"
WORKER_PROFILE = "seatrial-worker"
SECURITY = Path("/sys/kernel/security")
MODULE = Path("/sys/module/apparmor")
_PROC = Path("/proc")


def profile_text(name: str) -> str:
    """A profile as it is shipped."""
    return files("sandbox.lsm").joinpath(f"{name}.apparmor").read_text(encoding="utf-8")


def apparmor_active(*, module: Path = MODULE) -> bool:
    """Whether the kernel runs with AppArmor."""
    try:
        return (module / "parameters/enabled").read_text(encoding="ascii").strip() == "Y"
    except OSError:
        return False


def loaded_profiles(*, security: Path = SECURITY) -> dict[str, str]:
    """The mode of each loaded profile by name; empty where that cannot be seen."""
    try:
        text = (security / "apparmor/profiles").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {name: mode.rstrip(")") for name, _, mode in (line.rpartition(" (") for line in text.splitlines())}


def why_no_profile(*, security: Path = SECURITY, module: Path = MODULE) -> str | None:
    """Why runs go without the profile here, or ``None``."""
    if not apparmor_active(module=module):
        return "not active on this host"
    if RUN_PROFILE not in loaded_profiles(security=security):
        return f"active, but the profile {RUN_PROFILE} is not loaded (seatrial doctor --fix loads it)"
    return None


def begin_unconfined(*, proc: Path = _PROC) -> None:
    """Let what this thread executes next, or a child that it starts, begin under no profile, whatever profile
    there is for that program. Where this is not allowed, nothing changes.

    Under Ubuntu's profiles for runtimes, which confine nothing, no socket can be made together with another.
    """
    for place in ("attr/apparmor/exec", "attr/exec"):
        with suppress(OSError):
            (proc / "thread-self" / place).write_text("exec unconfined", encoding="ascii")
            return


def profiles_of(pid: int, *, proc: Path = _PROC) -> tuple[tuple[str, ...], str]:
    """The profiles that the process is under, of which each may refuse, and their mode: ``mixed`` where they
    have several. None and an empty text where the kernel says nothing."""
    for place in ("attr/apparmor/current", "attr/current"):
        try:
            text = (proc / str(pid) / place).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
        except OSError:
            continue
        names, _, mode = text.partition(" (")
        return tuple(names.split("//&")), mode.rstrip(")")
    return (), ""
