"""Files of age: the format's own test vectors, what other programs make, and what is not to be read."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.storage import bech32
from registry.storage.age import (
    Decryptor,
    Encryptor,
    Identity,
    Recipient,
    encrypted_size,
    parse_identities,
    parse_recipient,
)

VECTORS = Path(__file__).parent / "age"
CHUNK = 64 << 10


def encrypt(content: bytes, *recipients: Recipient, piece: int = 1 << 20) -> bytes:
    encryptor = Encryptor(recipients)
    made = [encryptor.start()]
    for start in range(0, len(content), piece):
        made += encryptor.add(content[start : start + piece])
    return b"".join([*made, encryptor.finish()])


def decrypt(file: bytes, *identities: Identity, piece: int = 1 << 20) -> bytes:
    decryptor = Decryptor(identities)
    found: list[bytes] = []
    for start in range(0, len(file), piece):
        found += decryptor.add(file[start : start + piece])
    return b"".join([*found, decryptor.finish()])


@pytest.mark.parametrize("name", sorted(path.name for path in VECTORS.iterdir() if path.name != "README"))
@pytest.mark.parametrize("piece", [1 << 20, 97])
def test_a_vector_of_the_format(name: str, piece: int) -> None:
    head, _, file = (VECTORS / name).read_bytes().partition(b"\n\n")
    told: dict[str, list[str]] = {}
    for line in head.decode().splitlines():
        key, _, value = line.partition(": ")
        told.setdefault(key, []).append(value)
    if told.get("compressed") == ["zlib"]:
        file = zlib.decompress(file)
    identities = parse_identities("\n".join(told.get("identity", [Identity.make().text()])))
    if told["expect"] == ["success"]:
        content = decrypt(file, *identities, piece=piece)
        assert [hashlib.sha256(content).hexdigest()] == told["payload"]
        return
    with pytest.raises(ValueError, match=r".") as raised:
        decrypt(file, *identities, piece=piece)
    assert ("none of the given keys" in str(raised.value)) == (told["expect"] == ["no match"])


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 200_001])
def test_what_is_written_is_read(length: int) -> None:
    one, other = Identity.make(), Identity.make()
    content = os.urandom(length)
    file = encrypt(content, one.recipient, other.recipient, piece=10_007)
    assert len(file) == encrypted_size(length, 2)
    for identity in (one, other):
        assert decrypt(file, identity, piece=4099) == content
    with pytest.raises(ValueError, match="none of the given keys"):
        decrypt(file, Identity.make())
    assert len(encrypt(content, one.recipient)) == encrypted_size(length, 1)


@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_bit_can_be_changed(at: int, bit: int) -> None:
    identity = Identity(bytes(range(32)))
    file = bytearray(encrypt(b"content", identity.recipient))
    file[at % len(file)] ^= 1 << bit
    with pytest.raises(ValueError, match=r"."):
        decrypt(bytes(file), identity)


@given(length=st.integers(min_value=0, max_value=3 * CHUNK))
def test_nothing_can_be_cut_off(length: int) -> None:
    identity = Identity(bytes(range(32)))
    file = encrypt(bytes(2 * CHUNK + 5), identity.recipient)
    with pytest.raises(ValueError, match=r"."):
        decrypt(file[: length % len(file)], identity)


def test_keys_are_written_as_age_does() -> None:
    # From BIP 173's checksum, and a key of the vectors.
    text = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"
    (identity,) = parse_identities(f"# created: today\n# public key: age1…\n{text}\n\n")
    assert identity.text() == text
    assert parse_recipient(str(identity.recipient)) == identity.recipient
    assert text not in repr(identity)


@given(prefix=st.sampled_from(["age", "age-secret-key-"]), content=st.binary(min_size=1, max_size=64))
def test_bech32_comes_back(prefix: str, content: bytes) -> None:
    text = bech32.encode(prefix, content)
    assert bech32.decode(text) == bech32.decode(text.upper()) == (prefix, content)
    for place in range(len(prefix) + 1, len(text)):
        wrong = text[:place] + ("q" if text[place] != "q" else "p") + text[place + 1 :]
        with pytest.raises(ValueError, match=r"checksum|no Bech32"):
            bech32.decode(wrong)


@pytest.mark.parametrize(
    "text", ["", "age1", "age1qqqq", "Age1abc", "age1bio", "ssh-ed25519 AAAA", "1" + "q" * 58, "agé1qqqqqq"]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_recipient(text)
    with pytest.raises(ValueError, match=r".") as raised:
        parse_identities(text)
    assert not text or text not in str(raised.value)


def test_a_private_key_is_no_recipient() -> None:
    identity = Identity.make()
    with pytest.raises(ValueError, match="no age1"):
        parse_recipient(identity.text())
    with pytest.raises(ValueError, match="no age-secret-key"):
        parse_identities(str(identity.recipient))


@pytest.fixture(scope="module")
def age() -> str:
    found = shutil.which("age")
    if found is None:
        pytest.skip("age is not installed")
    return found


@pytest.mark.parametrize("length", [0, 3 * CHUNK, 100_001])
def test_age_reads_what_we_write_and_we_what_it_writes(age: str, tmp_path: Path, length: int) -> None:
    key = tmp_path / "key"
    subprocess.run([f"{age}-keygen", "-o", key], check=True, capture_output=True)
    (identity,) = parse_identities(key.read_text())
    content = os.urandom(length)
    ours = encrypt(content, identity.recipient)
    done = subprocess.run([age, "-d", "-i", key], input=ours, check=True, capture_output=True)
    assert done.stdout == content
    theirs = subprocess.run(
        [age, "-r", str(identity.recipient)], input=content, check=True, capture_output=True
    ).stdout
    assert decrypt(theirs, identity, piece=1000) == content
    ours_key = Identity.make()
    key.write_text(f"{ours_key.text()}\n")
    shown = subprocess.run([f"{age}-keygen", "-y", key], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == str(ours_key.recipient)
