"""How the machine's disk is made. The text of this module is part of what the disk is kept under."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.vm.recipe import HERE, PLATFORMS, PYTHON, ROOT, Recipe


def build(recipe: Recipe, folder: Path) -> None:
    """Make ``disk``, ``kernel`` and ``python`` in ``folder``.

    Raises:
        subprocess.CalledProcessError: what the program said is printed.
    """
    root = folder / "root"
    _install(recipe, root)
    _finish(recipe, folder, root)


def _install(recipe: Recipe, root: Path) -> None:
    source = f"deb [signed-by={HERE}/ubuntu-archive.asc] {recipe.mirror} {recipe.suite} {recipe.components}"
    without = (f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info"))
    run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(recipe.packages)}",
         '--aptopt=Acquire::Languages "none"', *without, recipe.suite, str(root), source]
    )  # fmt: skip


def _finish(recipe: Recipe, folder: Path, root: Path) -> None:
    for place, text in recipe.files.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text, encoding="utf-8")
        (root / place).chmod(0o755)
    packages = root / "opt/packages"
    requirements = folder / "requirements"
    requirements.write_text(recipe.requirements, encoding="utf-8")
    platforms = (f"--platform={one}" for one in PLATFORMS)
    run(
        [str(ROOT / ".venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check", "--no-compile",
         "--no-deps", "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}", *platforms,
         f"--target={packages}", f"--requirement={requirements}"]
    )  # fmt: skip
    (root / "tmp/seatrial-run.cil").write_text(recipe.module, encoding="utf-8")
    run(["chroot", str(root), "semodule", "-n", "-i", "/tmp/seatrial-run.cil"])
    (root / "tmp/seatrial-run.cil").unlink()
    _keep_python(root, folder / "python")
    compile_all(folder / "python", packages)
    shutil.copy(next(root.glob("boot/vmlinuz-*")), folder / "kernel")
    run(["chroot", str(root), "setfiles", "-F", "/etc/selinux/default/contexts/files/file_contexts", "/"])
    make_disk(root, folder / "disk", "3G")


def _keep_python(root: Path, kept: Path) -> None:
    """So much of the machine's Python that it runs here, to compile for itself."""
    for name in (f"usr/bin/python{PYTHON}", "usr/lib64/ld-linux-x86-64.so.2"):
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, kept / name)
    shutil.copytree(root / f"usr/lib/python{PYTHON}", kept / f"usr/lib/python{PYTHON}", symlinks=True)
    for name in ("libc", "libm", "libexpat", "libz"):
        for library in (root / "usr/lib/x86_64-linux-gnu").glob(f"{name}.so.*"):
            shutil.copy(library, kept / "usr/lib64" / library.name)


def compile_all(python: Path, folder: Path) -> None:
    """Compile what is below ``folder`` for the machine's Python, whatever ours is."""
    loader = python / "usr/lib64/ld-linux-x86-64.so.2"
    run(
        [str(loader), "--library-path", str(python / "usr/lib64"), str(python / f"usr/bin/python{PYTHON}"),
         "-I", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", str(folder)],
        PYTHONHOME=str(python / "usr"),
    )  # fmt: skip


def make_disk(folder: Path, disk: Path, size: str) -> None:
    """A file system with what is in ``folder``, labels included."""
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(folder), str(disk), size])


def run(command: Sequence[str], **environment: str) -> None:
    """Run a program of the host's; print what it said where it fails.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", **environment},
    )
    if done.returncode != 0:
        print(done.stdout)
        done.check_returncode()
