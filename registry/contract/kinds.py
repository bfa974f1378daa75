"""Kinds of expectations, told from their words: reports hold no more than these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "healthcheck": "the image's HEALTHCHECK succeeds",
        "stop": "it ends within its time after its stop signal",
        "http": "an HTTP server answers as expected",
        "tcp": "a TCP port accepts connections",
        "log": "the log has, or has not, what is looked for",
        "file": "files are there, or are not",
        "stub": "it asks a listener that stands for what it needs",
        "writes": "nothing is written beside the paths that it may write to",
        "outbound": "it tries to reach nothing outside",
        "below": "it comes to no more than figures of time, memory and processor",
        "exec": "a command that is run inside it exits as expected",
        "exit": "it exits as expected, or stays alive",
        "other": "something else that was expected",
    }
)
"""Each in words."""

_WORDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("healthcheck", r"the image's HEALTHCHECK "),
        ("stop", r"ends( with exit code [0-9]+)? within \S+ s of its stop signal"),
        ("http", r"HTTP [0-9]+ from port "),
        ("tcp", r"TCP port "),
        ("log", r"(no line of the log|the log) matches "),
        ("file", r"(nothing is|an? .* is) at /"),
        ("stub", r"the stub "),
        ("writes", r"nothing is written but below "),
        ("outbound", r"it tries to reach nothing "),
        ("below", r"(ready within|memory at most|at most \S+ s of processor)"),
        ("exec", r"('|\").* exits [0-9]+"),
        ("exit", r"(the command )?(exits|exit code|is (still )?alive|alive|still alive)|.*\balive\b"),
    )
)


def kind_of(expectation: str) -> str:
    """The kind of an expectation, of :data:`KINDS`; ``other`` where its words are not known."""
    return next((kind for kind, pattern in _WORDS if pattern.match(expectation)), "other")
