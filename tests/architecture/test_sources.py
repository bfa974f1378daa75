"""What no linter sees: sizes, errors that are built and dropped, what may not be read from a wire."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

from registry.errors import CODES, SeatrialError
from tests.kit.sources import ROOT, source_files, tracked_files, trees

CAP_LINES = 600
P90_LINES = 350
MEDIAN_LINES = 150


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_file_is_over_the_cap() -> None:
    over = {
        str(path.relative_to(ROOT)): _lines(path)
        for path in source_files("registry", "sandbox", "migrations", "tests", "scripts")
        if _lines(path) > CAP_LINES
    }
    assert over == {}


def test_most_files_are_short() -> None:
    sizes = sorted(_lines(path) for path in source_files())
    assert sizes[int(len(sizes) * 0.9)] <= P90_LINES
    assert statistics.median(sizes) <= MEDIAN_LINES


def exception_names() -> set[str]:
    """Names of all classes of ours that derive, at any distance, from an exception."""
    bases: dict[str, set[str]] = {}
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {base.id for base in node.bases if isinstance(base, ast.Name)}
    found = {"Exception", "ValueError", "RuntimeError", "OSError", "LookupError"}
    while True:
        more = {name for name, above in bases.items() if above & found} - found
        if not more:
            return found & set(bases)
        found |= more


def dropped_exceptions(tree: ast.Module, names: set[str]) -> list[int]:
    """Lines where one of our exceptions is built as a statement of its own, so never raised."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", None)
            if name in names:
                lines.append(node.lineno)
    return lines


def test_no_exception_is_built_and_not_raised() -> None:
    names = exception_names()
    assert {"SeatrialError", "BlobUnknownError", "SandboxError"} <= names
    dropped = {str(path): lines for path, tree in trees() if (lines := dropped_exceptions(tree, names))}
    assert dropped == {}


def test_the_check_for_dropped_exceptions_sees_one() -> None:
    tree = ast.parse("def f():\n    errors.BlobUnknownError('no')\n    raise BlobUnknownError('yes')\n")
    assert dropped_exceptions(tree, {"BlobUnknownError"}) == [2]


def test_every_error_of_ours_has_a_row_in_the_table() -> None:
    pending, seen = [SeatrialError], set()
    while pending:
        error = pending.pop()
        seen.add(error.code)
        pending += error.__subclasses__()
    assert seen <= set(CODES)


def test_nothing_unpickles() -> None:
    forbidden = {"pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle", "jsonpickle"}
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path}:{node.lineno}" for module in modules if module.split(".")[0] in forbidden]
    assert found == []


def raised_in_groups(tree: ast.Module) -> list[int]:
    """Lines of ``raise X`` in an ``except*``: Python before 3.11.4 (Debian 12 has 3.11.2) groups it."""
    handlers = (
        handler for node in ast.walk(tree) if isinstance(node, ast.TryStar) for handler in node.handlers
    )
    return [
        inner.lineno
        for handler in handlers
        for inner in ast.walk(handler)
        if isinstance(inner, ast.Raise) and inner.exc is not None
    ]


def test_nothing_new_is_raised_in_an_except_star() -> None:
    assert {str(path): found for path, tree in trees() if (found := raised_in_groups(tree))} == {}
    assert raised_in_groups(
        ast.parse("try:\n    f()\nexcept* OSError as e:\n    raise e.exceptions[0]\n")
    ) == [4]


def test_nothing_is_left_to_do_later() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X{3})\b")
    found = []
    for path in tracked_files():
        if path.suffix in {".py", ".sh", ".md", ".toml", ".yaml", ".yml", ".service", ".html", ".css"}:
            found += [f"{path}: {match[0]}" for match in mark.finditer(path.read_text())]
    assert found == []


def test_every_package_says_what_it_holds() -> None:
    silent = [
        str(path) for path, tree in trees() if ast.get_docstring(tree) is None and path.read_text().strip()
    ]
    assert silent == []
