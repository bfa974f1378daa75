"""nginx and Caddy of a test's own, in front of a registry."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.kit.sources import ROOT

START_SECONDS = 90
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAIN = """\
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{sites}
}}
"""


def example(name: str, replaced: Mapping[str, str]) -> str:
    """``deploy/NAME`` with words replaced; each must be there."""
    text = (ROOT / "deploy" / name).read_text()
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def running_nginx(folder: Path, sites: str) -> Iterator[None]:
    """nginx with these ``server`` blocks, until the block ends. It listens wherever they say."""
    folder.mkdir()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_MAIN.format(user=user, folder=folder, sites=sites))
    ports = [int(port) for port in re.findall(r"listen 127\.0\.0\.1:([0-9]+)", sites)]
    with _running(
        ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")], folder, ports
    ):
        yield


@contextmanager
def running_caddy(folder: Path, caddyfile: str, port: int) -> Iterator[None]:
    """Caddy with this file, listening on ``port``."""
    folder.mkdir()
    (folder / "Caddyfile").write_text(caddyfile)
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with _running(command, folder, [port]):
        yield


@contextmanager
def _running(command: list[str], folder: Path, ports: list[int]) -> Iterator[None]:
    environment = {
        "PATH": PATH,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        for port in ports:
            _wait(process, port, folder)
        yield
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            said = (folder / "output").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        else:
            return
