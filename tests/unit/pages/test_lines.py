"""What each page says of commands and of the API: they are there."""

from __future__ import annotations

import ast
import re

from registry.http.api.routes import PREFIX
from registry.http.api.table import ROUTES
from tests.kit.sources import ROOT

FOLDER = ROOT / "registry" / "pages"


def told(beginning: str) -> set[str]:
    """Texts of the modules of pages that begin so; what is filled in is ``X``."""
    found = set()
    for path in sorted(FOLDER.glob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        inside = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                found.add(node.value)
    return {text for text in found if re.match(beginning, text)}


def test_requests_to_the_api_are_those_that_there_are() -> None:
    known = [
        re.compile(f"{route.method} {PREFIX}" + re.sub(r"\\{[^}]*\\}|\{[^}]*\}", "[^/]+", route.path))
        for route in ROUTES
    ]
    asked = {text.partition("?")[0] for text in told(r"(GET|POST|PATCH|PUT|DELETE) /api/v1/")}
    assert len(asked) > 10
    assert {text for text in asked if not any(one.fullmatch(text) for one in known)} == set()


def test_commands_are_those_that_there_are() -> None:
    reference = (ROOT / "docs" / "reference" / "commands.md").read_text()
    sections = {part.partition("\n")[0]: part for part in reference.split("\n## ")}
    lines = told("seatrial ")
    assert len(lines) > 15
    for line in lines:
        words = line.split()
        name = next(
            (known for size in (3, 2) if (known := " ".join(words[:size])) in sections),
            None,
        )
        assert name is not None, line
        for option in re.findall(r"--[a-z-]+", line):
            assert f"`{option}" in sections[name], (line, option)
