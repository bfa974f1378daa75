"""``python -m tests.vm [MODE...]``: what this host cannot show, shown in machines that can.

Without a mode the first two, side by side; ``hostile`` takes an hour where the processor is emulated.

Exit code 0 only where every machine ended by itself and every check in it passed. What
``seatrial doctor`` said in each goes to docs/reference/hosts where SEATRIAL_TEST_WRITE_HOSTS is set.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts import hosts
from tests.kit.programs import STORMS, compile_program, put_program
from tests.vm.console import tail
from tests.vm.image import Image, get_image, make_cargo
from tests.vm.machine import Ended, accelerator, boot, processor_seconds, why_emulated
from tests.vm.recipe import make_recipe

MODES = {
    "apparmor": "apparmor=1 security=apparmor",
    "selinux": "apparmor=0 security=selinux selinux=1 enforcing=0",
    "hostile": "apparmor=0 selinux=0",
}
LIMIT_SECONDS = {"apparmor": 1200, "selinux": 1200, "hostile": 10_800}
USUAL = ("apparmor", "selinux")
PROGRAMS = ("qemu-system-x86_64", "mmdebstrap", "mke2fs", "gcc", "setpriv")


def main(names: list[str]) -> int:
    """Boot a machine for each mode, side by side; print what each one proved."""
    unknown = [name for name in names if name not in MODES]
    if unknown:
        print(f"there is no mode {unknown[0]!r}; there are {', '.join(MODES)}", file=sys.stderr)
        return 64
    search = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    programs = (*PROGRAMS, *(STORMS if "hostile" in names else ()))
    lacking = [name for name in programs if shutil.which(name, path=search) is None]
    if lacking:
        print(f"needs {', '.join(lacking)}: scripts/packages.sh vm says what to install", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        print("needs root to make the machine's disk", file=sys.stderr)
        return 1
    started = time.monotonic()
    try:
        image = get_image(make_recipe())
    except subprocess.CalledProcessError as error:
        print(f"the machine's disk cannot be made: {error.cmd[0]} failed, see above", file=sys.stderr)
        return 1
    print(f"disk ready after {time.monotonic() - started:.0f} s", flush=True)
    if why := why_emulated():
        print(f"no KVM ({why}): emulated, which takes some minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="seatrial-vm-") as name:
        folder = Path(name)
        wanted = names or USUAL
        cargo = make_cargo(image, folder, _programs(folder, wanted))
        with ThreadPoolExecutor(len(wanted)) as threads:
            ended = dict(
                zip(wanted, threads.map(lambda one: _boot(image, cargo, folder, one), wanted), strict=True)
            )
    for mode, machine in ended.items():
        _print(mode, machine)
    print(f"{time.monotonic() - started:.0f} s in all, {processor_seconds():.0f} s of processors")
    return int(any(machine.why for machine in ended.values()))


def _boot(image: Image, cargo: Path, folder: Path, mode: str) -> Ended:
    return boot(image, cargo, folder, mode=mode, parameters=MODES[mode], limit_seconds=LIMIT_SECONDS[mode])


def _programs(folder: Path, modes: Sequence[str]) -> tuple[Path, ...]:
    """What the machines cannot make themselves: they have no compiler, and not these packages."""
    probe = compile_program("probe", folder)
    if "hostile" not in modes:
        return (probe,)
    storms = folder / "storms"
    for name in STORMS:
        put_program(name, storms)
    return (probe, compile_program("hold", folder), storms)


def _print(mode: str, machine: Ended) -> None:
    print(f"\n{mode} ({accelerator()}, {machine.seconds:.0f} s): {machine.why or 'all held'}")
    for case in machine.told.cases:
        print(f"  {case.state:<8}{case.name}  {case.detail}")
    if machine.why:
        print(f"the end of its console:\n{tail(machine.console)}\n")
    elif os.environ.get("SEATRIAL_TEST_WRITE_HOSTS"):
        for kind, document in machine.told.kept.items():
            hosts.write(kind, json.loads(document))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
