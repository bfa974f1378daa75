"""Work that is done in a process of its own."""

from __future__ import annotations

import sys

import pytest

from registry.cli.apart import do_apart
from registry.errors import ConflictError, SeatrialError
from registry.settings import SettingsError

# Where tests run beside each other there are threads, which a server that starts has none of.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def test_what_it_loads_is_gone_with_it(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        import wave

        print(wave.__name__)

    sys.modules.pop("wave", None)
    do_apart(work)
    assert capfd.readouterr().out == "wave\n"
    assert "wave" not in sys.modules


@pytest.mark.parametrize("kind", [ConflictError, SettingsError])
def test_what_it_raises_is_raised(kind: type[SeatrialError]) -> None:
    def refuse() -> None:
        raise kind("not so")

    with pytest.raises(kind, match="not so"):
        do_apart(refuse)


def test_what_nobody_thought_of_is_told_and_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("what nobody thought of")

    with pytest.raises(SystemExit) as ended:
        do_apart(fail)
    assert ended.value.code == 1
    assert "RuntimeError: what nobody thought of" in capfd.readouterr().err
