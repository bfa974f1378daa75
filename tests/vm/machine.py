"""One machine under qemu, from its start to its end."""

from __future__ import annotations

import resource
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from tests.vm.console import Told, parse_told
from tests.vm.image import Image

MEMORY_MIB = 1024
_PROCESSOR = MappingProxyType(
    {
        "kvm": ("-accel", "kvm", "-cpu", "host"),
        # Wide registers cost an emulated processor a quarter of its time; moves by single bytes (erms), what
        # keeps the kernel from a program's memory and a fifth level of pages cost it some of the rest. Its
        # clock goes by what it has done: a second is as much work on a busy host as on one that has nothing
        # else to do.
        "tcg": ("-accel", "tcg", "-cpu", "max,-avx,-avx2,-erms,-smap,-smep,-la57", "-icount", "shift=2"),
    }
)


@dataclass(frozen=True, slots=True)
class Ended:
    """What there is to know about a machine afterwards."""

    told: Told
    console: str
    seconds: float
    why: str
    """Why it did not hold; empty where it did."""


def accelerator() -> str:
    """``kvm`` where the processor itself can run machines, ``tcg`` (emulation) elsewhere."""
    return "tcg" if why_emulated() else "kvm"


@cache
def why_emulated() -> str:
    """Why the machines' processor is emulated, which takes minutes; empty where it is not.

    A device alone proves nothing: inside another machine it may be there and crawl.
    """
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    if not {"vmx", "svm"} & set(flags):
        return "the processor has neither vmx nor svm"
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "kvm", "-S"]
    try:
        done = subprocess.run(
            [*command, "-monitor", "stdio"],
            input="quit\n",
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "/dev/kvm does not answer"
    return "" if done.returncode == 0 else done.stderr.strip() or "qemu takes no /dev/kvm"


def boot(
    image: Image, cargo: Path, folder: Path, *, mode: str, parameters: str, limit_seconds: float
) -> Ended:
    """Start a machine in ``mode`` and wait for its end, or end it when its time is up."""
    console, told = folder / f"{mode}.console", folder / f"{mode}.told"
    told.touch()
    drives = (f"file={drive},if=virtio,format=raw,snapshot=on,cache=unsafe" for drive in (image.disk, cargo))
    start = "root=/dev/vda rw console=ttyS0 quiet panic=-1 no_timer_check init=/sbin/seatrial-init"
    # What the kernel does against leaks between processes costs an emulated processor a fifth of its time.
    start += " mitigations=off init_on_alloc=0 randomize_kstack_offset=off hardened_usercopy=off"
    command = [
        "setpriv", "--pdeathsig", "KILL",  # it ends with us, however we end
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", *_PROCESSOR[accelerator()],
        "-smp", "1", "-m", str(MEMORY_MIB), "-kernel", str(image.kernel),
        "-append", f"{start} seatrial.mode={mode} {parameters}",
        *(word for drive in drives for word in ("-drive", drive)),
        "-display", "none", "-serial", f"file:{console}", "-serial", f"file:{told}", "-no-reboot",
    ]  # fmt: skip
    started = time.monotonic()
    with (folder / f"{mode}.qemu").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            process.wait(timeout=limit_seconds)
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            process.kill()
            process.wait()
    said = parse_told(told.read_text(encoding="utf-8", errors="replace"))
    printed = console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""
    return Ended(
        said,
        printed + (folder / f"{mode}.qemu").read_text(encoding="utf-8", errors="replace"),
        time.monotonic() - started,
        _why(said, late=late, limit_seconds=limit_seconds),
    )


def processor_seconds() -> float:
    """Used by the machines that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _why(told: Told, *, late: bool, limit_seconds: float) -> str:
    if late:
        return f"it had not ended after {limit_seconds:.0f} seconds"
    if told.code is None:
        return "it ended without saying how"
    if not told.held:
        return f"exit code {told.code}"
    return ""
