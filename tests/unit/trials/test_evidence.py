"""Files of evidence: read as they were written, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from registry.oci.digest import Digest, digest_of
from registry.trials.evidence import Evidence, EvidenceInvalidError, pack, unpack
from registry.trials.sigstore import BUNDLE, make_bundle, make_statement
from registry.trials.statements import PREDICATES, Signer, resource_uri
from registry.trials.verifying import word_of

IMAGE = digest_of(b"image")
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
OCI = "application/vnd.oci.image.manifest.v1+json"


def manifest_of(bundle: bytes, subject: Digest = IMAGE) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "artifactType": BUNDLE,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": str(digest_of(b"{}")),
            "size": 2,
        },
        "layers": [{"mediaType": BUNDLE, "digest": str(digest_of(bundle)), "size": len(bundle)}],
        "subject": {"mediaType": OCI, "digest": str(subject), "size": 5},
    }
    return json.dumps(document).encode()


def evidence(
    state: str = "pass",
    *,
    about: Digest = IMAGE,
    repository: str = "team/app",
    address: str | None = "https://registry.example",
    day: int = 29,
) -> Evidence:
    signer = Signer("1", address)
    place = signer.place_of(repository)
    predicate = {
        "verifier": {"id": signer.id},
        "resourceUri": resource_uri(place, str(about)),
        "timeVerified": f"2026-11-{day}T10:00:00Z",
        "verificationResult": "PASSED" if state == "pass" else "FAILED",
        "seatrial": {"state": state},
    }
    bundle = make_bundle(make_statement(place, about, PREDICATES["summary"], predicate), KEY, kid="k")
    manifest = manifest_of(bundle)
    return Evidence(
        name=repository,
        digest=IMAGE,
        server="https://registry.example",
        exported_at="2026-11-29T10:00:05Z",
        manifests={digest_of(manifest): manifest},
        blobs={digest_of(bundle): bundle, digest_of(b"{}"): b"{}"},
        keys={"k": "pem\n"},
        trials=[{"id": "t", "reason": "ä"}],
    )


def test_what_was_written_is_read_and_verified_with_the_right_key() -> None:
    raw = pack(evidence())
    found = unpack(raw)
    assert (found.name, found.digest, found.keys, found.trials) == (
        "team/app",
        IMAGE,
        {"k": "pem\n"},
        [{"id": "t", "reason": "ä"}],
    )
    word = word_of(found.read(IMAGE, [OTHER.public_key(), KEY.public_key()]))
    assert word.summary is not None
    assert word.summary["verificationResult"] == "PASSED"
    for keys in ([], [OTHER.public_key()]):
        (refused,) = found.read(IMAGE, keys)
        assert (refused.statement, refused.refused) == (None, "no key that is trusted here signed it")
    assert found.read(digest_of(b"another"), [KEY.public_key()]) == []
    # Hung to this image, and about another.
    (refused,) = unpack(pack(evidence(about=digest_of(b"x")))).read(IMAGE, [KEY.public_key()])
    assert refused.refused == "it is about another image"
    (refused,) = replace(found, blobs={}).read(IMAGE, [KEY.public_key()])
    assert refused.refused == "its bundle is not in the file"


@pytest.mark.parametrize("address", ["https://registry.example", "http://[::1]:8470", None])
def test_what_is_signed_for_one_repository_says_nothing_of_another(address: str | None) -> None:
    trusted = [KEY.public_key()]
    bad = evidence("fail", repository="prod/app", day=28, address=address)
    # The last would be another's with a host before it.
    for other in ("dev/app", "prod/app2", "dev/prod/app"):
        good = evidence(repository=other, day=29, address=address)
        assert word_of(good.read(IMAGE, trusted)).summary is not None
        (refused,) = unpack(pack(replace(good, name="prod/app"))).read(IMAGE, trusted)
        assert refused.statement is None
        assert refused.refused == f"it is about the image in {Signer('1', address).place_of(other)}"
        # Beside its own, a newer word on another's hides nothing.
        mixed = replace(bad, manifests={**bad.manifests, **good.manifests}, blobs={**bad.blobs, **good.blobs})
        summary = word_of(unpack(pack(mixed)).read(IMAGE, trusted)).summary
        assert summary is not None
        assert summary["verificationResult"] == "FAILED"


def members_of(raw: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def tar_of(members: Mapping[str, bytes], *more: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for each in more:
            tar.addfile(each, io.BytesIO(bytes(each.size)))
    return file.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def headed(name: str, headers: dict[str, str]) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.pax_headers = headers
    return member


def test_what_is_no_such_file_is_refused_and_why() -> None:
    good = members_of(pack(evidence()))
    blob = next(name for name in good if name.startswith("blobs/"))
    about = json.loads(good["evidence.json"])
    index = json.loads(good["index.json"])
    large = tarfile.TarInfo("keys/large.pem")
    large.size = 17 * 1024 * 1024
    lost = {"manifests": [*index["manifests"], {"digest": str(digest_of(b"lost"))}]}
    config = {"manifests": [{"digest": str(digest_of(b"{}"))}]}
    bad: list[tuple[bytes, str]] = [
        (b"", "no tar"),
        (b"x" * 2000, "no tar"),
        (pack(evidence())[:700], "no tar"),
        (tar_of({}), "no evidence.json"),
        (tar_of({**good, "../x": b""}), "does not belong"),
        (tar_of({**good, "blobs/sha256/" + "0" * 63: b""}), "hex digits"),
        (tar_of(good, special("keys/a.pem", tarfile.SYMTYPE, "/etc/passwd")), "does not belong"),
        (tar_of(good, special("keys/k.pem", tarfile.REGTYPE)), "does not belong"),
        # Holes have no bytes in the file, and all of them in memory.
        (tar_of(good, special("keys/a.pem", tarfile.GNUTYPE_SPARSE)), "does not belong"),
        (tar_of(good, headed("keys/a.pem", {"GNU.sparse.size": "x"})), "does not belong"),
        (tar_of(good)[: tarfile.BLOCKSIZE + 20], "ends within"),
        (pack(evidence())[: -tarfile.RECORDSIZE], "no tar"),
        (tar_of(good, large), "more in it"),
        (tar_of({**good, blob: good[blob] + b" "}), "another digest"),
        (tar_of({**good, "evidence.json": b"[]"}), "evidence.json"),
        (tar_of({**good, "evidence.json": json.dumps({**about, "seatrial_evidence": 2}).encode()}), "newer"),
        (tar_of({**good, "evidence.json": json.dumps({**about, "image": "../x"}).encode()}), "name"),
        (tar_of({**good, "evidence.json": json.dumps({**about, "digest": "x"}).encode()}), "digest"),
        (tar_of({**good, "index.json": json.dumps({**index, **lost}).encode()}), "does not have it"),
        (tar_of({**good, "index.json": json.dumps({**index, **config}).encode()}), "schemaVersion"),
        (tar_of({**good, "index.json": b'{"manifests": [1]}'}), "digest"),
    ]
    for raw, why in bad:
        with pytest.raises(EvidenceInvalidError, match=why):
            unpack(raw)
