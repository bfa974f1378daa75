"""Settings: defaults < TOML file < environment ``SEATRIAL_*`` < secret files < command line.

A setting that holds a secret can be given as ``SEATRIAL_NAME_FILE``, the path of a file that holds it.
A wrong name or value stops the start with the name and the reason.
"""

from __future__ import annotations

import os
import platform
import re
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from registry.contract.limits import Limits, PrepareLimits, exceeds
from registry.errors import RequestInvalidError
from registry.oci.platform import parse_platform, platform_of_machine

PREFIX = "SEATRIAL_"
Network = IPv4Network | IPv6Network
Gate = Literal["off", "warn", "enforce", "hold"]
"""What a repository does with images that did not pass."""
AttestScans = Literal["none", "public", "all"]
"""Of the images of which repositories what was found in a scan is signed and attached."""
_CLIENT_NAMES = frozenset({"SERVER", "TOKEN", "CONFIG", "CA_FILE", "PLAIN_HTTP"})
"""Variables that only commands about a server read; they are no settings of the server."""
SECRET_FILES = ("database_url", "storage_url")
_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


class SettingsError(RequestInvalidError):
    """The settings cannot be used; the message names each wrong one and why."""


class Settings(BaseModel):
    """All settings of ``serve`` and ``up``, with their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(default=Path("data"), description="folder for the database, the blobs and the keys")
    listen: str = Field(
        default="127.0.0.1:8470", description="HOST:PORT that the registry listens on; port 0 is a free one"
    )
    external_url: str | None = Field(
        default=None,
        description="address that clients use, as in https://registry.example; without it the address "
        "listened on, or the request's Host where that is a wildcard",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="networks of the proxies in front, as in 10.0.0.0/8,::1; from them, and nobody else, the "
        "client's address, scheme and host are taken from the headers below",
    )
    forwarded_headers: Literal["x-forwarded", "forwarded"] = Field(
        default="x-forwarded",
        description="which headers the trusted proxies set: X-Forwarded-For, -Proto and -Host, or Forwarded "
        "(RFC 7239); the others would come through them as the client sent them",
    )
    outgoing_networks: tuple[Network, ...] = Field(
        default=(),
        description="networks beside the public internet that the registry may send requests to (sign-in "
        "issuers, webhooks), as in 10.1.2.0/24; only there is http taken, elsewhere https",
    )
    metrics_networks: tuple[Network, ...] = Field(
        default=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        description="networks from which anybody reads /metrics, which tell how much is pushed, pulled and "
        "refused; from elsewhere auditors do. 0.0.0.0/0,::/0 is everywhere; behind a proxy it needs "
        "trusted_proxies, else all clients are one",
    )
    tls: Literal["self-signed"] | None = Field(
        default=None,
        description="self-signed makes a certificate in the data folder, for one host without a certificate "
        "of its own; not needed beside tls_certificate_file",
    )
    tls_certificate_file: Path | None = Field(
        default=None,
        description="certificate and its chain (PEM): serve HTTPS, TLS 1.2 or newer; read again when it "
        "changes",
    )
    tls_key_file: Path | None = Field(default=None, description="private key of the certificate (PEM)")
    secret_key_file: Path | None = Field(
        default=None,
        description="file with the key that wraps signing keys in the database; DATA/secret.key, made at "
        "first start, if not given",
    )
    admin_token_file: Path | None = Field(
        default=None,
        description="where first start writes the administrator's token; DATA/admin.token if not given",
    )
    database_url: str | None = Field(
        default=None, description="sqlite:///FILE or postgresql://…; a file in the data folder if not given"
    )
    storage_url: str | None = Field(
        default=None,
        description="file:///FOLDER or s3://BUCKET/PREFIX?endpoint_url=…; a folder in the data folder if not "
        "given. docs/storage.md has all that can follow the question mark",
    )
    storage_credentials_file: Path | None = Field(
        default=None,
        description="file with the keys for S3, in the form of ~/.aws/credentials, of which [default] is "
        "read; without it, what AWS's tools would find",
    )
    advisories: Path | None = Field(
        default=None,
        description="file of advisories, which seatrial advisories import makes; DATA/advisories/"
        "advisories.sqlite if not given",
    )
    gate: Gate = Field(default="warn", description="gate of new repositories")
    visibility: Literal["public", "internal", "private"] = Field(
        default="private", description="visibility of new repositories"
    )
    create_on_push: bool = Field(
        default=True,
        description="whether the first push of a writer makes a repository, where its namespace does not "
        "say; else a maintainer of the namespace makes it, and at the top an administrator",
    )
    trial_on_push: bool = Field(default=True, description="whether a push to a new repository makes a trial")
    trial_platforms: tuple[str, ...] = Field(
        default_factory=lambda: (str(platform_of_machine(platform.machine())),),
        description="platforms that some worker runs; images for others are 'unsupported' at once",
    )
    trial_attempts: int = Field(
        default=3, ge=1, le=10, description="how often a part is tried when workers are lost"
    )
    trial_queue_max: int = Field(
        default=0,
        ge=0,
        description="how many images of a namespace that is in no other may wait to be tried before more are "
        "refused that somebody asks for, where the namespace does not say; 0 is any",
    )
    trial_seconds_per_hour: int = Field(
        default=0,
        ge=0,
        description="seconds of runs that such a namespace may have within an hour before its next ones "
        "wait, where it does not say; 0 is any",
    )
    trial_queue_max_of_actor: int = Field(
        default=0, ge=0, description="how many images that one actor asked for may wait likewise; 0 is any"
    )
    trial_seconds_per_hour_of_actor: int = Field(
        default=0, ge=0, description="seconds of runs within an hour likewise of each actor; 0 is any"
    )
    trial_keep_days: int = Field(
        default=365, ge=1, le=36500, description="days that trials are kept, with their runs and logs"
    )
    trial_keep_newest: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="how many trials of each image are kept however old they are; what a standing verdict "
        "rests on is kept in any case",
    )
    log_keep_bytes: int = Field(
        default=1024**3,
        ge=0,
        description="how much of the logs of runs is kept of each repository: the newest; of others the "
        "verdict and what was observed stay",
    )
    signature_trust_file: Path | None = Field(
        default=None,
        description="authorities whose certificates prove who signed (PEM, or Sigstore's trusted_root.json); "
        "read at the start. Not needed where signatures are required by key",
    )
    attest_findings: bool = Field(
        default=False,
        description="whether signed verdicts say what was seen as well; who may pull an image reads them, "
        "also one that is made public later",
    )
    attest_scans: AttestScans = Field(
        default="none",
        description="of the images of which repositories an SBOM, and what advisories say of it, is signed "
        "and attached: none, the public ones, or all; who may pull an image reads it, also one that is made "
        "public later",
    )
    lease_seconds: float = Field(default=20.0, ge=1, le=3600, description="how long a worker may be silent")
    verdict_max_age_days: int = Field(
        default=0, ge=0, description="days until a verdict is expired; 0 is never"
    )
    grandfather_days: int = Field(
        default=30,
        ge=0,
        description="days that images from before the gate, or from elsewhere, stay admitted untried",
    )
    waiver_max_days: int = Field(
        default=90, ge=1, le=3650, description="days that a waiver of the gate may last at most"
    )
    gate_wait_seconds: float = Field(
        default=15.0, ge=0, le=60, description="how long a pull waits for a pending verdict"
    )
    limits: Limits = Field(default=Limits(), description="limits of a run where its spec says nothing")
    ceiling: Limits = Field(
        default=Limits(
            memory_bytes=4 * 1024**3,
            cpus=4,
            pids=4096,
            written_bytes=8 * 1024**3,
            wall_seconds=900,
            alive_seconds=300,
            log_bytes=2 * 1024**2,
        ),
        description="what no run spec may exceed",
    )
    prepare: PrepareLimits = Field(default=PrepareLimits(), description="limits of preparing an image")
    upload_ttl_seconds: int = Field(
        default=24 * 3600,
        ge=60,
        description="seconds after the last byte until an unfinished upload is dropped",
    )
    reserve_bytes: int = Field(
        default=32 * 1024**2,
        ge=0,
        description="room that pushes leave free on the disk; beside a SQLite database as much again is held "
        "in a file, and given back when others fill the disk, so that pulls and deletes go on",
    )
    audit_keep_days: int = Field(
        default=365,
        ge=1,
        le=36500,
        description="days that the audit trail, and pulls by day, are kept",
    )
    audit_max_rows: int = Field(
        default=1_000_000,
        ge=1000,
        description="rows of the audit trail, about 1 KiB each, and of pulls by day, half of that, beyond "
        "which the oldest go before their time, which is an alarm",
    )
    read_only: bool = Field(
        default=False,
        description="whether pushes, deletes, tag moves, new and renamed repositories are refused; pulls, "
        "sign-in and trials work on",
    )
    collection_every_seconds: int = Field(
        default=86400,
        ge=0,
        le=10**8,
        description="seconds between two collections, which delete bytes that nothing names any more; 0 is "
        "only when an administrator asks for one",
    )
    collection_grace_seconds: int = Field(
        default=86400,
        ge=0,
        le=10**8,
        description="seconds that a blob stays which no manifest names: twice as long as any client may take "
        "between its blobs and its manifest",
    )
    scrub_every_seconds: int = Field(
        default=30 * 86400,
        ge=0,
        le=10**8,
        description="seconds between two scrubs, which read all blobs again and look whether their bytes are "
        "still those that were pushed; 0 is only when an administrator asks for one",
    )
    scrub_bytes_per_second: int = Field(
        default=20 * 1024**2, ge=64 * 1024, le=2**40, description="how fast a scrub reads"
    )
    sparse_images: bool = Field(
        default=False,
        description="whether images are taken whose config or layers are missing; manifests that an index "
        "lists may always be missing",
    )
    manifest_max_bytes: int = Field(
        default=4 * 1024**2, ge=64 * 1024, le=16 * 1024**2, description="largest manifest taken"
    )
    blob_max_bytes: int = Field(default=100 * 1024**3, ge=1024, description="largest blob taken")
    uploads_per_account: int = Field(
        default=256,
        ge=1,
        description="upload sessions that an account may have begun within an hour and not ended, and "
        "uploads that it may have running in one process, by password and with each API token; more are "
        "answered with 429",
    )
    idle_connection_seconds: float = Field(
        default=75.0,
        gt=0,
        description="seconds that a connection may be without a whole request header, before the first and "
        "between two; longer than a proxy in front keeps its own",
    )
    stall_seconds: float = Field(
        default=60.0, gt=0, description="seconds that a transfer may stand still while we wait for the client"
    )
    min_bytes_per_second: int = Field(
        default=256,
        ge=0,
        description="slowest transfer that is borne, measured over stall_seconds in both directions; 0 bears "
        "any that does not stand still",
    )
    cache_staleness_seconds: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="PostgreSQL: how long a change made through another process may go unseen here, a "
        "revoked token or a deleted tag too; 0 asks the database at each request",
    )
    failed_sign_ins: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="wrong passwords for one name from one address before the next is answered with 429; one "
        "more each minute. docs/signing-in.md has what else is counted; behind a proxy it needs "
        "trusted_proxies, else all clients are one",
    )
    session_idle_seconds: int = Field(
        default=12 * 3600,
        ge=60,
        description="seconds without use after which a person is signed out of pages",
    )
    session_max_seconds: int = Field(
        default=7 * 24 * 3600,
        ge=60,
        description="seconds after which a person is signed out of pages, however much they are used",
    )
    api_token_days: int = Field(
        default=365,
        ge=0,
        le=3650,
        description="days that an API token lives where whoever makes it says nothing; 0 is for ever",
    )
    api_token_max_days: int = Field(
        default=0,
        ge=0,
        le=3650,
        description="days that an API token may live at most; 0 is no limit. Older ones keep their end",
    )
    ended_api_token_days: int = Field(
        default=90,
        ge=7,
        le=36500,
        description="days that an API token stays in the list after it expired or was revoked; the audit "
        "trail keeps what became of it",
    )
    api_tokens_per_account: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="API tokens that work at once for one account, those of jobs apart; more are refused",
    )
    robots_per_namespace: int = Field(
        default=1000, ge=1, le=100_000, description="robots of one namespace; more are refused"
    )
    members_per_group: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="members of a group, with whom no more are put in by hand; issuers are not bound by it",
    )
    job_tokens_per_rule: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="tokens of jobs by one workload rule that work, or did in the last hour; another new one "
        "is answered with 429",
    )
    token_seconds: int = Field(default=300, ge=60, le=300, description="life of a registry token from /token")
    token_algorithm: Literal["ES256", "EdDSA"] = Field(
        default="ES256",
        description="what new keys sign registry tokens with; tokens of older keys stay valid",
    )
    token_key_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="age at which the key that signs registry tokens is replaced; no token is refused then",
    )
    refresh_token_days: int = Field(
        default=90,
        ge=1,
        le=366,
        description="days without use after which a client must sign in again: its refresh token ends",
    )
    refresh_tokens_per_credential: int = Field(
        default=500,
        ge=1,
        le=10_000,
        description="refresh tokens made with one API token, or with one account's password; of more, that "
        "longest not used ends",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level logged"
    )
    log_format: Literal["json", "text"] = Field(default="json", description="form of log lines on stderr")
    access_log: bool = Field(default=True, description="whether each request is logged")
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="registry processes behind the one port; more than one where one core is not enough",
    )
    shutdown_seconds: float = Field(
        default=30.0, ge=0, description="how long running transfers may take after SIGTERM"
    )

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        match = _LISTEN.fullmatch(value)
        if match is None or int(match["port"]) > 65535:
            raise ValueError("must be HOST:PORT, as in 0.0.0.0:8470")
        return value

    @field_validator("external_url")
    @classmethod
    def _external(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", value.rstrip("/")):
            raise ValueError(
                "must be http(s)://HOST[:PORT] without a path: clients look for /v2/ at the root of a host"
            )
        return value.rstrip("/") if value else None

    @field_validator("trusted_proxies", "outgoing_networks", "metrics_networks", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        return tuple(_network(str(part).strip()) for part in parts if str(part).strip())

    @field_validator("trial_platforms", mode="before")
    @classmethod
    def _platforms(cls, value: object) -> object:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        for part in parts if isinstance(parts, list | tuple) else ():
            parse_platform(str(part))
        return parts

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file belong together; one is missing")
        if self.tls is not None and self.tls_certificate_file is not None:
            raise ValueError("tls = self-signed makes a certificate, but tls_certificate_file names one")
        return self

    @model_validator(mode="after")
    def _limits_fit(self) -> Settings:
        if (name := exceeds(self.limits, self.ceiling)) is not None:
            raise ValueError(f"limits.{name} is above ceiling.{name}")
        return self

    @property
    def listen_host(self) -> str:
        """Host part of ``listen``, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def listen_port(self) -> int:
        """Port part of ``listen``."""
        return int(self.listen.rpartition(":")[2])

    @property
    def scheme(self) -> str:
        """What the registry itself speaks: ``https`` with a certificate, else ``http``."""
        return "https" if self.tls or self.tls_certificate_file else "http"

    @property
    def source(self) -> str:
        """The address by which events name this registry."""
        return self.external_url or f"{self.scheme}://{self.listen}"

    @property
    def advisories_file(self) -> Path:
        """Where the file of advisories is, if there is one."""
        return self.advisories or self.data / "advisories" / "advisories.sqlite"

    @property
    def effective_database_url(self) -> str:
        """Where the database is."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'seatrial.db'}"

    @property
    def effective_storage_url(self) -> str:
        """Where the bytes are."""
        return self.storage_url or f"file://{self.data.resolve() / 'blobs'}"


def load_settings(config: Path | None = None, **given: Any) -> Settings:
    """Read the settings; ``given`` are those from the command line, ``None`` meaning not given.

    Raises:
        SettingsError: an unknown name or a value that is not allowed, each with its name and the reason.
    """
    values = _from_toml(config) if config else {}
    for name, value in _from_environment(dict(os.environ)).items():  # noqa: TID251  (the one place)
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    values.update({name: value for name, value in given.items() if value is not None})
    try:
        return Settings(**values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: "
            + (
                "there is no such setting"
                if problem["type"] == "extra_forbidden"
                else problem["msg"].removeprefix("Value error, ")
            )
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise SettingsError(f"the settings cannot be used: {problems}") from None


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network such as 10.0.0.0/8 or ::1: {error}") from None


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from None


def _from_environment(environment: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        name = variable.removeprefix(PREFIX)
        if name == variable or name in _CLIENT_NAMES or name.startswith("TEST_"):
            continue
        setting = name.lower()
        base = setting.removesuffix("_file")
        if base in SECRET_FILES and setting != base:
            values[base] = _secret(variable, Path(text))
        elif "__" in setting:
            group, _, member = setting.partition("__")
            values.setdefault(group, {})[member] = _number(text)
        else:
            values.setdefault(setting, text)
    return values


def _secret(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: the file {path} cannot be read ({type(error).__name__})") from None


def _number(text: str) -> int | float | str:
    # Members of a group are limits, and limits are numbers; what is none is left for the model to refuse.
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
