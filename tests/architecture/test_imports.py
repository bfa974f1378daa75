"""Who may know whom, and that every module can be imported on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kit.sources import ROOT, module_name, source_files

# All are imported in one process, which takes a second; a fork for each took thirty. While no module needs
# itself, over whatever others, what one of them finds does not depend on who came before it. A package is
# always there before what it holds, so that nobody needs to name it.
IMPORT_ALL = """
import builtins, sys
from graphlib import CycleError, TopologicalSorter
modules = sys.argv[1:]
needs = {module: set() for module in modules}
really = builtins.__import__
def watched(name, globals=None, locals=None, fromlist=(), level=0):
    found = really(name, globals, locals, fromlist, level)
    importer = (globals or {}).get("__name__")
    if importer in needs:
        named = [name, *(f"{name}.{part}" for part in fromlist or ())]
        needs[importer].update(one for one in named if not f"{importer}.".startswith(f"{one}."))
    return found
builtins.__import__ = watched
for module in modules:
    really(module)
assert "registry.errors" in needs["registry.content.blobs"]
try:
    TopologicalSorter({module: others & set(modules) for module, others in needs.items()}).prepare()
except CycleError as error:
    sys.exit("import each other: " + " <- ".join(error.args[1]))
"""


def test_every_module_imports_alone() -> None:
    modules = [module_name(path) for path in source_files() if path.name != "__main__.py"]
    result = import_all(ROOT, modules)
    assert result.returncode == 0, result.stderr


def test_what_make_bench_and_make_soak_start_can_be_imported() -> None:
    """No other test loads them, and what they share with the tests changes."""
    line = "import tests.bench.__main__, tests.soak.__main__"
    done = subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_modules_that_import_each_other_are_seen(tmp_path: Path) -> None:
    package = tmp_path / "registry" / "content"
    package.mkdir(parents=True)
    (tmp_path / "registry" / "__init__.py").touch()
    (tmp_path / "registry" / "errors.py").write_text("class Error(Exception): pass")
    (package / "__init__.py").write_text("from registry.content import tags, blobs")
    (package / "tags.py").write_text("from registry import errors")
    (package / "blobs.py").write_text("from registry.errors import Error\nfrom registry.content import tags")
    modules = ["registry.errors", "registry.content", "registry.content.blobs", "registry.content.tags"]
    result = import_all(tmp_path, modules)
    assert result.returncode == 0, result.stderr
    (package / "tags.py").write_text("from registry.content import blobs")
    result = import_all(tmp_path, modules)
    assert result.returncode == 1
    assert "import each other: registry.content." in result.stderr


def import_all(folder: Path, modules: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL, *modules],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_import_contracts_hold() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert " 0 broken" in result.stdout
