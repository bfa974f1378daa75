"""What pages say stands in one place: templates have no words of their own, and no text is left over."""

from __future__ import annotations

import ast
import re
from typing import get_args

from registry.auth.policy import Visibility
from registry.errors import CODES
from registry.pages.texts import PARTS, TEXTS
from registry.settings import Gate
from registry.trials.gate import EffectiveState
from tests.kit.sources import ROOT

PAGES = ROOT / "registry" / "pages"
TEMPLATES = sorted((PAGES / "templates").glob("*"))
KEY = re.compile(r"""\bt\(\s*["']([a-z_.-]+)["']""")
PREFIX = re.compile(r"""\bt\(\s*["']([a-z_.-]+\.)["'] ~""")
EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
ATTRIBUTE = re.compile(r"""\b(?:alt|title|aria-label|placeholder)="([^"]*)\"""")
CODE = re.compile(r"<(code|svg|kbd)\b.*?</\1>", re.DOTALL)
TAG = re.compile(r"<[^>]*>")


def prefixes() -> set[str]:
    """Of keys that are put together from a word of the registry."""
    return {found for path in TEMPLATES for found in PREFIX.findall(path.read_text())} | {
        "time.",
        *(key for key in in_modules() if key.endswith(".")),
    }


def named() -> set[str]:
    """Keys that templates and modules name in full."""
    found = {key for path in TEMPLATES for key in KEY.findall(path.read_text())} | in_modules()
    return {key for key in found if not key.endswith(".")}


def in_modules() -> set[str]:
    """Keys, and what keys begin with, in calls of the modules."""
    return {
        str(part.value)
        for path in PAGES.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "text"
        for part in ast.walk(node.args[0])
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def test_each_text_that_is_named_is_there() -> None:
    assert {key for key in named() if key not in TEXTS} == set()


def test_none_is_left_over() -> None:
    known, begun = named(), tuple(prefixes())
    assert {key for key in TEXTS if key not in known and not key.startswith(begun)} == set()


def test_each_word_of_the_registry_has_one() -> None:
    wanted = {f"state.{state}" for state in get_args(EffectiveState)}
    wanted |= {f"gate.{gate}" for gate in get_args(Gate)}
    wanted |= {f"visibility.{visibility}" for visibility in get_args(Visibility)}
    wanted |= {f"error.{code.status}" for code in CODES.values() if code.status in (401, 403, 404, 429, 500)}
    assert wanted <= TEXTS.keys()


def test_templates_have_no_words_of_their_own() -> None:
    found = {}
    for path in TEMPLATES:
        plain = EXPRESSION.sub("", CODE.sub("", EXPRESSION.sub("", path.read_text())))
        words = [*ATTRIBUTE.findall(plain), *TAG.sub(" ", plain).split()]
        own = [word for word in words if re.search("[A-Za-z]{2}", word)]
        if path.suffix == ".html" and own:
            found[path.name] = own
    assert found == {}


def test_no_key_is_there_twice() -> None:
    assert sum(len(part) for part in PARTS) == len(TEXTS)
