"""The entry point: exit codes, lazy imports, sentences instead of tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.cli.durations import parse_duration_seconds
from registry.cli.options import server_settings
from registry.cli.output import cell, print_table
from registry.errors import RequestInvalidError
from registry.main import ALTERNATIVES, COMMANDS, run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no data folder, so no token


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["serve", "--gate", "sometimes"],
        ["serve", "--listen", "nowhere"],
        ["token", "create"],
        ["token", "create", "--name", "n"],
        ["token", "create", "--name", "n", "--scope", "admin", "--expires", "soon"],
        ["token", "create", "--name", "n", "--worker", "w"],
        ["repo", "set", "a/b"],
        ["repo", "create"],
        ["repo", "create", "a", "--run-spec", "none.yaml"],
        ["tag", "history", "a/b"],
        ["tag", "rollback", "a/b:UP:x"],
        ["repo", "list", "--server", "ftp://x"],
        ["repo", "list", "--token-file", "none"],
        ["user"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 64
    said = capsys.readouterr()
    assert said.err
    assert "Traceback" not in said.err
    assert not said.out


def test_a_registry_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repo", "list", "--server", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err == "seatrial: http://127.0.0.1:1 cannot be reached: Connection refused\n"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"Usage: seatrial {name}" in capsys.readouterr().out


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in shown


def test_worker_is_one_group_of_two_halves(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["worker", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("run", "list", "drain", "revoke"):
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", list(ALTERNATIVES))
def test_a_command_has_an_alternative(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    word, _ = ALTERNATIVES[name]
    assert run([name, "--help"]) == 0
    usual = capsys.readouterr().out
    assert run([name, word, "x", "--help"]) == 0
    assert capsys.readouterr().out.partition("Options")[0] != usual.partition("Options")[0]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


def test_a_command_imports_what_it_needs_and_no_more() -> None:
    code = (
        "import sys; from registry.main import run; run(['repo', '--help']); "
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for heavy in ("sqlalchemy", "aiohttp", "jwt", "registry.settings", "re2"):
        assert f"'{heavy}'" not in done.stderr


# The program itself, with what it has loaded in the end.
LOADED = (
    "import atexit, sys; from registry.main import main; loaded = sys.modules.items();"
    "atexit.register(lambda: print('loaded', *(name for name, module in loaded if module))); main()"
)


@pytest.mark.parametrize(
    ("arguments", "needed", "others"),
    [
        ("--version", "importlib.metadata", "pydantic structlog yaml registry.contract"),
        (
            "tag history --server 127.0.0.1:1 a/b:c",
            "registry.cli.client",
            "structlog yaml registry.contract sandbox.host",
        ),
        ("doctor --quick", "sandbox.attempt", "registry.cli.doctor registry.cli.client sandbox.scanners"),
        ("doctor --server 127.0.0.1:1", "registry.cli.doctor", "structlog sandbox.host"),
    ],
)
def test_a_command_starts_without_what_others_need(arguments: str, needed: str, others: str) -> None:
    command = [sys.executable, "-c", LOADED, *arguments.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Whatever it found out: it had loaded what it does that with.
    assert done.returncode in (0, 1, 2), done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert needed in loaded
    # rich comes with a bar, and aiohttp with what speaks to many at once.
    assert not loaded & {*others.split(), "rich", "aiohttp", "sqlalchemy", "boto3"}


def test_a_bar_is_shown_though_the_logs_were_loaded_without_what_draws_it() -> None:
    code = (
        "from registry.cli.progress import leave_out_rich, progress_bar; leave_out_rich()\n"
        "import structlog, sys; assert sys.modules['rich'] is None\n"
        "with progress_bar('collecting', 2) as tell: tell(2)\n"
    )
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        try:
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, check=True)
            assert b"collecting" in terminal.read(65536)
        finally:
            os.close(theirs)


def test_an_image_on_the_disk_is_tried_without_a_client_for_http() -> None:
    code = "import sandbox.cli.doctor, sandbox.host, sandbox.selftest, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "sandbox.images.source" in done.stdout.split()
    assert "aiohttp" not in done.stdout.split()


def test_a_registry_on_sqlite_and_a_folder_loads_neither_the_driver_of_postgresql_nor_that_of_s3(
    tmp_path: Path,
) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from registry.cli.process import opened_services\n"
        "from registry.db.migrate import upgrade\n"
        "from registry.settings import Settings\n"
        "settings = Settings(data=Path(sys.argv[1]))\n"
        "upgrade(settings.effective_database_url)\n"
        "async def main():\n"
        "    async with opened_services(settings):\n"
        "        print(*sys.modules)\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "registry.db.engine" in loaded
    # What takes megabytes, and only some need.
    assert not {"psycopg", "aiobotocore", "botocore"} & set(loaded)


def test_without_the_server_libraries_a_server_command_says_so() -> None:
    # As where only the worker's half is installed: nothing of these can be found.
    code = (
        "import sys, importlib.util as util\n"
        "missing = ('sqlalchemy', 'alembic', 'jwt', 'argon2', 'uuid_utils', 'psycopg')\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in missing:\n"
        "            raise ModuleNotFoundError(name)\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name: None if name in missing else real(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from registry.main import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    for command in (["serve"], ["db", "check"], ["user", "reset", "x"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        assert (
            done.stderr
            == "seatrial: this command needs the server's libraries: pip install 'seatrial[server]'\n"
        )


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604800)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1.5h", "0s", "1H", "1 h", "\u0661h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_duration_seconds(text)


def test_tables_are_aligned_and_tame(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"name": "a", "is_x": True}, {"name": "\x1b[2Jlong", "is_x": None}], ("name", "is_x"))
    assert capsys.readouterr().out == "NAME      IS X\na         yes\n?[2Jlong  -\n"
    assert cell(["x", "y"]) == "x, y"
    assert cell("2026-01-02T03:04:05.000001Z") == "2026-01-02 03:04:05"
    assert cell("2026-01-02Tnot a time at all") == "2026-01-02Tnot a time at all"
    assert cell("2026-01-02T\x1b[2J and more than 20") == "2026-01-02T?[2J and more than 20"


def test_only_the_data_folder_itself_is_closed(tmp_path: Path) -> None:
    """The worker's folder lies beside it, and the users of images must pass through what is above."""
    data = tmp_path / "srv" / "seatrial" / "data"
    before = os.umask(0o022)
    try:
        server_settings(None, data=data)
    finally:
        os.umask(before)
    assert [folder.stat().st_mode & 0o777 for folder in (data, data.parent, data.parent.parent)] == [
        0o700, 0o755, 0o755,
    ]  # fmt: skip
