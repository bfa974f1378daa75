"""A BuildKit of a test's own, without containerd and Docker: root only."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.daemons import running_daemon


@contextmanager
def running_buildkit(tools: Path, *hosts: str) -> Iterator[tuple[str, ...]]:
    """Start one that speaks plain HTTP to ``hosts``; what its client is told to find it."""
    with tempfile.TemporaryDirectory(prefix="buildkit-") as name:
        folder = Path(name)
        found = ("--addr", f"unix://{folder / 'socket'}")
        (folder / "buildkitd.toml").write_text(
            f'root = "{folder / "root"}"\n[grpc]\naddress = ["{found[1]}"]\n'
            "[worker.containerd]\nenabled = false\n"
            '[worker.oci]\nsnapshotter = "native"\nnetworkMode = "host"\n'
            + "".join(f'[registry."{host}"]\nhttp = true\n' for host in hosts)
        )

        def is_ready() -> bool:
            asked = [tools / "buildctl", *found, "debug", "workers"]
            return subprocess.run(asked, capture_output=True, check=False).returncode == 0

        command = [tools / "buildkitd", "--config", folder / "buildkitd.toml"]
        with running_daemon(command, folder / "log", is_ready=is_ready):
            yield found


def build(file: str, *options: str) -> tuple[str, ...]:
    """The client's arguments to build ``file`` in the folder where it runs."""
    places = ("--local", "context=.", "--local", "dockerfile=.", "--opt", f"filename={file}")
    return "build", "--progress", "plain", "--frontend", "dockerfile.v0", *places, *options
