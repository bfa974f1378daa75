"""What a smoke test can expect of a run, each kind with a model of its own."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

import re2  # type: ignore[import-untyped]
from pydantic import AfterValidator, Field, field_validator, model_validator

from registry.contract.base import Wire, is_empty, is_none

_KERNEL_FOLDERS = ("/dev", "/proc", "/sys")
MAX_STOP_SECONDS = 300.0
PATTERN_BYTES = 1024 * 1024
"""Of memory; a spec has a hundred patterns, and RE2's own limit for each is eight times that."""


def compiled(text: str) -> Any:
    """The RE2 pattern, with at most ``PATTERN_BYTES`` of memory for it and for what it finds.

    Raises:
        ValueError: it is none, or takes more.
    """
    options = re2.Options()
    options.max_mem = PATTERN_BYTES
    # It would write the pattern itself to stderr, newlines and all, between the lines of the log.
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        why = error.args[0]
        said = why.decode("utf-8", "replace") if isinstance(why, bytes) else why
        raise ValueError(f"not an RE2 pattern: {said}") from None


def _pattern(text: str) -> str:
    compiled(text)
    return text


def _arguments(command: tuple[str, ...]) -> tuple[str, ...]:
    if any("\0" in part for part in command) or sum(map(len, command)) > 128 * 1024:
        raise ValueError("a command has no NUL and at most 128 KiB")
    return command


Pattern = Annotated[str, Field(max_length=1000), AfterValidator(_pattern)]
"""An RE2 pattern."""
Command = Annotated[tuple[str, ...], Field(min_length=1, max_length=256), AfterValidator(_arguments)]


class HttpExpectation(Wire):
    """A GET on the container's own loopback answers like this within ``alive_seconds``."""

    port: int = Field(ge=1, le=65535)
    path: str = Field(default="/", pattern=r"^/[!-~]{0,1023}$")
    status: int = Field(default=200, ge=100, le=599)
    body: Pattern | None = Field(default=None, description="RE2 pattern found in the first 64 KiB")


class TcpExpectation(Wire):
    """A connection to this port of the container's loopback is accepted within ``alive_seconds``."""

    port: int = Field(ge=1, le=65535)


class LogExpectation(Wire):
    """A line of output (stdout and stderr together) matches this RE2 pattern."""

    match: Pattern = Field(min_length=1)


class ExecExpectation(Wire):
    """A command that is run inside, as the run's own user and under all of its restrictions, ends like this
    within ``alive_seconds``; until then it is tried again."""

    command: Command = Field(description="no shell; a path, or a name that is looked for on the run's PATH")
    exit: int = Field(default=0, ge=0, le=255)
    match: Pattern | None = Field(
        default=None,
        description="RE2 pattern found in the first 64 KiB of its output; ^ and $ are the ends of a line",
    )

    def in_words(self) -> str:
        """For the verdict."""
        matching = "" if self.match is None else f" with output that matches {self.match!r}"
        return f"{shlex.join(self.command)[:200]!r} exits {self.exit}{matching}"

    @field_validator("command")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0]:
            raise ValueError("the command has no name")
        return value


class FileExpectation(Wire):
    """A file of the run, looked at from outside, is like this within ``alive_seconds``, or when the command
    has ended. Links are followed as inside, save by ``kind: link`` and ``absent``."""

    path: str = Field(min_length=2, max_length=4096, description="absolute; not below /dev, /proc, /sys")
    kind: Literal["file", "folder", "link"] | None = Field(
        default=None, description="left out: a file or a folder"
    )
    mode: str | None = Field(
        default=None, pattern="^0?[0-7]{3,4}$", description="permissions in octal, as in 0644"
    )
    match: Pattern | None = Field(
        default=None,
        description="RE2 pattern found in the first 64 KiB of a regular file; ^ and $ are the ends of a line",
    )
    absent: bool = Field(default=False, description="nothing is there, looked at when all else is over")

    def in_words(self) -> str:
        """For the verdict."""
        if self.absent:
            return f"nothing is at {self.path}"
        said = [f"a {self.kind or 'file or folder'} is at {self.path}"]
        if self.mode is not None:
            said.append(f"with mode {self.mode}")
        if self.match is not None:
            said.append(f"with content that matches {self.match!r}")
        return " ".join(said)

    @field_validator("path")
    @classmethod
    def _plain(cls, value: str) -> str:
        names = [name for name in value.split("/") if name not in ("", ".")]
        if not value.startswith("/") or not names or ".." in names or "\0" in value:
            raise ValueError(f"{value[:80]!r} is not an absolute path without '..'")
        if f"/{names[0]}" in _KERNEL_FOLDERS:
            raise ValueError(f"/{names[0]} is made by the kernel for each run, and is not looked at")
        return "/" + "/".join(names)

    @model_validator(mode="after")
    def _one_question(self) -> FileExpectation:
        if self.absent and (self.kind or self.mode or self.match):
            raise ValueError("what is to be absent has no kind, mode or content")
        if self.match is not None and self.kind in ("folder", "link"):
            raise ValueError(f"a {self.kind} has no content to match")
        if self.mode is not None and self.kind == "link":
            raise ValueError("a link has no mode of its own")
        return self


class StopExpectation(Wire):
    """When everything else has been seen, the command is sent its stop signal, and ends in time."""

    within_seconds: float = Field(default=10.0, gt=0, le=MAX_STOP_SECONDS)
    exit: int | None = Field(default=None, ge=0, le=255, description="left out: with whatever exit code")

    def in_words(self) -> str:
        """For the verdict."""
        code = "" if self.exit is None else f" with exit code {self.exit}"
        return f"ends{code} within {self.within_seconds:g} s of its stop signal"


class Expectations(Wire):
    """All of them must hold. ``exit`` and ``alive`` exclude each other."""

    exit: int | None = Field(default=None, ge=0, le=255, description="exit code of the command")
    alive: bool | None = Field(default=None, description="still running after alive_seconds")
    log: tuple[LogExpectation, ...] = Field(default=(), max_length=32)
    http: tuple[HttpExpectation, ...] = Field(default=(), max_length=32)
    tcp: tuple[TcpExpectation, ...] = Field(default=(), max_length=32)
    exec: tuple[ExecExpectation, ...] = Field(default=(), max_length=8, exclude_if=is_empty)
    file: tuple[FileExpectation, ...] = Field(default=(), max_length=32, exclude_if=is_empty)
    stop: StopExpectation | None = Field(default=None, exclude_if=is_none)

    @model_validator(mode="after")
    def _one_end(self) -> Expectations:
        if self.exit is not None and self.alive:
            raise ValueError("'exit' and 'alive' exclude each other: a command either ends or stays up")
        if self.exit is not None and self.stop is not None:
            raise ValueError(
                "'exit' and 'stop' exclude each other: 'exit' is for a command that ends by itself"
            )
        return self

    def tells(self) -> bool:
        """Whether anything but ``stop`` is to be seen, after which the command may be stopped."""
        lists = (self.log, self.http, self.tcp, self.exec, self.file)
        return self.exit is not None or bool(self.alive) or any(lists)
