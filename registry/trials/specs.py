"""Run specs as they are stored: canonical JSON, known by its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from registry.db.trials import IMAGE_SUGGESTED


def spec_digest(run_spec: str | None) -> str:
    """What the canonical JSON of a run spec is known by; ``None`` is what the image suggests."""
    if run_spec is None:
        return IMAGE_SUGGESTED
    return "sha256:" + hashlib.sha256(run_spec.encode()).hexdigest()


def required_by(run_spec: str | None) -> Sequence[str]:
    """The mechanisms that the canonical JSON of a run spec demands."""
    return () if run_spec is None else json.loads(run_spec).get("require", ())
