"""Registries on either database and either store, and ``seatrial backup`` on them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.s3 import S3Server
from tests.kit.server import inherited, server_environment
from tests.kit.trials import Port, open_port
from tests.kit.warm import ForkedProcess, start_seatrial


@dataclass(frozen=True, slots=True)
class Place:
    """Where a registry is, or will be."""

    data: Path
    database_url: str
    storage_url: str
    credentials: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Its settings, for commands."""
        given = {"storage_url": self.storage_url}
        if self.credentials is not None:
            given["storage_credentials_file"] = str(self.credentials)
        return server_environment(self.database_url, **given)

    def open(self, **settings: Any) -> AbstractAsyncContextManager[Port]:
        """Serve there; the database has its schema."""
        return open_port(
            self.data,
            self.database_url,
            storage_url=self.storage_url,
            storage_credentials_file=self.credentials,
            **settings,
        )

    def process(self, command: str, *arguments: str, output: Path) -> ForkedProcess:
        """``seatrial backup COMMAND`` for this place, in a process of its own."""
        own = ("--data", str(self.data)) if command in ("create", "restore") else ()
        return self._start("backup", command, *arguments, *own, output=output)

    def _start(self, *arguments: str, output: Path) -> ForkedProcess:
        with output.open("wb") as opened:
            return start_seatrial(
                list(arguments),
                environment={**inherited(), **self.environment},
                output=opened.fileno(),
            )

    async def run(self, command: str, *arguments: str, code: int = 0) -> Any:
        """Run it; what it printed as JSON, and as ``said`` what else it said."""
        return await _ended(lambda output: self.process(command, *arguments, "--json", output=output), code)

    async def fsck(self, *arguments: str, code: int = 0) -> Any:
        """The same of ``seatrial fsck``."""
        given = ("fsck", "--data", str(self.data), *arguments, "--json")
        return await _ended(lambda output: self._start(*given, output=output), code)


async def _ended(start: Callable[[Path], ForkedProcess], code: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        ended = await asyncio.to_thread(start(output).wait)
        said = output.read_text()
    assert ended == code, (ended, said)
    begin = re.search(r"^[\[{]", said, re.MULTILINE)
    if begin is None:
        return {"said": said}
    told, end = json.JSONDecoder().raw_decode(said, begin.start())
    rest = said[: begin.start()] + said[end:]
    return told if isinstance(told, list) else told | {"said": rest.strip()}


class Places:
    """Makes them: ``sqlite`` or ``postgresql``, ``folder`` or ``s3``."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request = request
        self._folder = folder
        self._dropped: list[str] = []

    def make(self, name: str, kind: str, *, schema: bool = False) -> Place:
        """A place where nothing is: no bytes, and no schema if none is asked for."""
        database, store = kind.split("+")
        data = self._folder / name
        if database == "sqlite":
            database_url = f"sqlite:///{data / 'seatrial.db'}"
            if schema:
                data.mkdir()
                shutil.copyfile(self._request.getfixturevalue("sqlite_template"), data / "seatrial.db")
        else:
            server = self._request.getfixturevalue("postgres")
            template = (self._request.getfixturevalue("postgres_template"),) if schema else ()
            self._dropped.append(server.create(*template))
            database_url = server.url(self._dropped[-1])
        if store == "folder":
            return Place(data, database_url, f"file://{data / 'blobs'}")
        s3: S3Server = self._request.getfixturevalue("s3")
        return Place(data, database_url, s3.url(), s3.credentials)

    def drop(self) -> None:
        """Remove what is outside of the folder."""
        for name in self._dropped:
            self._request.getfixturevalue("postgres").drop(name)


@pytest.fixture
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    """Where registries of this test are."""
    made = Places(request, tmp_path)
    yield made
    made.drop()
