"""The table of roles in the docs is the policy's."""

from __future__ import annotations

import re
from pathlib import Path

from registry.auth.policy import LEAST_ROLE, ROLES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "access.md"


def test_the_table_of_roles_is_the_policy() -> None:
    text = PAGE.read_text()
    (header,) = re.findall(r"^\| action \|(.*)\|.*\|$", text, re.MULTILINE)
    assert [role.strip() for role in header.split("|")] == list(ROLES)
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|.*\|$", text, re.MULTILINE)
    shown = {
        action: [role for role, cell in zip(ROLES, cells.split("|"), strict=True) if cell.strip() == "yes"]
        for action, cells in rows
    }
    assert shown == {action: list(ROLES[ROLES.index(least) :]) for action, least in LEAST_ROLE.items()}
