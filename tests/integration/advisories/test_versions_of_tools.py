"""Our order of versions is that of dpkg and rpm.

dpkg compares two versions in a process. So versions are sorted by our keys and dpkg is asked about neighbours
only: it is transitive, and then every two of them are compared. rpm takes all pairs at once.
"""

from __future__ import annotations

import random
import subprocess
from functools import cmp_to_key
from itertools import pairwise
from pathlib import Path

from registry.advisories.versions import key_of

PAIRS = 10_000
CHAIN = 142
"""So many have 10,011 pairs."""


def sign(order: str, one: str, other: str) -> int:
    a, b = key_of(order, one), key_of(order, other)
    return -1 if a < b else 1 if b < a else 0


def text(source: random.Random, letters: str, most: int) -> str:
    return "".join(source.choice(letters) for _ in range(source.randint(1, most)))


def dpkg_version(source: random.Random) -> str:
    epoch = f"{source.randint(0, 2)}:" if source.random() < 0.2 else ""
    revision = f"-{text(source, '012.~+abdeu', 5)}" if source.random() < 0.6 else ""
    return epoch + source.choice("0123") + text(source, "0123.~+abrcz", 5) + revision


def rpm_version(source: random.Random) -> str:
    epoch = f"{source.randint(0, 2)}:" if source.random() < 0.2 else ""
    release = f"-{text(source, '0123.el_~^', 5)}" if source.random() < 0.6 else ""
    return epoch + source.choice("0123") + text(source, "0123.~^+_abrcz", 5) + release


def test_dpkg() -> None:
    source = random.Random(20261124)
    versions = sorted(
        {dpkg_version(source) for _ in range(CHAIN)} | {"1.0", "1.0-0", "0:1.0", "1.0-00", "1.00"},
        key=cmp_to_key(lambda one, other: sign("dpkg", one, other)),
    )
    neighbours = list(pairwise(versions))
    signs = [sign("dpkg", one, other) for one, other in neighbours]
    assert set(signs) == {-1, 0}
    operators = {-1: "lt", 0: "eq"}
    script = "".join(
        f"dpkg --compare-versions '{one}' {operators[said]} '{other}' || echo '{one} {other}'\n"
        for (one, other), said in zip(neighbours, signs, strict=True)
    )
    asked = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True)
    assert asked.stdout + asked.stderr == ""


def test_rpm(tmp_path: Path) -> None:
    source = random.Random(20261124)
    pairs = [(rpm_version(source), rpm_version(source)) for _ in range(PAIRS - 1)] + [("1.0-1", "0:1.0-1")]
    file = tmp_path / "pairs"
    file.write_text("".join(f"{one} {other}\n" for one, other in pairs))
    lua = (
        f'for line in io.lines("{file}") do local at = line:find(" "); '
        'print(rpm.vercmp(line:sub(1, at - 1), line:sub(at + 1)) .. " ") end'
    )
    asked = subprocess.run(["rpm", "--eval", f"%{{lua: {lua}}}"], capture_output=True, text=True, check=True)
    said = [int(line) for line in asked.stdout.split()]
    assert len(said) == PAIRS
    assert {-1, 0, 1} == set(said)
    wrong = [
        (one, other, theirs)
        for (one, other), theirs in zip(pairs, said, strict=True)
        if sign("rpm", one, other) != theirs
    ]
    assert wrong == []
