"""The project's own source files, for tests that read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("registry", "sandbox")


def source_files(*folders: str) -> list[Path]:
    """Python files below ``folders`` (the two packages if none is given), sorted."""
    return sorted(
        path
        for folder in folders or PACKAGES
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def module_name(path: Path) -> str:
    """``registry/oci/digest.py`` -> ``registry.oci.digest``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def trees(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    """Each file with its syntax tree."""
    for path in source_files(*folders):
        yield path, ast.parse(path.read_text(), filename=str(path))


def tracked_files() -> list[Path]:
    """Files that git knows or would know; all text that ships."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return sorted(ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())
