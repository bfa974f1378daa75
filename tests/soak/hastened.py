"""The server of ``make soak``: what waits for minutes elsewhere (for the lease of a dead one, or until it is
time to look) waits for moments, so that a kill in it is followed by more of it.

Pulls are not written down: they would keep what a retention policy is to take.
"""

from __future__ import annotations

import importlib
import sys
from datetime import timedelta

from tests.kit.crashing import hasten_s3
from tests.kit.forking import serve_again_and_again

LEASE = timedelta(seconds=0.5)


def main(arguments: list[str]) -> None:
    """Hasten, then serve."""
    from registry.settings import load_settings

    if load_settings().effective_storage_url.startswith("s3"):
        hasten_s3()
    for name in ("collections", "retentionruns", "scrubs"):
        importlib.import_module(f"registry.content.{name}").LEASE = LEASE
    importlib.import_module("registry.content.scrubs").SAVE_SECONDS = LEASE.total_seconds() / 5
    for name in ("collecting", "retaining", "scrubbing"):
        importlib.import_module(f"registry.http.{name}").LOOK_SECONDS = LEASE.total_seconds()
    importlib.import_module("registry.http.auditing").WRITE_SECONDS = 86_400.0
    serve_again_and_again(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
