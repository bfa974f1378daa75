"""The search for secrets and malware, with a rule that is slow on files of 7,777 bytes, and 1 s for each."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sandbox.scanners.content.engine import Engine, compile_rules
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.facts import Module

RULE = (
    "rule Slow { condition: filesize == 7777 and for all i in (0..1000000000) : (uint8(i % filesize) == 46) }"
)


def __getattr__(name: str) -> tuple[Module, ...]:
    if name != "MODULES":
        raise AttributeError(name)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "slow.yar").write_text(RULE)
        return (ContentSearch(Engine(compile_rules(Path(folder)), timeout_seconds=1), ""),)
