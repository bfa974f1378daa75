"""The project as a person installs it: a wheel in a fresh environment outside the clone."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.kit.sources import ROOT


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that holds the wheel and the libraries it asked for."""

    folder: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, outside the clone and without the caller's environment."""
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.folder, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "COLUMNS": "120"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


def build_wheel(folder: Path, *, sources: Path = ROOT) -> Path:
    """Build the wheel of the clone, or of other sources, into ``folder``."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=sources, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, *, extras: Iterable[str] = ()) -> Installed:
    """Make an environment with ``wheel`` and exactly the libraries that it and ``extras`` ask for.

    The libraries are links to those that the tests run with, so that no network is needed.
    """
    venv.create(folder, with_pip=False)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet",
         "--no-deps", "--no-index", "--disable-pip-version-check", wheel],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = folder / "libraries"
    libraries.mkdir()
    (site / "libraries.pth").write_text(f"{libraries}\n")
    (metadata,) = site.glob("seatrial-*.dist-info")
    for library in _closure(PathDistribution(metadata), frozenset(extras)):
        _link(library, libraries)
    return Installed(folder)


def _closure(root: Distribution, extras: frozenset[str]) -> list[Distribution]:
    pending, found = [(root, extras)], {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        current, wanted = pending.pop()
        for text in current.requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": name}) for name in ("", *wanted)):
                continue
            key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if key not in seen:
                seen.add(key)
                library = distribution(requirement.name)
                found[key[0]] = library
                pending.append((library, key[1]))
    return list(found.values())


def _link(library: Distribution, folder: Path) -> None:
    for name in {file.parts[0] for file in library.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        link = folder / name
        if not link.exists():
            link.symlink_to(Path(str(library.locate_file(name))))
