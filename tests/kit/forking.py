"""The real server, started in a moment: a process that has everything imported forks one each time.

``python -m tests.kit.forking serve …`` forks for each line it reads, which says where to listen, and tells
where the server is and how it ended. For tests that start it again and again.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.kit.ports import free_port
from tests.kit.server import Registry, inherited, server_environment
from tests.kit.sources import ROOT

_STOP_SECONDS = 60
_PR_SET_PDEATHSIG = 1


class ForkedServer:
    """``seatrial serve`` on one database and one data folder, to be killed and started again."""

    def __init__(
        self, data: Path, database_url: str, *, module: str = "tests.kit.forking", **settings: str
    ) -> None:
        self.data, self.database_url = data, database_url
        self.running: Registry | None = None
        self._port = free_port()
        self._child = 0
        with (data.parent / f"{data.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                # The kernel ends it when the test run dies, and then the server, however that happens.
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    sys.executable,
                    "-m",
                    module,
                    "serve",
                    "--data",
                    str(data),
                ],
                env={**inherited(), **server_environment(database_url, **settings)},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )

    def start(self) -> Registry:
        """Start it, on the same port as before; where it is running already, that is it."""
        if self.running is not None:
            return self.running
        assert self._process.stdin is not None
        self._process.stdin.write(f"127.0.0.1:{self._port}\n")
        told = self._told()
        self._child = told["pid"]
        host = str(told["address"]).removeprefix("http://")
        self.running = Registry(host, (self.data / "admin.token").read_text(encoding="utf-8").strip())
        return self.running

    def kill(self) -> None:
        """``kill -9``: no time for a last word."""
        os.kill(self._child, signal.SIGKILL)
        assert self.wait_until_killed()

    def wait_until_killed(self) -> bool:
        """Wait until it has ended, and tell whether it was killed."""
        self.running = None
        return bool(self._told()["signal"] == signal.SIGKILL)

    def stop(self) -> None:
        """End it for good."""
        if self.running is not None:
            self.kill()
        self._process.communicate(timeout=_STOP_SECONDS)

    def _told(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server did not start; see {self.data}.log"
        return json.loads(line)


def serve_again_and_again(arguments: list[str]) -> None:
    """Be the server, in a child, once for each line of the input."""
    from aiohttp import web

    from registry.http.api import table
    from registry.main import run
    from registry.pages import table as pages

    for late in (
        "registry.cli.serve",
        "registry.cli.process",
        "registry.cli.upgrading",
        "aiosqlite",
        "psycopg",
    ):
        importlib.import_module(late)
    for routes in (table, pages):  # so that what is read of them once is read here
        routes.add_routes(web.Application())
    for listen in sys.stdin:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.close(read_end)
            os.dup2(2, 1)
            os._exit(run([*arguments, "--listen", listen.strip(), "--ready-fd", str(write_end)]))
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            told = ready.read()
        if told:
            print(json.dumps({**json.loads(told), "pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"signal": os.WTERMSIG(status)}), flush=True)


if __name__ == "__main__":
    serve_again_and_again(sys.argv[1:])
