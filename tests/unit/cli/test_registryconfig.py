"""The settings of distribution, and what they are here."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from registry.cli.registryconfig import read_config, read_environment, toml_of, translate
from registry.errors import RequestInvalidError
from registry.main import run
from registry.settings import Settings
from registry.storage.s3url import parse_s3_url

DEBIAN = """
version: 0.1
log:
  level: warn
  formatter: text
  accesslog: {disabled: true}
  fields: {service: registry}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: "/var/lib/docker registry"}
  delete: {enabled: true}
  maintenance:
    uploadpurging: {enabled: true, age: 168h, interval: 24h}
    readonly: {enabled: true}
http:
  addr: :5000
  host: https://registry.example
  secret: asecretforlocaldevelopment
  draintimeout: 1m30s
  headers: {X-Content-Type-Options: [nosniff]}
  tls: {certificate: /etc/x.pem, key: /etc/y.pem, clientcas: [/etc/z.pem]}
auth:
  htpasswd: {realm: basic-realm, path: /etc/docker/registry/htpasswd}
notifications:
  endpoints:
    - {name: a, url: "https://me:canary@hooks.example/x?k=canary", headers: {Authorization: [canary]}}
    - {name: b}
redis: {addr: "localhost:6379", password: canary}
proxy: {remoteurl: "https://registry-1.docker.io", username: me, password: canary}
health: {storagedriver: {enabled: true}}
surprise: {with: this}
"""
S3 = """
version: 0.1
storage:
  s3:
    accesskey: canary
    secretkey: canary
    region: eu-central-1
    regionendpoint: minio.example:9000
    secure: false
    bucket: images
    rootdirectory: /old/place
    storageclass: STANDARD_IA
    encrypt: true
  redirect: {disable: true}
"""


def test_a_config_of_debian() -> None:
    done = translate(read_config(DEBIAN))
    assert done.settings == {
        "listen": "0.0.0.0:5000",
        "external_url": "https://registry.example",
        "tls_certificate_file": "/etc/x.pem",
        "tls_key_file": "/etc/y.pem",
        "shutdown_seconds": 90.0,
        "log_level": "warning",
        "log_format": "text",
        "access_log": False,
        "read_only": True,
        "upload_ttl_seconds": 168 * 3600,
    }
    assert done.steps == [
        "seatrial migrate folder '/var/lib/docker registry'",
        "seatrial user import --htpasswd /etc/docker/registry/htpasswd",
        "seatrial webhook create https://hooks.example/x --format docker",
    ]
    assert set(done.no_equal) == {
        "http.headers.x-content-type-options",
        "http.tls.clientcas",
        "notifications.endpoints.0.headers",
        "notifications.endpoints.1",
        "proxy.remoteurl",
        "proxy.username",
        "proxy.password",
        "surprise.with",
    }
    assert {"http.secret", "redis.password", "storage.delete.enabled", "version"} <= set(done.needless)
    text = toml_of(done)
    assert "canary" not in text + json.dumps([done.steps, done.no_equal, done.needless])
    assert "asecretfor" not in text
    # It is a settings file as it stands, comments and all.
    settings = Settings(**tomllib.loads(text))
    assert (settings.listen, settings.scheme, settings.read_only) == ("0.0.0.0:5000", "https", True)


def test_a_store_in_s3() -> None:
    done = translate(read_config(S3))
    where = parse_s3_url(done.settings["storage_url"])
    assert (where.bucket, where.prefix) == ("images", "old/place/seatrial/")
    assert (where.endpoint_url, where.region) == ("http://minio.example:9000", "eu-central-1")
    assert (where.addressing, where.storage_class, where.redirect) == ("path", "STANDARD_IA", ())
    assert set(done.no_equal) == {"storage.s3.encrypt"}
    assert "canary" not in toml_of(done)
    assert any("storage_credentials_file" in step for step in done.steps)
    redirected = translate({"storage.s3.bucket": "images"})
    assert parse_s3_url(redirected.settings["storage_url"]).redirect


def test_the_environment_counts_before_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yml").write_text(DEBIAN)
    lines = (
        "# a comment",
        "HOME=/root",
        "REGISTRY_HTTP_ADDR=127.0.0.1:5001",
        "export REGISTRY_LOG_LEVEL='debug'",
        "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=false",
        "REGISTRY_STORAGE=filesystem",
        "REGISTRY_AUTH=htpasswd",
    )
    (tmp_path / "env").write_text("\n".join(lines))
    files = [str(tmp_path / "config.yml"), "--env-file", str(tmp_path / "env")]
    assert run(["migrate", "config", *files]) == 0
    found = tomllib.loads(capsys.readouterr().out)
    assert (found["listen"], found["log_level"], found["read_only"]) == ("127.0.0.1:5001", "debug", False)
    assert run(["migrate", "config", *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"] == found
    assert "storage" not in told["no_equal"]


def test_only_the_environment() -> None:
    assert read_environment(["REGISTRY_HTTP_HOST=https://user:pw@x.example/sub", "X=1", "nothing"]) == {
        "http.host": "https://user:pw@x.example/sub"
    }
    done = translate(
        {"http.host": "https://user:pw@x.example/sub", "http.net": "unix", "http.addr": "/run/x"}
    )
    assert done.settings == {}
    assert set(done.no_equal) == {"http.host", "http.net", "http.addr"}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{{', '.join(f'k{i}: *{chr(97 + n)}' for i in range(9))}}}"
    for n in range(9)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no settings"),
        ("- a", "no settings"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system [id]", "not YAML"),
        ("{" * 500, "YAML"),
        (f"a: {'{a: ' * 40}1{'}' * 40}", "deep"),
        (BOMB, "more than"),
        ("a: &a {b: *a}", "deep"),
    ],
    ids=["empty", "list", "open", "object", "braces", "deep", "bomb", "loop"],
)
def test_what_is_no_config(text: str, why: str) -> None:
    with pytest.raises(RequestInvalidError, match=why):
        read_config(text)


def test_a_value_cannot_become_another_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hostile = (
        'http: {host: "https://x.example", addr: ":1"}\nauth: {htpasswd: {path: "x\\nread_only = true"}}\n'
    )
    (tmp_path / "c.yml").write_text(hostile + '"evil\\ngate = 1": 1\nhttp2: "a"\n')
    assert run(["migrate", "config", str(tmp_path / "c.yml")]) == 0
    assert set(tomllib.loads(capsys.readouterr().out)) == {"listen", "external_url"}


def test_neither_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "config"]) == 64
    assert run(["migrate", "config", "/nowhere/config.yml"]) == 64
