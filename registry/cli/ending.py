"""Waiting for the end of what a replica is at."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from registry.cli.client import Client
from registry.cli.progress import progress_bar

_LOOK_SECONDS = 0.5


def until_ended(
    client: Client,
    path: str,
    shown: Any,
    *,
    label: str,
    total: int,
    done: Callable[[Any], int],
    of_bytes: bool = False,
) -> Any:
    """What the server shows at ``path`` once it has ended, ``shown`` until then; ``done`` says how much of
    ``total`` it has come to."""
    told = 0
    with progress_bar(label, total, of_bytes=of_bytes) as advance:
        while True:
            advance(done(shown) - told)
            told = done(shown)
            if shown["ended_at"] is not None:
                return shown
            time.sleep(_LOOK_SECONDS)
            shown = client.get(path)
