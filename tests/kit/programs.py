"""Programs that attack from inside a run: compiled from our sources, or this host's with their libraries.

A machine of ``make vm`` has neither a compiler nor those programs: there they are what its starter brought.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.kit.sources import ROOT

BROUGHT = ROOT / "tools"
"""Where a machine has what was brought; nowhere else is anything."""
STORMS = ("stress-ng", "trinity")
_SOURCES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"probe": ("probe.c", "kernel.c", "files.c"), "hold": ("hold.c",)}
)
_LIBRARY = re.compile(r"(/\S+\.so\S*) \(0x")


def compiled(name: str, folder: Path) -> Path:
    """A program of the hostile suite's own, static; made in ``folder`` where it was not brought."""
    brought = BROUGHT / name
    return brought if brought.exists() else compile_program(name, folder)


def compile_program(name: str, folder: Path) -> Path:
    """Compile a program of the hostile suite's own into ``folder``; it needs nothing else."""
    program = folder / name
    sources = [ROOT / "tests" / "hostile" / "attempts" / one for one in _SOURCES[name]]
    options = ("-O1", "-Wall", "-Wextra", "-Werror", "-static")
    subprocess.run(["gcc", *options, "-o", program, *sources], check=True)
    return program


def is_here(name: str) -> bool:
    """Whether :func:`put_program` has a program to put."""
    return (BROUGHT / "storms").exists() or shutil.which(name) is not None


def libraries_of(program: str) -> list[str]:
    """The libraries that a program of this host loads."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return _LIBRARY.findall(said)


def put_program(name: str, root: Path) -> None:
    """Put a program of this host and the libraries that it loads below ``root``, as ``/usr/bin/NAME``."""
    if (BROUGHT / "storms").exists():
        shutil.copytree(BROUGHT / "storms", root, dirs_exist_ok=True)
        return
    program = shutil.which(name)
    assert program is not None, name
    wanted = {one: root / one[1:] for one in libraries_of(program)}
    for source, target in {**wanted, program: root / "usr/bin" / name}.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
