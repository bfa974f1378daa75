"""What the commands that run images share: options, logs, the host's platform."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.contract.capabilities import GRANTABLE
from registry.contract.limits import Limits
from registry.errors import RequestInvalidError
from registry.oci.platform import Platform, parse_platform, platform_of_machine
from sandbox.errors import SandboxError
from sandbox.network.permits import NetworkPolicy, parse_permit

if TYPE_CHECKING:
    from sandbox.attempt import Workplace
    from sandbox.scanners.layers import Scanner

MAX_STATES = 64
OWN_CEILING = Limits(
    memory_bytes=2**40,
    cpus=1024,
    pids=65536,
    written_bytes=2**40,
    wall_seconds=86400,
    alive_seconds=86400,
    log_bytes=2 * 1024**2,
)
"""Of runs on one's own machine."""
ImageArgument = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="HOST/NAME:TAG, HOST/NAME@DIGEST, oci:FOLDER[:TAG], or a tar or zip of a layout.",
    ),
]
UsernameOption = Annotated[str | None, typer.Option("--username", help="User of the image's registry.")]
PasswordFileOption = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="File with the user's password.")
]
PlainHttpOption = Annotated[
    bool, typer.Option("--plain-http", help="Speak http to a registry that is not on this machine.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RuntimeOption = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="auto|runsc|runc|crun",
        help="The OCI runtime to run images with; auto takes the strongest that works.",
    ),
]
DowngradeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-downgrade",
        metavar="NAME",
        help="Run without this isolation where the host lacks it (cgroup-limits, seccomp); the verdict says "
        "so. Can be repeated.",
    ),
]
RulesOption = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="DIR",
        help="Folder with rules of your own (*.yar, *.yara), searched for beside ours in each scan.",
    ),
]
PlatformOption = Annotated[
    str | None,
    typer.Option("--platform", metavar="OS/ARCH", help="Platform of the image. [default: that of this host]"),
]

CapabilityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-capability",
        metavar="NAME",
        help="Let run specs ask for this capability beyond the seven of the profile standard "
        f"({', '.join(GRANTABLE)}). Can be repeated.",
    ),
]
EgressOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-egress",
        metavar="CIDR:PORT",
        help="Let run specs ask for these addresses, by TCP or, with /udp behind the port, by UDP. Addresses "
        "that are not public are permitted one by one. Can be repeated. [default: runs have no network]",
    ),
]
EgressRateOption = Annotated[
    int,
    typer.Option(
        "--egress-bits-per-second",
        min=64_000,
        help="The most that a run with a network gets each way; also what its spec need not ask for.",
    ),
]


def network_policy(permits: list[str] | None, bits_per_second: int) -> NetworkPolicy:
    """What ``--allow-egress`` and ``--egress-bits-per-second`` say.

    Raises:
        RequestInvalidError: they permit what cannot be permitted.
    """
    return NetworkPolicy(tuple(parse_permit(text) for text in permits or ()), bits_per_second)


def let_others_pass() -> None:
    """Whatever the umask: the users of images pass through folders that a worker makes."""
    os.umask(0o022)


def scanner_with(rules: Path | None) -> Scanner:
    """A scanner with all modules; wrong usage where ``rules`` cannot be used."""
    from sandbox.scanners.content.engine import RulesError  # noqa: PLC0415
    from sandbox.scanners.layers import make_scanner  # noqa: PLC0415

    try:
        return make_scanner(rules)
    except RulesError as error:
        raise typer.BadParameter(str(error), param_hint="--rules") from error


def chosen_platform(text: str | None) -> Platform:
    """What ``--platform`` says.

    Raises:
        RequestInvalidError: it is none.
    """
    if text is None:
        return platform_of_machine(platform.machine())
    try:
        return parse_platform(text)
    except ValueError as error:
        raise RequestInvalidError(f"--platform: {error}") from None


def read_credentials(username: str | None, password_file: Path | None) -> tuple[str, str] | None:
    """What ``--username`` and ``--password-file`` say.

    Raises:
        RequestInvalidError: one without the other, or the file cannot be read.
    """
    if (username is None) != (password_file is None):
        raise RequestInvalidError("--username and --password-file go together")
    if username is None or password_file is None:
        return None
    return username, read_small_file(password_file, "the password file").strip()


def read_small_file(path: Path, what: str, *, limit_bytes: int = 64 * 1024) -> str:
    """The text of a file that a person names.

    Raises:
        RequestInvalidError: it cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limit_bytes + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise RequestInvalidError(f"{what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestInvalidError(f"{what} {path} is not UTF-8 text") from None
    if len(raw) > limit_bytes:
        raise RequestInvalidError(f"{what} {path} has more than {limit_bytes} bytes")
    return text


def configure_logs(log_format: str, *, quiet: bool = False) -> None:
    """Log lines on stderr, as JSON or as text. Tracebacks show no local variables: some hold tokens."""
    import structlog  # noqa: PLC0415

    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger("error" if quiet else "info"),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def own_folder() -> Path:
    """Where an image's users can pass through, unlike most home folders, and nobody else can write."""
    from sandbox.rootless import host_uid  # noqa: PLC0415

    uid = host_uid()
    folder = Path("/var/lib/seatrial-run") if uid == 0 else Path(f"/var/tmp/seatrial-{uid}")  # noqa: S108
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or folder.is_symlink():
        raise SandboxError("worker-error", f"{folder} belongs to somebody else; give a folder with --state")
    return folder


@contextmanager
def free_workplace(state: Path | None, **options: Any) -> Iterator[Workplace]:
    """One of the folders below ``state`` that nobody uses, opened with the ``options``."""
    from sandbox.workplace import InUseError, opened_workplace  # noqa: PLC0415

    base = state or own_folder()
    # Runs side by side have a folder each, and one cache.
    for number in range(MAX_STATES):
        with ExitStack() as stack:
            try:
                workplace, _ = stack.enter_context(
                    opened_workplace(base / str(number), cache=base / "cache", **options)
                )
            except InUseError:
                continue
            yield workplace
            return
    raise SandboxError("worker-error", f"{MAX_STATES} runs are going on already")
