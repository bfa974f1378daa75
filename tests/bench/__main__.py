"""``python -m tests.bench``: measure, print, keep, and fail when a figure is missed."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path

from tests.bench import figures

KEPT = Path(__file__).resolve().parents[2] / "docs/benchmarks.json"


def main() -> int:
    """Measure everything; 1 where a figure is missed."""
    found: list[figures.Figure] = []
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as scratch:
        # The registry drops to another user under `up`, who must be able to walk to his data folder.
        Path(scratch).chmod(0o755)
        for measure in (figures.start, figures.large_blob, figures.verdict):
            for figure in measure(Path(scratch)):
                limit = "" if figure.limit is None else f"  (at most {figure.limit:g})"
                missed = "" if figure.met else "  MISSED"
                print(f"{figure.name:<50} {figure.value:9.2f} {figure.unit}{limit}{missed}", flush=True)
                found.append(figure)
    KEPT.write_text(
        json.dumps(
            {
                "python": platform.python_version(),
                "figures": [
                    {"name": f.name, "value": round(f.value, 3), "unit": f.unit, "limit": f.limit}
                    for f in found
                ],
            },
            indent=2,
        )
        + "\n"
    )
    return 0 if all(figure.met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
