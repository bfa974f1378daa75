"""What reads a layer may open nothing once it is confined: not even a part of Python that is loaded late."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile

PROGRAM = """
import io, json, sys
from sandbox.scanners.content import archives
from tests.kit.mutating import Seed, seeds

cases = [(seed, seed.data) for seed in seeds()]
npm = Seed("node_modules/a/package.json", b"")
said = json.dumps({"name": "a", "version": "1"}).encode()
# Not by their codecs: these would be loaded then.
cases += [(npm, bytes([0xef, 0xbb, 0xbf]) + said), (npm, b"".join(bytes([each, 0]) for each in said))]
packed = sys.stdin.buffer.read()

def refuse(event, arguments):
    if event in ("open", "import"):
        raise PermissionError(f"{event} {arguments[0]}")

sys.addaudithook(refuse)
for seed, data in cases:
    seed.look(data)
    seed.look(data[: len(data) // 2])
[name for name, _ in archives.members(io.BytesIO(packed), "a.zip", archives.Budget(10_000, 10_000))]
sys.stdout.write("read")
"""


def test_no_reader_opens_or_loads_anything_once_it_is_there() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        made.writestr("plain.txt", "plain")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=packed.getvalue(), check=False, capture_output=True
    )
    assert done.stdout == b"read", done.stderr.decode()
