"""Fuzzes one reader of packages by coverage: ``python -m tests.hostile.scanners.fuzz PATH SECONDS CORPUS``.

PATH names the reader by a file that it wants. The folder CORPUS gets what atheris found worth keeping; it is
filled with the files of the kit first. Ends with 0 where nothing was raised and nothing hung.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sandbox.scanners", "json", "shlex"]):
    import sandbox.scanners.packages  # noqa: F401
from tests.kit.mutating import Seed, seeds

MAX_BYTES = 64 * 1024
MAX_MEMORY_MIB = 1024
MAX_SECONDS_OF_ONE = 20


def main() -> None:
    path, seconds, corpus = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    for number, seed in enumerate(seed for seed in seeds() if seed.path == path):
        (corpus / f"seed-{number}").write_bytes(seed.data)

    reader = Seed(path, b"")
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={seconds}",
            f"-max_len={MAX_BYTES}",
            f"-rss_limit_mb={MAX_MEMORY_MIB}",
            f"-timeout={MAX_SECONDS_OF_ONE}",
            f"-artifact_prefix={corpus}/",
            "-print_final_stats=1",
        ],
        reader.look,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
