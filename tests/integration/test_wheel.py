"""The wheel works outside the clone: whole, and without the server's libraries as a worker has it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.kit.wheel import Installed, build_wheel, install


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("server"), extras=["server"])


@pytest.fixture(scope="module")
def worker(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("worker"))


def test_it_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "registry/_migrations/env.py" in names
    assert any(name.startswith("registry/_migrations/versions/0001") for name in names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {"registry/pages/templates/base.html", "registry/pages/static/htmx.min.js"} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("seatrial-")} == {"registry", "sandbox"}


def test_the_command_names_its_groups(server: Installed) -> None:
    result = server.run("seatrial", "--help")
    assert result.returncode == 0, result.stderr
    for command in (
        "serve",
        "up",
        "worker",
        "run",
        "bundle",
        "doctor",
        "user",
        "token",
        "repo",
        "tag",
        "trial",
    ):
        assert command in result.stdout


def test_migrations_run_from_the_wheel(server: Installed) -> None:
    code = "from registry.db.migrate import upgrade; print(upgrade('sqlite:///fresh.db').after)"
    result = server.run("python", "-c", code)
    assert result.returncode == 0, result.stderr
    assert (server.folder / "fresh.db").stat().st_size > 0


def test_a_worker_needs_none_of_the_servers_libraries(worker: Installed) -> None:
    assert worker.run("python", "-c", "import sqlalchemy").returncode != 0
    for command in (["--help"], ["doctor", "--help"], ["run", "--help"], ["worker", "run", "--help"]):
        result = worker.run("seatrial", *command)
        assert result.returncode == 0, (command, result.stderr)


def test_a_worker_that_is_told_to_serve_says_what_is_missing(worker: Installed) -> None:
    result = worker.run("seatrial", "serve", "--data", "data")
    assert result.returncode != 0
    assert "seatrial[server]" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (worker.folder / "data").exists()
