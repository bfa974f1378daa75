"""The servers that are measured beside ours, each set up the way that is cheapest for it.

None of them asks who is calling or whether an image may be pulled, which is to their advantage.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.load import SERVER_CORE, Target
from tests.bench.processes import started, wait_ready
from tests.kit.ports import free_port
from tests.kit.toolfolder import tools_folder

_CONFIG = """
version: 0.1
log: {{level: {level}, accesslog: {{disabled: {quiet}}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port}{tls}; root {folder}; }}
}}
"""


class MissingError(Exception):
    """A peer is not on this machine; the message says where it would come from."""


@contextmanager
def distribution(folder: Path, *, logs: bool, core: int | None = SERVER_CORE) -> Iterator[Target]:
    """distribution v3, its in-memory cache of descriptors on; ``logs`` as its own defaults have them."""
    program = built("registry")
    with _distribution([program, "serve"], folder, logs=logs, core=core, name="distribution") as target:
        yield target


@contextmanager
def docker_registry(folder: Path, *, core: int | None = SERVER_CORE) -> Iterator[Target]:
    """Debian's docker-registry (distribution 2), without logs."""
    program = _installed("docker-registry")
    with _distribution([program, "serve"], folder, logs=False, core=core, name="docker-registry") as target:
        yield target


@contextmanager
def olareg(folder: Path, *, core: int | None = SERVER_CORE) -> Iterator[Target]:
    """olareg with a folder as its store; it has no access log."""
    program, port = built("olareg"), free_port()
    folder.mkdir()
    command = [program, "serve", "--addr", "127.0.0.1", "--port", str(port), "--dir", str(folder / "data")]
    (folder / "data").mkdir()
    with started(command, log=folder / "log", core=core) as process:
        wait_ready(f"http://127.0.0.1:{port}/v2/", process)
        yield Target("olareg", port, (process.pid,))


@contextmanager
def nginx(
    folder: Path, *, certificate: tuple[Path, Path] | None = None, core: int | None = SERVER_CORE
) -> Iterator[Target]:
    """nginx that serves the files of ``folder`` with sendfile, as Debian sets it up; one worker.

    With a ``certificate`` and its key by TLS, where sendfile cannot be.
    """
    program, port = _installed("nginx"), free_port()
    folder.mkdir(exist_ok=True)
    (folder / "ready").write_text("ready")
    tls = (
        f" ssl; ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]}" if certificate else ""
    )
    config = folder / ("tls.conf" if certificate else "plain.conf")
    config.write_text(_NGINX.format(folder=folder, port=port, tls=tls))
    command = [program, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
    with started(command, log=folder / "log", core=core) as process:
        wait_ready(f"{'https' if tls else 'http'}://127.0.0.1:{port}/ready", process)
        yield Target("nginx", port, (process.pid,), tls=bool(tls))


@contextmanager
def bare(folder: Path, loop: str, body: bytes, *, core: int | None = SERVER_CORE) -> Iterator[Target]:
    """An aiohttp handler that answers ``body`` whatever is asked."""
    port = free_port()
    folder.mkdir()
    (folder / "body").write_bytes(body)
    command = [sys.executable, "-m", "tests.bench.bare", str(port), loop, str(folder / "body")]
    with started(command, log=folder / "log", core=core) as process:
        wait_ready(f"http://127.0.0.1:{port}/v2/any/manifests/ready", process)
        yield Target(f"bare aiohttp, {loop}", port, (process.pid,))


def versions() -> dict[str, str]:
    """What each peer that is there calls itself."""
    asked = {
        "distribution": (built, "registry", "--version"),
        "olareg": (built, "olareg", "version"),
        "docker-registry": (_installed, "docker-registry", "--version"),
        "nginx": (_installed, "nginx", "-v"),
        "syft": (built, "syft", "--version"),
        "trivy": (built, "trivy", "--version"),
    }
    found = {}
    for name, (find, program, option) in asked.items():
        try:
            said = subprocess.run([find(program), option], capture_output=True, text=True, check=False)
        except MissingError:
            continue
        # What is built without its maker's script may not know; then the name of the file does.
        told = f"{said.stdout} {said.stderr} {Path(find(program)).resolve().name}"
        number = re.search(r"\bv?[0-9]+\.[0-9]+\.[0-9]+\b", told)
        found[name] = number[0].removeprefix("v") if number else "?"
    return found


@contextmanager
def _distribution(
    command: list[str], folder: Path, *, logs: bool, core: int | None, name: str
) -> Iterator[Target]:
    port = free_port()
    folder.mkdir()
    config = folder / "config.yml"
    level, quiet = ("info", "false") if logs else ("error", "true")
    config.write_text(_CONFIG.format(level=level, quiet=quiet, folder=folder, port=port))
    environment = {"OTEL_TRACES_EXPORTER": "none"}
    with started([*command, str(config)], log=folder / "log", environment=environment, core=core) as process:
        wait_ready(f"http://127.0.0.1:{port}/v2/", process)
        yield Target(name, port, (process.pid,))


def built(name: str) -> str:
    """Where a program is that scripts/tools.sh builds.

    Raises:
        MissingError: it is not built.
    """
    path = tools_folder() / name
    if not path.exists():
        raise MissingError(f"{name} is not built: scripts/tools.sh bench")
    return str(path)


def _installed(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingError(f"{name} is not installed: scripts/packages.sh bench")
    return found
