"""HTTPS: what is answered, certificates that change, and the registry's own."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from registry.cli.trust import client_lines
from registry.http import listener, tls
from registry.http.selfsigned import ensure_self_signed
from registry.http.tls import CertificateError, load_context
from sandbox.client import registry_client
from sandbox.images.sourcehttp import registry_source
from sandbox.pinning import Pin
from tests.kit.access import ask, make_worker_token
from tests.kit.certificates import Authority
from tests.kit.clients import client_home
from tests.kit.distribution import error_code, push_blob, push_small
from tests.kit.images import busybox_image, digest_of, write_layout
from tests.kit.rawhttp import connected, exchange, request
from tests.kit.server import RegistryProcess, running_registry, settings_for

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
MIB = 1 << 20


async def test_whole_transfers_and_the_address_of_tokens(tmp_path: Path, database_url: str) -> None:
    content = os.urandom(20 * MIB)
    async with running_registry(tmp_path / "data", database_url, tls="self-signed") as registry:
        async with registry.client() as client:
            await push_blob(client, "a", content)
            answer = await ask(client, "GET", f"/v2/a/blobs/{digest_of(content)}")
            assert answer.body == content
        async with registry.client(anonymous=True) as nobody:
            answer = await ask(nobody, "GET", "/v2/")
            assert f'realm="https://{registry.host}/token"' in answer.headers["WWW-Authenticate"]


async def test_plain_http_is_told_what_to_do(tmp_path: Path, database_url: str) -> None:
    async with running_registry(tmp_path / "data", database_url, tls="self-signed") as registry:
        for raw in (request("GET", "/v2/"), request("PUT", "/v2/a/manifests/v1", body=bytes(MIB)), b"\n"):
            answer = await exchange(registry.host, raw)
            assert answer.status == 400
            assert b"use https://" in answer.body
            assert error_code(answer.body) == "REQUEST_INVALID"


async def test_what_is_no_handshake_is_ended(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 0.3)
    async with running_registry(tmp_path / "data", database_url, tls="self-signed") as registry:
        for raw in (b"", b"\x16", b"\x16\x03\x01\x40\x00", b"\x16" + os.urandom(500)):
            async with connected(registry.host) as (reader, writer):
                writer.write(raw)
                with suppress(ConnectionResetError):
                    assert b"HTTP" not in await reader.read()
        # Whoever shakes hands may be slow.
        monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 60.0)
        async with registry.client() as client:
            assert (await ask(client, "GET", "/v2/")).status == 200
    assert not caplog.records


async def test_old_protocols_are_refused(tmp_path: Path, database_url: str) -> None:
    async with running_registry(tmp_path / "data", database_url, tls="self-signed") as registry:
        name, _, port = registry.host.rpartition(":")
        context = ssl.create_default_context(cafile=registry.certificate)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection(name, int(port), ssl=context)
        assert writer.get_extra_info("cipher")[1] == "TLSv1.2"
        writer.close()
        await writer.wait_closed()
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection(name, int(port), ssl=context)


async def test_a_new_certificate_is_taken_and_a_broken_one_is_not(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.02)
    authority = Authority()
    first, second, third = (authority.sign("127.0.0.1") for _ in range(3))
    certificate, key = first.write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    files = {"tls_certificate_file": certificate, "tls_key_file": key}
    async with running_registry(tmp_path / "data", database_url, **files) as registry:
        name, _, port = registry.host.rpartition(":")
        trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")

        async def shown() -> bytes:
            _, writer = await asyncio.open_connection(name, int(port), ssl=trusting)
            raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            await writer.wait_closed()
            return ssl.DER_cert_to_PEM_cert(raw).encode()

        reader, writer = await asyncio.open_connection(name, int(port), ssl=trusting)
        assert await shown() == first.certificate
        # One after the other, as some programs do: between the two nothing may break.
        certificate.write_bytes(second.certificate)
        await until_said(capsys, "the key is not that of the certificate")
        assert await shown() == first.certificate
        key.write_bytes(second.key)
        await until_said(capsys, "new connections get the new certificate")
        assert await shown() == second.certificate
        key.unlink()
        await until_said(capsys, "cannot be read: No such file or directory")
        certificate.write_text("nonsense")
        key.write_text("nonsense")
        await until_said(capsys, "not PEM")
        assert await shown() == second.certificate
        third.write(tmp_path)
        await until_said(capsys, "new connections get the new certificate")
        assert await shown() == third.certificate
        writer.write(request("GET", "/healthz"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200"), "who was connected still is"
        writer.close()
        await writer.wait_closed()


async def test_a_reader_who_takes_nothing_is_ended(tmp_path: Path, database_url: str) -> None:
    content = os.urandom(16 * MIB)
    given = {"tls": "self-signed"}
    async with (
        running_registry(tmp_path / "data", database_url, **given) as registry,
        registry.client() as client,
    ):
        await push_blob(client, "a", content)
    # Only now: who pushes may stand still for longer on a busy machine.
    async with (
        running_registry(tmp_path / "data", database_url, **given, stall_seconds=1.5) as registry,
        registry.client() as client,
    ):
        name, _, port = registry.host.rpartition(":")
        reader, writer = await asyncio.open_connection(name, int(port), ssl=registry.tls, limit=4096)
        writer.write(request("GET", f"/v2/a/blobs/{digest_of(content)}", token=registry.token))
        idle = b"seatrial_http_requests_in_flight 1.0"
        await reader.readexactly(1)
        while idle not in (await ask(client, "GET", "/metrics")).body:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        writer.transport.abort()


def test_why_a_pair_cannot_be_used(tmp_path: Path, database_url: str) -> None:
    authority = Authority()
    certificate, key = authority.sign("127.0.0.1").write(tmp_path)
    load_context(certificate, key)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for content, reason in (
        (locked, "not PEM, or the key is encrypted"),
        (b"nonsense", "not PEM"),
        (authority.sign("127.0.0.1").key, "the key is not that of the certificate"),
    ):
        key.write_bytes(content)
        with pytest.raises(CertificateError, match=reason):
            load_context(certificate, key)
    key.unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CertificateError, match="pipe is no file"):
        tls.load_context(tmp_path / "pipe", tmp_path / "key.pem")
    with pytest.raises(CertificateError, match=r"key\.pem cannot be read: No such file"):
        load_context(certificate, key)


def test_the_own_certificate_is_kept_until_it_no_longer_serves(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "data").mkdir()
    settings = settings_for(tmp_path / "data", None, tls="self-signed", listen="0.0.0.0:0")
    first = ensure_self_signed(settings)
    assert first.made
    assert {"localhost", "127.0.0.1", "::1"} < set(first.names)
    assert first.key.stat().st_mode & 0o777 == 0o600
    again = ensure_self_signed(settings)
    assert (again.made, set(again.names)) == (False, set(first.names))
    named = settings.model_copy(update={"external_url": "https://registry.example:8443"})
    other = ensure_self_signed(named)
    assert (other.made, other.names[0]) == (True, "registry.example")
    assert not ensure_self_signed(settings).made, "it has all names that are needed, and more"
    made = x509.load_pem_x509_certificate(other.certificate.read_bytes())
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    Authority().sign(*other.names, days=20).write(other.certificate.parent)
    assert ensure_self_signed(named).made, "its time was nearly over"


async def test_a_worker_trusts_one_certificate_whatever_its_name(tmp_path: Path, database_url: str) -> None:
    authority, folder = Authority(), tmp_path / "files"
    folder.mkdir()
    pair = authority.sign("registry.example")
    certificate, key = pair.write(folder)
    files = {"tls_certificate_file": certificate, "tls_key_file": key}
    async with running_registry(tmp_path / "data", database_url, **files) as registry:
        pin = Pin(certificate)
        context = ssl.create_default_context(cadata=pair.certificate.decode())
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        async with registry.client() as client:
            client.connector._ssl = context  # type: ignore[union-attr]
            await push_small(client, "a", "v1")
            token = await make_worker_token(client, "w1")
        async with registry_client(registry.url, token, pin=pin) as worker:
            assert (await worker.claim(("linux/amd64",), wait_seconds=0)).job is None
        credentials = ("admin", registry.token)
        async with registry_source(registry.url, "a", credentials=credentials, tls=pin.context()) as source:
            raw, _ = await source.manifest("v1")
            assert raw
        # Another of the same authority is not the one, also where the file names the authority.
        pinned = tmp_path / "pinned.pem"
        pinned.write_bytes(authority.sign("registry.example").certificate + authority.certificate)
        other = Pin(pinned)
        for context in (other.context(), Pin(tmp_path / "missing").context()):
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(*registry.host.split(":"), ssl=context, server_hostname="x")
        pinned.write_bytes(pair.certificate)
        _, writer = await asyncio.open_connection(
            *registry.host.split(":"), ssl=other.context(), server_hostname="x"
        )
        writer.close()
        await writer.wait_closed()


async def test_several_processes_have_one_certificate(tmp_path: Path, database_url: str) -> None:
    process = RegistryProcess(tmp_path / "data", database_url, tls="self-signed", processes="2")
    try:
        registry = process.start()
        for _ in range(8):
            async with registry.client() as client:
                assert (await ask(client, "GET", "/v2/")).status == 200
            answer = await exchange(registry.host, request("GET", "/v2/"))
            assert b"use https://" in answer.body
        assert process.log.read_text().count("once for each client") == 1
    finally:
        process.stop()


def test_a_folder_that_cannot_hold_it(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "tls").write_text("in the way")
    with pytest.raises(CertificateError, match="tls cannot be written to: File exists"):
        ensure_self_signed(settings_for(tmp_path, None, tls="self-signed"))


def test_podman_and_skopeo_with_the_lines_that_are_printed(tmp_path: Path, database_url: str) -> None:
    process = RegistryProcess(tmp_path / "data", database_url, tls="self-signed")
    try:
        registry = process.start()
        assert registry.certificate is not None
        printed = process.log.read_text()
        lines = client_lines(registry.host)
        assert all(line in printed for line in lines)
        assert printed.count("seatrial.pem; then, once for each client") == 1
        with client_home() as clients:
            (clients.folder / "seatrial.pem").write_bytes(registry.certificate.read_bytes())
            environment = {"HOME": str(clients.folder), "PATH": os.environ["PATH"]}
            subprocess.run(["bash", "-ec", lines[1]], cwd=clients.folder, env=environment, check=True)
            clients.podman("login", "-u", "admin", "--password-stdin", registry.host, stdin=registry.token)
            layout = write_layout(clients.folder / "image", busybox_image(["/bin/true"]), tag="v1")
            clients.skopeo("copy", f"oci:{layout}:v1", f"docker://{registry.host}/team/app:v1")
            assert clients.podman("pull", "-q", f"{registry.host}/team/app:v1")
            (clients.folder / ".config" / "containers" / "certs.d" / registry.host / "ca.crt").unlink()
            with pytest.raises(Exception, match="x509"):
                clients.skopeo("inspect", "--raw", f"docker://{registry.host}/team/app:v1")
    finally:
        process.stop()


async def until_said(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Wait until the log has it."""
    while text not in capsys.readouterr().out:  # noqa: ASYNC110  (nothing to wait on)
        await asyncio.sleep(0.01)
