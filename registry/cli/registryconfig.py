"""What another registry's settings are here: config.yml and environment of distribution (registry:2 and 3).

Pure. No value is told but those that become a setting: others may be secrets.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from registry.errors import RequestInvalidError
from registry.oci.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PREFIX = "REGISTRY_"
_VALUES_MAX = 5000
_DEPTH_MAX = 20
_GO_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")
_GO_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LOG_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "error": "error"}
_S3_DRIVERS = ("s3", "s3aws")

# The first that fits is told.
_NEEDLESS = (
    ("version", "the form of that file"),
    ("log.fields", "log lines say what is needed to find a request"),
    ("log.", "log lines are JSON or text on standard error"),
    ("loglevel", "log_level says it"),
    ("storage.cache", "what was answered is kept while nothing changed"),
    ("storage.delete", "who may delete is said by roles and tokens"),
    ("storage.tag", "tags are rows of the database"),
    ("storage.maintenance.uploadpurging", "unfinished uploads are dropped while it runs"),
    ("storage.filesystem", "what is in it is brought by the command below"),
    ("auth.htpasswd", "users are brought by the command below"),
    ("http.secret", "uploads are rows of the database"),
    ("http.relativeurls", "addresses in answers are relative to the host"),
    ("http.http2", "HTTP/1.1 is spoken; a proxy in front may speak more"),
    ("http.h2c", "HTTP/1.1 is spoken; a proxy in front may speak more"),
    ("http.debug", "/metrics is on the same port, for metrics_networks and auditors"),
    ("redis", "nothing beside database and store is needed"),
    ("health", "/readyz looks at database and store"),
    ("catalog", "lists are paged by the database"),
    ("compatibility.schema1", "such old manifests are not taken"),
    ("validation", "manifests are always checked; sparse_images says what may be missing"),
)
_NO_EQUAL = (
    ("proxy", "there is no pull-through cache yet; an upstream lets its images be tried"),
    ("auth.token", "the registry is its own token service: users, robots and OIDC issuers sign in to it"),
    ("auth", "users are made with seatrial user, or sign in through seatrial issuer"),
    ("middleware", "redirects to the store are part of storage_url; there is no other middleware"),
    ("reporting", "no reports are sent elsewhere"),
    ("notifications.events", "an event has no part that can be left out"),
    ("http.prefix", "the API is at /v2/ of its host"),
    ("http.net", "it listens on TCP alone"),
    ("http.headers", "a proxy in front may add headers"),
    ("http.tls.letsencrypt", "give certificate files, or let a proxy in front fetch one"),
    ("http.tls.clientcas", "clients sign in with tokens or passwords"),
    ("http.tls", "TLS 1.2 or newer, with the ciphers of the host"),
    ("storage.s3", "the S3 store has no such option; docs/storage.md has all"),
    ("storage", "blobs lie in a folder or in S3"),
    ("policy", "namespaces and roles say who may push what"),
)


@dataclass(slots=True)
class Translated:
    """``settings`` of this registry, ``steps`` that remain to be done by commands, and of what was given what
    has no equal and what needs none, each with the reason."""

    settings: dict[str, Any] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    no_equal: dict[str, str] = field(default_factory=dict)
    needless: dict[str, str] = field(default_factory=dict)


def read_config(text: str) -> dict[str, Any]:
    """The values of a config.yml, by their path with dots.

    Raises:
        RequestInvalidError: it is not YAML, no settings, or too much.
    """
    import yaml  # noqa: PLC0415  (slow to import)

    try:
        document = yaml.safe_load(text)
        # An alias of aliases is much from little.
        found = list(islice(_flat(document, (), 0), _VALUES_MAX + 1)) if isinstance(document, dict) else []
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise RequestInvalidError(f"it is not YAML that can be read: {said}") from None
    if not found:
        raise RequestInvalidError("it has no settings: it is no config.yml of distribution")
    if len(found) > _VALUES_MAX:
        raise RequestInvalidError(f"it has more than {_VALUES_MAX} values")
    return dict(found)


def read_environment(lines: Iterable[str]) -> dict[str, Any]:
    """The values of lines ``REGISTRY_NAME=VALUE``, by their path with dots; other lines are nothing."""
    found: dict[str, Any] = {}
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.startswith(_PREFIX):
            found[name.removeprefix(_PREFIX).lower().replace("_", ".")] = _value(value.strip().strip("'\""))
    return found


def translate(values: Mapping[str, Any]) -> Translated:
    """What is here in the place of these settings."""
    left = dict(values)
    done = Translated()
    _http(left, done)
    _log(left, done)
    _storage(left, done)
    _auth(left, done)
    _notifications(left, done)
    for path in left:
        shown = printable(path)[:100]
        reason = _fitting(_NEEDLESS, path)
        if reason is not None:
            done.needless[shown] = reason
        else:
            done.no_equal[shown] = _fitting(_NO_EQUAL, path) or "it is not known what this does"
    return done


def toml_of(done: Translated) -> str:
    """A settings file, with what remains as comments."""
    lines = [f"{name} = {_toml(value)}" for name, value in done.settings.items()]
    if done.steps:
        lines += ["", "# Then, with the registry started:", *(f"#   {one}" for one in done.steps)]
    if done.no_equal:
        lines += ["", "# Has no equal here:", *(f"#   {one}: {why}" for one, why in done.no_equal.items())]
    if done.needless:
        lines += ["", "# Needs no setting:", *(f"#   {one}: {why}" for one, why in done.needless.items())]
    return "\n".join(lines).strip("\n")


def _http(left: dict[str, Any], done: Translated) -> None:
    address = left.pop("http.addr", None)
    if isinstance(address, str) and re.fullmatch(r"[A-Za-z0-9.:\[\]-]*:[0-9]{1,5}", address):
        everywhere = "0.0.0.0"  # noqa: S104  (as it was there)
        done.settings["listen"] = f"{everywhere}{address}" if address.startswith(":") else address
    elif address is not None:
        done.no_equal["http.addr"] = "listen is HOST:PORT"
    host = left.pop("http.host", None)
    if isinstance(host, str) and host:
        url = urlsplit(host)
        if url.scheme in ("http", "https") and url.hostname and "@" not in url.netloc:
            done.settings["external_url"] = f"{url.scheme}://{url.netloc}"
        if url.path.strip("/") or "external_url" not in done.settings:
            done.no_equal["http.host"] = "external_url has a scheme, a host and no path"
    if left.get("http.net") == "tcp":
        left.pop("http.net")
    certificate, key = left.pop("http.tls.certificate", None), left.pop("http.tls.key", None)
    if isinstance(certificate, str) and isinstance(key, str):
        done.settings |= {"tls_certificate_file": certificate, "tls_key_file": key}
    elif certificate or key:
        done.no_equal["http.tls.certificate"] = "it needs both, certificate and key"
    seconds = _seconds(left.get("http.draintimeout"))
    if seconds is not None:
        left.pop("http.draintimeout")
        done.settings["shutdown_seconds"] = seconds


def _log(left: dict[str, Any], done: Translated) -> None:
    level = left.pop("log.level", None) or left.pop("loglevel", None)
    if level in _LOG_LEVELS:
        done.settings["log_level"] = _LOG_LEVELS[level]
    if left.get("log.formatter") in ("text", "json"):
        done.settings["log_format"] = left.pop("log.formatter")
    if isinstance(left.get("log.accesslog.disabled"), bool):
        done.settings["access_log"] = not left.pop("log.accesslog.disabled")


def _storage(left: dict[str, Any], done: Translated) -> None:
    if isinstance(left.get("storage.maintenance.readonly.enabled"), bool):
        done.settings["read_only"] = left.pop("storage.maintenance.readonly.enabled")
    age = _seconds(left.get("storage.maintenance.uploadpurging.age"))
    if age is not None and age >= 60:
        left.pop("storage.maintenance.uploadpurging.age")
        done.settings["upload_ttl_seconds"] = int(age)
    # The environment names the driver alone.
    left.pop("storage", None)
    folder = left.pop("storage.filesystem.rootdirectory", None)
    if isinstance(folder, str) and folder:
        done.steps.append(f"seatrial migrate folder {_word(folder)}")
    driver = next((one for one in _S3_DRIVERS if f"storage.{one}.bucket" in left), None)
    if driver is not None:
        _s3(left, done, f"storage.{driver}")
    elif left.pop("storage.redirect.disable", None) is not None:
        done.needless["storage.redirect.disable"] = "a folder is served by the registry itself"


def _s3(left: dict[str, Any], done: Translated, at: str) -> None:
    bucket, root = left.pop(f"{at}.bucket"), left.pop(f"{at}.rootdirectory", None)
    options: dict[str, str] = {}
    endpoint = left.pop(f"{at}.regionendpoint", None)
    secure = left.pop(f"{at}.secure", True)
    if isinstance(endpoint, str) and endpoint and "@" not in endpoint:
        scheme = "https" if secure is not False else "http"
        options["endpoint_url"] = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
    elif endpoint:
        done.no_equal[f"{at}.regionendpoint"] = "endpoint_url has a scheme, a host and no credentials"
    for name, option in (("region", "region"), ("storageclass", "storage_class")):
        value = left.pop(f"{at}.{name}", None)
        if isinstance(value, str) and value not in ("", "NONE"):
            options[option] = value
    if left.pop(f"{at}.forcepathstyle", None) is True or "endpoint_url" in options:
        options["addressing"] = "path"
    if left.pop("storage.redirect.disable", None) is not True:
        options["redirect"] = "on"
    # Another form of store: in a place of its own, so that both can be there.
    prefix = "/".join([*(part for part in str(root or "").split("/") if part), "seatrial"])
    done.settings["storage_url"] = f"s3://{bucket}/{prefix}" + (
        f"?{urlencode(options, safe=':/')}" if options else ""
    )
    if left.pop(f"{at}.accesskey", None) is not None or f"{at}.secretkey" in left:
        left.pop(f"{at}.secretkey", None)
        done.steps.append("put access key and secret key into the file of storage_credentials_file")
    done.steps.append("seatrial migrate registry URL, while the old registry still serves what is in S3")


def _auth(left: dict[str, Any], done: Translated) -> None:
    left.pop("auth", None)
    path = left.pop("auth.htpasswd.path", None)
    if isinstance(path, str) and path:
        done.steps.append(f"seatrial user import --htpasswd {_word(path)}")


def _notifications(left: dict[str, Any], done: Translated) -> None:
    endpoints = left.pop("notifications.endpoints", None)
    for number, one in enumerate(endpoints if isinstance(endpoints, list) else []):
        url = (
            urlsplit(one.get("url", ""))
            if isinstance(one, dict) and isinstance(one.get("url"), str)
            else None
        )
        if url is None or url.scheme not in ("http", "https") or not url.hostname:
            done.no_equal[f"notifications.endpoints.{number}"] = "it has no address"
            continue
        address = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()
        done.steps.append(f"seatrial webhook create {_word(address)} --format docker")
        if one.get("headers") or "@" in url.netloc or url.query:
            done.no_equal[f"notifications.endpoints.{number}.headers"] = (
                "no headers or passwords are sent: what is sent is signed"
            )


def _flat(value: Any, path: tuple[str, ...], depth: int) -> Iterable[tuple[str, Any]]:
    if depth > _DEPTH_MAX:
        raise RequestInvalidError(f"it is nested more than {_DEPTH_MAX} deep")
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _flat(each, (*path, str(name).lower()), depth + 1)
    else:
        yield ".".join(path), value


def _value(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _seconds(value: object) -> float | None:
    """What Go's durations and plain numbers mean, as far as they are seconds."""
    if isinstance(value, str) and _GO_DURATION.fullmatch(value):
        parts = re.findall(r"([0-9.]+)(ms|s|m|h)", value)
        return sum(float(number) * _GO_UNITS[unit] for number, unit in parts)
    return None


def _fitting(table: Iterable[tuple[str, str]], path: str) -> str | None:
    return next(
        (why for start, why in table if path == start or path.startswith(f"{start.rstrip('.')}.")), None
    )


def _word(text: str) -> str:
    return shlex.quote(printable(text)[:500])


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = printable(str(value)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
