"""Images that scan: a static busybox with a script, which keeps their contract or breaks it."""

from __future__ import annotations

import json
from typing import Any

from registry.contract.otherscanner import SCANNER_LABEL
from tests.kit.images import Image, Layer, busybox_image

SUBJECT = """digest=$(sed -n 's/^{"digest": "\\([a-z0-9:]*\\)".*/\\1/p' /in/image.json)\n"""
"""What a script begins with that says which image it looked at: ``$digest``."""


def scanner_image(script: str, *layers: Layer, label: str | None = None, **declared: Any) -> Image:
    """A scanner that runs ``script``; ``label`` is what it says of itself, else ``declared`` is."""
    said = json.dumps({"version": 1, **declared}) if label is None else label
    return busybox_image(("/bin/sh", "-c", script), layers=layers, labels={SCANNER_LABEL: said})


def leaves(document: dict[str, Any]) -> str:
    """The script that leaves this document, with the ``digest`` of the image that it looked at."""
    text = json.dumps({"scanner": "scripted 1.0", "digest": "DIGEST", **document})
    return (
        f"{SUBJECT}cat > /tmp/it <<'END'\n{text}\nEND\nsed \"s/DIGEST/$digest/\" /tmp/it > /out/report.json\n"
    )
