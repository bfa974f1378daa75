"""The history of a repository or an image, as ``seatrial trial list NAME`` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from registry.cli.client import Client, part
from registry.contract.use import shown_seconds
from registry.oci.names import split_repository_reference

_PAGE = 200
_DIGEST_SHOWN = 19
COLUMNS = ("id", "digest", "verdict", "cause", "created_by", "created_at", "seconds", "flaky", "changed")


def past_trials(client: Client, image: str, query: Mapping[str, object], *, limit: int) -> Sequence[Any]:
    """The newest trials of ``NAME``, ``NAME:TAG`` or ``NAME@DIGEST``, at most ``limit``."""
    name, tag, digest = split_repository_reference(image)
    asked = {**query, "tag": None if digest else tag, "digest": digest, "limit": min(limit, _PAGE)}
    return list(islice(client.items(f"/repositories/{part(name)}/trials", asked), limit))


def past_row(trial: Mapping[str, Any]) -> dict[str, object]:
    """One of them for a table."""
    seconds = trial["seconds"]
    return {
        **trial,
        "digest": trial["digest"][:_DIGEST_SHOWN],
        "verdict": trial["verdict"] or trial["state"],
        "seconds": None if seconds is None else shown_seconds(seconds),
        "flaky": trial["flaky_attempts"] or None,
        "changed": _changed(trial),
    }


def _changed(trial: Mapping[str, Any]) -> str:
    changes = trial["changes"]
    if changes is None:
        return ""
    words = {
        "verdict": f"was {changes['verdict_before']}",
        "runtime": f"runtime was {', '.join(changes['runtimes_before'] or ()) or 'none'}",
        "failed": _expectations(changes),
    }
    return "; ".join(words.get(what, f"other {what}") for what in changes["what"])


def _expectations(changes: Mapping[str, Any]) -> str:
    since = [("fails now", changes["failed_since"]), ("met now", changes["met_since"])]
    return "; ".join(f"{words}: {', '.join(found)}" for words, found in since if found)
