"""What a smoke test can expect of a run, each kind with a model of its own."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import re2  # type: ignore[import-untyped]
from pydantic import AfterValidator, Field, field_validator, model_validator

from registry.contract.base import Wire, is_empty, is_false, is_none
from registry.contract.fields import PlainPath
from registry.contract.jsonpath import find, parse_path
from registry.contract.sizes import shown_size

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


def _json_path(text: str) -> str:
    parse_path(text)
    return text


Pattern = Annotated[str, Field(max_length=1000), AfterValidator(_pattern)]
"""An RE2 pattern."""
Command = Annotated[tuple[str, ...], Field(min_length=1, max_length=256), AfterValidator(_arguments)]
Arguments = Annotated[tuple[str, ...], Field(max_length=256), AfterValidator(_arguments)]
Within = Annotated[float, Field(gt=0, le=86400)]
"""Seconds since the start for one expectation, instead of ``alive_seconds``."""


class JsonExpectation(Wire):
    """A value at this path of an answer in JSON is like this; without more, there is one."""

    path: Annotated[str, Field(max_length=1000), AfterValidator(_json_path)] = Field(
        description="RFC 9535: names, indexes and wildcards, as in $.checks[*].status"
    )
    equals: str | int | float | bool | None = Field(
        default=None, exclude_if=is_none, description="this value; a number and its text are not the same"
    )
    match: Pattern | None = Field(
        default=None, exclude_if=is_none, description="RE2 pattern found in the text, or in the value as JSON"
    )

    def in_words(self) -> str:
        """For the verdict."""
        if self.equals is not None:
            return f"{self.path} is {json.dumps(self.equals)}"
        return f"{self.path} is there" if self.match is None else f"{self.path} matches {self.match!r}"

    def met_by(self, document: object) -> bool:
        """Whether one of the values at the path is as expected."""
        values = find(parse_path(self.path), document)
        if self.equals is not None:
            # True equals 1.
            truth = isinstance(self.equals, bool)
            return any(one == self.equals and isinstance(one, bool) == truth for one in values)
        if self.match is None:
            return bool(values)
        pattern = compiled(self.match)
        return any(pattern.search(one if isinstance(one, str) else json.dumps(one)) for one in values)

    @model_validator(mode="after")
    def _one_question(self) -> JsonExpectation:
        if self.equals is not None and self.match is not None:
            raise ValueError("give either 'equals' or 'match'")
        if isinstance(self.equals, float) and not math.isfinite(self.equals):
            raise ValueError("'equals' is a number that JSON does not have")
        return self


class HttpExpectation(Wire):
    """A GET on the container's own loopback answers like this within ``alive_seconds``; until then it is sent
    again."""

    port: int = Field(ge=1, le=65535)
    path: str = Field(default="/", pattern=r"^/[!-~]{0,1023}$")
    status: int = Field(default=200, ge=100, le=599)
    body: Pattern | None = Field(default=None, description="RE2 pattern found in the first 64 KiB")
    headers: dict[str, Pattern] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        exclude_if=is_none,
        description="RE2 patterns found in headers of the answer, by name",
    )
    values: tuple[JsonExpectation, ...] = Field(
        default=(),
        max_length=16,
        alias="json",
        exclude_if=is_empty,
        description="the body is JSON of at most 1 MiB, and has these values",
    )
    within_seconds: Within | None = Field(default=None, exclude_if=is_none)

    def in_words(self) -> str:
        """For the verdict."""
        said = [f"HTTP {self.status} from port {self.port}{self.path}"]
        if self.body is not None:
            said.append(f"a body that matches {self.body!r}")
        said += [f"a header {name} that matches {one!r}" for name, one in (self.headers or {}).items()]
        if self.values:
            said.append(f"JSON in which {' and '.join(one.in_words() for one in self.values)}")
        return said[0] if len(said) == 1 else f"{said[0]} with {', '.join(said[1:])}"

    @field_validator("headers")
    @classmethod
    def _names(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name in value or {}:
            if not name.replace("-", "").isalnum() or not name.isascii() or len(name) > 100:
                raise ValueError(f"{name[:80]!r} is not the name of a header")
        return value


class TcpExpectation(Wire):
    """A connection to this port of the container's loopback is accepted within ``alive_seconds``."""

    port: int = Field(ge=1, le=65535)
    within_seconds: Within | None = Field(default=None, exclude_if=is_none)


class LogExpectation(Wire):
    """A line of output (stdout and stderr together) matches this RE2 pattern."""

    match: Pattern = Field(min_length=1)
    absent: bool = Field(
        default=False, exclude_if=is_false, description="no line matches, looked at when the run is over"
    )

    def in_words(self) -> str:
        """For the verdict."""
        return f"{'no line of the log' if self.absent else 'the log'} matches {self.match!r}"


class ExecExpectation(Wire):
    """A command that is run inside, as the run's own user and under all of its restrictions, ends like this
    within ``alive_seconds``; until then it is tried again."""

    command: Command = Field(description="no shell; a path, or a name that is looked for on the run's PATH")
    exit: int = Field(default=0, ge=0, le=255)
    match: Pattern | None = Field(
        default=None,
        description="RE2 pattern found in the first 64 KiB of its output; ^ and $ are the ends of a line",
    )
    within_seconds: Within | None = Field(default=None, exclude_if=is_none)

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

    path: PlainPath = Field(description="absolute; not below /dev, /proc, /sys")
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
    digest: str | None = Field(
        default=None,
        pattern="^sha256:[0-9a-f]{64}$",
        exclude_if=is_none,
        description="of the content of a regular file of at most 64 MiB",
    )
    within_seconds: Within | None = Field(default=None, exclude_if=is_none)

    def in_words(self) -> str:
        """For the verdict."""
        if self.absent:
            return f"nothing is at {self.path}"
        said = [f"a {self.kind or 'file or folder'} is at {self.path}"]
        if self.mode is not None:
            said.append(f"with mode {self.mode}")
        if self.match is not None:
            said.append(f"with content that matches {self.match!r}")
        if self.digest is not None:
            said.append(f"with the digest {self.digest[:19]}…")
        return " ".join(said)

    @model_validator(mode="after")
    def _one_question(self) -> FileExpectation:
        content = self.match is not None or self.digest is not None
        if self.absent and (self.kind or self.mode or content):
            raise ValueError("what is to be absent has no kind, mode or content")
        if content and self.kind in ("folder", "link"):
            raise ValueError(f"a {self.kind} has no content to match")
        if self.mode is not None and self.kind == "link":
            raise ValueError("a link has no mode of its own")
        return self


class StubExpectation(Wire):
    """A stub of the spec is asked like this within ``alive_seconds``: by requests or, where it is for TCP, by
    connections."""

    name: str = Field(max_length=253, description="of the stub")
    port: int | None = Field(
        default=None, ge=1, le=65535, exclude_if=is_none, description="where several have the name"
    )
    method: str | None = Field(default=None, pattern="^[A-Z]{1,16}$", exclude_if=is_none)
    path: Pattern | None = Field(
        default=None, exclude_if=is_none, description="RE2 pattern found in the path with its query"
    )
    times: int = Field(default=1, ge=1, le=1000, description="at least so often")
    within_seconds: Within | None = Field(default=None, exclude_if=is_none)

    def in_words(self) -> str:
        """For the verdict."""
        where = self.name if self.port is None else f"{self.name}:{self.port}"
        method = "" if self.method is None else f" by {self.method}"
        path = "" if self.path is None else f" for a path that matches {self.path!r}"
        times = "" if self.times == 1 else f" {self.times} times"
        return f"the stub {where} is asked{times}{method}{path}"


class StopExpectation(Wire):
    """When everything else has been seen, the command is sent its stop signal, and ends in time."""

    within_seconds: float = Field(default=10.0, gt=0, le=MAX_STOP_SECONDS)
    exit: int | None = Field(default=None, ge=0, le=255, description="left out: with whatever exit code")

    def in_words(self) -> str:
        """For the verdict."""
        code = "" if self.exit is None else f" with exit code {self.exit}"
        return f"ends{code} within {self.within_seconds:g} s of its stop signal"


class Below(Wire):
    """What a run may come to, at most: of its use, and of the time until it is ready."""

    memory_bytes: int | None = Field(default=None, gt=0, lt=2**63, exclude_if=is_none)
    cpu_seconds: float | None = Field(default=None, gt=0, exclude_if=is_none)
    start_seconds: float | None = Field(
        default=None,
        gt=0,
        exclude_if=is_none,
        description="until HEALTHCHECK, http, tcp, exec, log and stub are met, the last of them",
    )

    def in_words(self) -> str:
        """For the verdict."""
        return " and ".join(self.figures().values())

    def figures(self) -> Mapping[str, str]:
        """Each figure that there is, in words."""
        said = {}
        if self.start_seconds is not None:
            said["start_seconds"] = f"ready within {self.start_seconds:g} s"
        if self.memory_bytes is not None:
            said["memory_bytes"] = f"memory at most {shown_size(self.memory_bytes)}"
        if self.cpu_seconds is not None:
            said["cpu_seconds"] = f"at most {self.cpu_seconds:g} s of processor time"
        return said

    @model_validator(mode="after")
    def _something(self) -> Below:
        if self.memory_bytes is None and self.cpu_seconds is None and self.start_seconds is None:
            raise ValueError("give a figure: memory_bytes, cpu_seconds or start_seconds")
        return self


NO_OUTBOUND = "it tries to reach nothing that its network refuses"
"""The expectation ``no_outbound`` in words."""


def only_writes_in_words(paths: Sequence[str]) -> str:
    """The expectation ``only_writes``, for the verdict."""
    return f"nothing is written but below {', '.join(paths) or 'nothing'}"


class Expectations(Wire):
    """All of them must hold. ``exit`` and ``alive`` exclude each other."""

    exit: int | Literal["nonzero"] | None = Field(
        default=None, description="exit code of the command, 0 to 255; nonzero: 1 to 127, so no signal"
    )
    alive: bool | float | None = Field(
        default=None, description="still running after alive_seconds, or after so many seconds"
    )
    log: tuple[LogExpectation, ...] = Field(default=(), max_length=32)
    http: tuple[HttpExpectation, ...] = Field(default=(), max_length=32)
    tcp: tuple[TcpExpectation, ...] = Field(default=(), max_length=32)
    exec: tuple[ExecExpectation, ...] = Field(default=(), max_length=8, exclude_if=is_empty)
    file: tuple[FileExpectation, ...] = Field(default=(), max_length=32, exclude_if=is_empty)
    stub: tuple[StubExpectation, ...] = Field(default=(), max_length=16, exclude_if=is_empty)
    stop: StopExpectation | None = Field(default=None, exclude_if=is_none)
    healthcheck: Literal[True] | None = Field(
        default=None, exclude_if=is_none, description="the image has a HEALTHCHECK, and it succeeds"
    )
    below: Below | None = Field(default=None, exclude_if=is_none)
    only_writes: tuple[PlainPath, ...] | None = Field(
        default=None,
        max_length=32,
        exclude_if=is_none,
        description="nothing else is written, changed or deleted in the image's own files; [] is nothing",
    )
    no_outbound: Literal[True] | None = Field(default=None, exclude_if=is_none, description=NO_OUTBOUND)

    @field_validator("exit")
    @classmethod
    def _code(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and not 0 <= value <= 255:
            raise ValueError("an exit code is a number from 0 to 255, or 'nonzero'")
        return value

    @field_validator("alive")
    @classmethod
    def _seconds(cls, value: bool | float | None) -> bool | float | None:
        if isinstance(value, float) and not 0 < value <= 86400:
            raise ValueError("true, or seconds from above 0 to 86400")
        return value

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
        """Whether anything is to be seen that says how far the command has come; what is looked at when the
        run is over does not."""
        lists = (self.http, self.tcp, self.exec, self.file, self.stub)
        ends = self.exit is not None or bool(self.alive) or bool(self.healthcheck)
        return ends or any(lists) or any(not one.absent for one in self.log)
