"""Makes the machine's disk, once for each recipe, and the drive with this checkout, each time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.vm.build import build, compile_all, make_disk
from tests.vm.recipe import ROOT, Recipe

CACHE = Path(
    os.environ.get("SEATRIAL_TEST_VM")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seatrial/vm"
)
_PARTS = (
    *("registry", "sandbox", "deploy/systemd"),
    *("tests/kit", "tests/hostile", "tests/integration/sandbox", "tests/vm"),
)
_FILES = ("pyproject.toml", "tests/conftest.py", "scripts/hosts.py")


@dataclass(frozen=True, slots=True)
class Image:
    """A disk, the kernel that starts it, and its Python, which runs here too."""

    disk: Path
    kernel: Path
    python: Path


def get_image(recipe: Recipe) -> Image:
    """The disk of the recipe, made now if it is not there; others' are removed.

    Raises:
        subprocess.CalledProcessError: it cannot be made; what the program said is printed.
    """
    folder = CACHE / recipe.digest()
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"Making the machine's disk in {folder}", flush=True)
        made = Path(tempfile.mkdtemp(prefix=".build-", dir=CACHE))
        try:
            build(recipe, made)
            shutil.rmtree(made / "root")
            made.chmod(0o755)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        for other in CACHE.iterdir():
            if other != folder and not other.name.startswith("."):
                shutil.rmtree(other)
    return Image(folder / "disk", folder / "kernel", folder / "python")


def make_cargo(image: Image, folder: Path, programs: Sequence[Path]) -> Path:
    """A drive with this checkout and ``programs``, files or folders (in ``tools``), compiled for its
    Python."""
    cargo = folder / "cargo"
    for name in _PARTS:
        shutil.copytree(ROOT / name, cargo / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        (cargo / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, cargo / name)
    # What an installed package says of itself.
    metadata = cargo / f"seatrial-{version('seatrial')}.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: seatrial\nVersion: {version('seatrial')}\n")
    (cargo / "tools").mkdir()
    for program in programs:
        copy = shutil.copytree if program.is_dir() else shutil.copy2
        copy(program, cargo / "tools" / program.name)
    compile_all(image.python, cargo)
    _label(cargo)
    make_disk(cargo, folder / "cargo.ext4", "192M")
    shutil.rmtree(cargo)
    return folder / "cargo.ext4"


def _label(cargo: Path) -> None:
    # Without a label SELinux lets nobody execute.
    for path in (cargo, *cargo.rglob("*")):
        os.setxattr(path, "security.selinux", b"system_u:object_r:bin_t:s0\0", follow_symlinks=False)
