"""The checks before the runtime, and their documentation."""

from __future__ import annotations

from pathlib import Path

from sandbox.bundles.checks import CONFIG_CHECKS, IMAGE_CHECKS


def test_each_check_is_documented() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs/sandbox.md").read_text()
    for check in (*IMAGE_CHECKS, *CONFIG_CHECKS):
        assert f"| `{check.__name__}` |" in page
