"""Who may know whom, and that every module can be imported on its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.kit.sources import ROOT, module_name, source_files

LIBRARIES = (
    "aiohttp.web alembic.command argon2 boto3 cryptography.hazmat.primitives.asymmetric.ec isal.igzip jwt "
    "prometheus_client psycopg pydantic re2 sqlalchemy.ext.asyncio structlog typer uuid_utils yaml"
)
# Each module is imported in a fork of a process that has loaded the libraries but nothing of ours: as a fresh
# interpreter would, at a tenth of the time.
IMPORT_EACH = """
import os, sys, traceback
for library in sys.argv.pop(1).split():
    __import__(library)
assert not [name for name in sys.modules if name.split(".")[0] in ("registry", "sandbox")]
failed = []
for module in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            __import__(module)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(module)
sys.exit(f"cannot be imported alone: {failed}" if failed else 0)
"""


def test_every_module_imports_alone() -> None:
    modules = [module_name(path) for path in source_files() if path.name != "__main__.py"]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(IMPORT_EACH), LIBRARIES, *modules],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_the_import_contracts_hold() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert " 0 broken" in result.stdout
