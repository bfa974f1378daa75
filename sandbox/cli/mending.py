"""``seatrial doctor --fix``: what can be done is said, asked about, and done."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from registry.errors import RequestInvalidError

if TYPE_CHECKING:
    from sandbox.mend import Fix

FAILED = 3
"""The exit code where something could not be done."""


def mend(user_name: str | None, *, agreed: bool, dry_run: bool, as_json: bool) -> list[dict[str, Any]]:
    """Say what can be done, ask, and do it; each thing with what came of it, for JSON.

    Raises:
        RequestInvalidError: there is nobody to ask, or no such user.
        typer.Exit: it was only to be said, was not wanted, or a part of it failed.
    """
    from sandbox.mend import find_fixes, find_user  # noqa: PLC0415

    fixes = find_fixes(None if user_name is None else find_user(user_name))
    if not as_json:
        _say(fixes)
    if dry_run or not fixes:
        told = [_told(one, "planned") for one in fixes]
        if dry_run:
            if as_json:
                typer.echo(json.dumps({"fixes": told}, indent=2))
            raise typer.Exit(0)
        return told
    if os.geteuid() != 0:
        raise RequestInvalidError(
            "--fix needs root: run the same line with sudo; --dry-run only says what it does"
        )
    if not agreed:
        if as_json or not sys.stdin.isatty():
            raise RequestInvalidError("--fix changes this host: say --yes, or --dry-run to see what it does")
        if not typer.confirm("Do this?"):
            raise typer.Exit(1)
    return _carry_out(fixes, as_json=as_json)


def _carry_out(fixes: Sequence[Fix], *, as_json: bool) -> list[dict[str, Any]]:
    from sandbox.mend import carry_out  # noqa: PLC0415

    told = []
    for one in fixes:
        failed = carry_out(one)
        told.append(_told(one, "done" if failed is None else "failed", failed))
        if not as_json:
            typer.echo(f"    done  {one.name}" if failed is None else f"  FAILED  {one.name}: {failed}")
    if not as_json:
        typer.echo("")
    return told


def _say(fixes: Sequence[Fix]) -> None:
    if not fixes:
        typer.echo("There is nothing here that --fix could do.")
    for one in fixes:
        typer.echo(f"{one.name} (for: {one.gives})")
        typer.echo(f"    does  {one.says}")
        typer.echo(f"    undo  {one.undo}")
    typer.echo("")


def _told(one: Fix, state: str, why: str | None = None) -> dict[str, Any]:
    said = {"name": one.name, "gives": one.gives, "does": one.says, "undo": one.undo, "state": state}
    return said if why is None else {**said, "error": why}
