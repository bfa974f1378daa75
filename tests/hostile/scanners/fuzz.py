"""Fuzzes one reader by coverage: ``python -m tests.hostile.scanners.fuzz NAME SECONDS CORPUS``.

NAME is one of :mod:`tests.kit.fuzztargets`; that of a reader of packages is the path of a file that it wants.
The folder CORPUS gets what atheris found worth keeping; it is filled with the files of the kit first. Ends
with 0 where nothing was raised and nothing hung.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

OURS = ["sandbox.scanners", "registry.advisories", "registry.formats", "registry.oci.strictjson"]
with atheris.instrument_imports(include=[*OURS, "json", "shlex"]):
    from tests.kit.fuzztargets import target_of

MAX_BYTES = 64 * 1024
MAX_MEMORY_MIB = 1024
MAX_SECONDS_OF_ONE = 20


def main() -> None:
    name, seconds, corpus = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    target = target_of(name)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
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
        target.run,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
