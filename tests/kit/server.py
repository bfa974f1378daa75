"""The registry for tests: in this process on a free port, or the real ``seatrial serve`` to be killed.

Both are whole: real database, real blobs, real sign-in. The administrator's token is a password too::

    async with running_registry(tmp_path, database_url) as registry:
        async with registry.client() as client:
            response = await client.get("/v2/")
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import structlog
from aiohttp.web_app import _cached_build_middleware

from registry.auth.firststart import admin_token_file, ensure_admin
from registry.cli.process import opened_services
from registry.db.migrate import upgrade
from registry.events.attempts import Pace
from registry.http.server import running_server
from registry.http.services import Services
from registry.settings import Settings
from tests.kit.ports import free_port
from tests.kit.warm import ForkedProcess, can_fork, start_seatrial

STOP_SECONDS = 60
ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry that listens. ``host`` is what clients write before an image's name; ``certificate`` is the
    one to trust where it speaks HTTPS."""

    host: str
    token: str = field(repr=False)
    services: Services | None = None
    certificate: Path | None = None

    @property
    def url(self) -> str:
        """Address without a path."""
        return f"{'https' if self.certificate else 'http'}://{self.host}"

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """What to shake hands with, as aiohttp takes it."""
        return ssl.create_default_context(cafile=self.certificate) if self.certificate else True

    def client(
        self, token: str | None = None, *, user: str = ADMIN, anonymous: bool = False
    ) -> aiohttp.ClientSession:
        """A session for this registry: the administrator's, that of another API token or ``user`` with a
        password, or nobody's."""
        headers = {}
        if not anonymous:
            headers["Authorization"] = aiohttp.encode_basic_auth(user, token or self.token)
        connector = aiohttp.TCPConnector(ssl=self.tls)
        return aiohttp.ClientSession(self.url, headers=headers, auto_decompress=False, connector=connector)


def settings_for(data: Path, database_url: str | None, **given: Any) -> Settings:
    """Settings for a registry of a test: a free port, and no gate that a test did not ask for."""
    values = {"listen": "127.0.0.1:0", "gate": "off", "trial_on_push": False} | given
    return Settings(data=data, database_url=database_url, **values)


@asynccontextmanager
async def running_registry(
    data: Path, database_url: str, *, pace: Pace | None = None, **given: Any
) -> AsyncIterator[Registry]:
    """Serve in this process. ``given`` are settings, ``pace`` that of webhooks; the database has its schema
    already."""
    settings = settings_for(data, database_url, **given)
    data.mkdir(exist_ok=True)
    # structlog's own default draws each traceback with its local variables, which takes seconds.
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    async with opened_services(settings, pace=pace) as services:
        await ensure_admin(services.database, settings)
        token = admin_token_file(settings).read_text(encoding="utf-8").strip()
        async with running_server(services) as (host, port):
            own = data / "tls" / "certificate.pem"
            certificate = (settings.tls_certificate_file or own) if settings.scheme == "https" else None
            yield Registry(f"{host}:{port}", token, services, certificate)
    # aiohttp keeps the last 1024 applications that answered, and so all they hold; each look of the garbage
    # collector would take longer than that of the test before.
    _cached_build_middleware.cache_clear()


@asynccontextmanager
async def running_replicas(
    folder: Path, database_url: str, count: int, **given: Any
) -> AsyncIterator[list[Registry]]:
    """So many registries in this process, which share a database, a store and nothing else."""
    async with AsyncExitStack() as stack:
        first = folder / "0"
        shared = {
            "storage_url": f"file://{folder / 'blobs'}",
            "admin_token_file": first / "admin.token",
            **given,
        }
        made: list[Registry] = []
        for number in range(count):
            replica = running_registry(folder / str(number), database_url, **shared)
            made.append(await stack.enter_async_context(replica))
            shared["secret_key_file"] = first / "secret.key"
        yield made


class RegistryProcess:
    """``seatrial serve`` as a process of its own, which can be killed and started again on the same data.

    ``program`` is the command ``seatrial``; if not given, that of the clone, with all imported where that is
    the same (see warm.py). ``through`` is what runs it elsewhere: as another user, in another network
    namespace. ``host`` is where it listens.
    """

    def __init__(
        self,
        data: Path,
        database_url: str | None = None,
        *,
        program: Sequence[str] = (),
        through: Sequence[str] = (),
        host: str = "127.0.0.1",
        **settings: str,
    ) -> None:
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        self._environment = server_environment(database_url, **settings)
        self._program = program
        self._through = through
        self._host = host
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._port = free_port()

    def start(self) -> Registry:
        """Start it and wait until it listens; after a kill it takes the same port again, which nobody had."""
        read_end, write_end = os.pipe()
        with self.log.open("ab") as log, os.fdopen(read_end) as ready:
            self._process = self._start(log.fileno(), write_end)
            os.close(write_end)
            told = ready.read()  # ends when it has listened, or when it has died
        if not told:
            self.stop()
            raise AssertionError(f"seatrial serve did not start:\n{self.log.read_text()[-4000:]}")
        address = str(json.loads(told)["address"])
        token = (self.data / "admin.token").read_text(encoding="utf-8").strip()
        scheme, _, host = address.partition("://")
        certificate = self.data / "tls" / "certificate.pem" if scheme == "https" else None
        return Registry(host, token, certificate=certificate)

    def _start(self, output: int, ready: int) -> subprocess.Popen[bytes] | ForkedProcess:
        arguments = ["serve", "--data", str(self.data), "--listen", f"{self._host}:{self._port}"]
        if not self._program and not self._through and can_fork():
            if "SEATRIAL_DATABASE_URL" not in self._environment and not self.data.exists():
                self._prepare_database()
            environment = {**inherited(), **self._environment}
            return start_seatrial(arguments, environment=environment, output=output, ready=ready)
        return subprocess.Popen(
            [
                # Named here too: what it runs through may begin with an environment of its own.
                *(*self._through, "/usr/bin/env", *map("=".join, self._environment.items())),
                *(self._program or (sys.executable, "-m", "registry.main")),
                *(*arguments, "--ready-fd", str(ready)),
            ],
            env=inherited(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(ready,),
        )

    def _prepare_database(self) -> None:
        """Have the server find its schema there, as after another start: to make it takes longer than to
        start. The tests of first starts and of migrations let the server make it."""
        with suppress(OSError):  # which is the server's to tell
            self.data.mkdir(mode=0o700)
            path = self.data / "seatrial.db"
            path.touch(mode=0o600)
            path.write_bytes(_newest_schema())

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        assert self._process is not None
        self._process.terminate()

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """``kill -9``: no time for a last word."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and insist if it does not. Fine when it is not running."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@cache
def _newest_schema() -> bytes:
    """A file of SQLite with no rows but those that migrations make."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "seatrial.db"
        upgrade(f"sqlite:///{path}")
        return path.read_bytes()


def inherited() -> Mapping[str, str]:
    """What a server of a test has of this process's environment."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def server_environment(database_url: str | None, **settings: str) -> dict[str, str]:
    """These settings as variables, with no gate that a test did not ask for."""
    values = {"gate": "off", "trial_on_push": "false"} | settings
    if database_url is not None:
        values["database_url"] = database_url
    return {f"SEATRIAL_{name.upper()}": value for name, value in values.items()}
