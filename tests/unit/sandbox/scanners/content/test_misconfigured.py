"""What is wrong with files, accounts, certificates, the configuration, and the whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from registry.contract.scan import Found, Incomplete, Scan
from sandbox.scanners.content.accounts import Accounts
from sandbox.scanners.content.catalogue import CATALOGUE, MARK
from sandbox.scanners.content.certificates import Certificates, not_after
from sandbox.scanners.content.config import MAX_THINGS, OfConfig, config_things, runs_as_root
from sandbox.scanners.content.engine import MAX_MATCHES, NO_ENGINE, Engine, Rules, compile_rules
from sandbox.scanners.content.files import FileRules
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.content.whole import shown_lines, whole_image, with_whole
from sandbox.scanners.facts import Entry, EntryKind, Facts, IncompleteError, Module
from tests.kit import planted
from tests.kit.sources import ROOT

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def search() -> ContentSearch:
    rules = compile_rules()
    return ContentSearch(Engine(rules), rules.digest)


def looked_at(
    module: Module, path: str, content: bytes = b"", *, mode: int = 0o644, kind: EntryKind = "file",
    capabilities: bool = False,
) -> Facts:  # fmt: skip
    entry = Entry(path, kind, len(content), mode, 0, 0, capabilities=capabilities)
    return module.look(entry, io.BytesIO(content)) if module.wants(entry) else Facts()


def rules(facts: Facts) -> list[str]:
    return [thing.rule for thing in facts.things]


@pytest.mark.parametrize(
    ("path", "mode", "kind", "expected"),
    [
        ("usr/bin/passwd", 0o4755, "file", ["ST-SETUID"]),
        ("usr/bin/wall", 0o2755, "file", ["ST-SETUID"]),
        ("var/lock/x", 0o2644, "file", []),
        ("usr/bin/true", 0o755, "file", []),
        ("opt/x", 0o666, "file", ["ST-WORLD-WRITABLE-FILE"]),
        ("opt/x", 0o6777, "file", ["ST-WORLD-WRITABLE-FILE", "ST-SETUID"]),
        ("opt", 0o777, "folder", ["ST-WORLD-WRITABLE-FOLDER"]),
        ("tmp", 0o1777, "folder", []),
        ("var/mail", 0o2775, "folder", []),
        ("etc/shadow", 0o664, "file", ["ST-ACCOUNTS-WRITABLE"]),
        ("etc/shadow", 0o640, "file", []),
        ("opt/device", 0o666, "other", ["ST-SPECIAL-FILE"]),
        ("dev/null", 0o666, "other", []),
        ("usr/bin/x", 0o777, "link", []),
        ("usr/bin/sudo", 0o755, "file", ["ST-SUDO"]),
        ("usr/sbin/sshd", 0o755, "file", ["ST-REMOTE-LOGIN"]),
        ("root/.ssh/authorized_keys", 0o600, "file", ["ST-AUTHORIZED-KEYS"]),
        ("etc/ssh/ssh_host_ed25519_key", 0o600, "file", ["ST-SSH-HOST-KEY"]),
        ("etc/ssh/ssh_host_ed25519_key.pub", 0o644, "file", []),
        ("srv/app/.git/HEAD", 0o644, "file", ["ST-GIT-FOLDER"]),
        ("etc/ld.so.preload", 0o644, "file", ["ST-LIBRARY-PRELOAD"]),
        ("var/lib/apt/lists/deb.debian.org_dists_x_InRelease", 0o644, "file", ["ST-PACKAGE-CACHE"]),
        ("var/lib/apt/lists/lock", 0o640, "file", []),
        ("root/.cache/pip/http-v2/a", 0o644, "file", ["ST-PACKAGE-CACHE"]),
        ("bin/sh", 0o755, "file", [f"{MARK}shell"]),
    ],
)
def test_files_are_judged_by_name_and_mode(
    path: str, mode: int, kind: EntryKind, expected: list[str]
) -> None:
    facts = looked_at(FileRules(), path, b"content" if kind == "file" else b"", mode=mode, kind=kind)
    assert rules(facts) == expected
    for thing in facts.things:
        if thing.rule == "ST-SETUID":
            # So that one of the distribution's own can be told from another.
            assert hashlib.md5(b"content").hexdigest() in thing.digests


def test_capabilities_of_a_file_are_told() -> None:
    assert rules(looked_at(FileRules(), "bin/ping", b"x", mode=0o755, capabilities=True)) == [
        "ST-FILE-CAPABILITIES"
    ]


def test_an_empty_list_of_keys_or_libraries_is_nothing() -> None:
    assert rules(looked_at(FileRules(), "root/.ssh/authorized_keys", b"")) == []
    assert rules(looked_at(FileRules(), "etc/ld.so.preload", b"")) == []


def test_a_cache_is_told_once_a_layer() -> None:
    module = FileRules()
    told = [rules(looked_at(module, f"var/cache/apt/archives/{name}.deb", b"x")) for name in "abc"]
    assert told == [["ST-PACKAGE-CACHE"], [], []]
    assert rules(looked_at(module, "var/cache/apk/APKINDEX.0.tar.gz", b"x")) == ["ST-PACKAGE-CACHE"]


def test_accounts() -> None:
    passwd = b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nweb::1000:1000::/:\napp:x:1001:0::/:\n"
    facts = looked_at(Accounts(), "etc/passwd", passwd)
    assert [(one.rule, one.evidence, one.line) for one in facts.things] == [
        ("ST-SECOND-ROOT", "toor", None),
        (f"{MARK}users", "root,toor,web,app", None),
        ("ST-EMPTY-PASSWORD", "web", 3),
    ]
    hashed = "$" + "y$j9T$" + "F5Jx5fExrKuPp53xLKQ..1$" + "X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
    shadow = "root:*:19000:0:99999:7:::\ndaemon:!:1::::::\nopen::1::::::\n"
    shadow += f"set:{hashed}:1::::::\nlocked:!{hashed}:1::::::\n"
    facts = looked_at(Accounts(), "etc/shadow", shadow.encode())
    assert [(one.rule, one.evidence) for one in facts.things] == [
        ("ST-EMPTY-PASSWORD", "open"),
        ("ST-PASSWORD-SET", "set"),
    ]
    sudoers = b"# %x ALL=(ALL) NOPASSWD: ALL\nweb ALL=(ALL:ALL) NOPASSWD: ALL\nroot ALL=(ALL) ALL\n"
    facts = looked_at(Accounts(), "etc/sudoers.d/web", sudoers)
    assert [(one.rule, one.evidence, one.line) for one in facts.things] == [
        ("ST-SUDO-WITHOUT-PASSWORD", "web", 2)
    ]


def test_hostile_accounts_end() -> None:
    facts = looked_at(Accounts(), "etc/passwd", b"x::0:0\n" * 1000 + b"\xff\0:::\n:::::" + b":" * 5000)
    assert len(facts.things) == 20
    assert facts.incomplete
    with pytest.raises(IncompleteError):
        looked_at(Accounts(), "etc/passwd", b"x" * (1024 * 1024 + 1))


def certificate(end: datetime, *, authority: bool | None = None) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ledger.internal")])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(4711).not_valid_before(end - timedelta(days=90)).not_valid_after(end)
    )  # fmt: skip
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    return builder.sign(key, SHA256())


@pytest.mark.parametrize("authority", [None, False])
@pytest.mark.parametrize("end", [NOW, NOW.replace(year=2049), NOW.replace(year=2050), NOW.replace(year=1999)])
def test_the_end_of_a_certificate_is_read(end: datetime, authority: bool | None) -> None:
    made = certificate(end, authority=authority)
    assert not_after(made.public_bytes(Encoding.DER)) == end
    for encoding, path in ((Encoding.PEM, "srv/tls/server.pem"), (Encoding.DER, "srv/tls/server.der")):
        (thing,) = looked_at(Certificates(), path, made.public_bytes(encoding)).things
        assert thing.evidence == end.isoformat()


def test_authorities_are_left_alone() -> None:
    made = certificate(NOW, authority=True)
    assert not_after(made.public_bytes(Encoding.DER)) is None
    chain = made.public_bytes(Encoding.PEM) + certificate(NOW.replace(year=2030)).public_bytes(Encoding.PEM)
    (thing,) = looked_at(Certificates(), "srv/chain.pem", chain).things
    assert thing.evidence.startswith("2030")
    assert not Certificates().wants(Entry("etc/ssl/certs/x.pem", "file", 100, 0o644, 0, 0))
    assert looked_at(Certificates(), "srv/many.pem", chain * 10) == Facts()
    assert looked_at(Certificates(), "srv/key.pem", planted.private_key().encode()) == Facts()


def test_a_hostile_certificate_is_incomplete() -> None:
    good = certificate(NOW).public_bytes(Encoding.DER)
    wrong = 0
    for at in range(len(good)):
        for changed in (
            good[:at],
            good[:at] + b"\xff" + good[at + 1 :],
            good[:at] + b"\x84" + good[at + 1 :],
        ):
            try:
                not_after(changed)
            except IncompleteError:
                wrong += 1
    assert wrong > len(good)
    with pytest.raises(IncompleteError):
        looked_at(Certificates(), "srv/x.der", b"\x30\x84\xff\xff\xff\xff")


LOADS_NOTHING = """
import io, sys
from sandbox.scanners.content.engine import compile_rules
from sandbox.scanners.facts import Entry
from sandbox.scanners.loading import load_modules
modules = load_modules(["sandbox.scanners.content"], compile_rules())
cases = [tuple(each.split("=", 1)) for each in sys.argv[1:]]

def refuse(event, arguments):
    if event in ("open", "import"):
        raise PermissionError(f"{event} {arguments[0]}")

sys.addaudithook(refuse)
told = 0
for path, text in cases:
    content = bytes.fromhex(text)
    for module in modules:
        entry = Entry(path, "file", len(content), 0o4755, 0, 0)
        if module.wants(entry):
            told += len(module.look(entry, io.BytesIO(content)).things)
sys.stdout.write("read" if told > len(cases) else "told nothing")
"""


def test_nothing_is_opened_or_loaded_once_it_is_there() -> None:
    cases = {examples.path: examples.true[-1].encode("latin-1") for examples in planted.secrets().values()}
    cases |= {f"opt/{rule}": one.true[0].encode("latin-1") for rule, one in planted.secrets().items()}
    cases |= {f"opt/{rule}": one.true[0].encode("latin-1") for rule, one in planted.malware().items()}
    cases |= {
        "srv/server.pem": certificate(NOW).public_bytes(Encoding.PEM),
        "srv/server.der": certificate(NOW.replace(year=2060)).public_bytes(Encoding.DER),
        "srv/a.gz": gzip.compress(planted.eicar().encode()),
        "etc/passwd": b"root::0:0::/:\xff\n",
        "etc/shadow": b"root::0:0::/:\n",
        "etc/sudoers": b"web ALL=(ALL:ALL) NOPASSWD: ALL\n",
        "root/.cache/pip/x": b"x",
    }
    said = [f"{path}={content.hex()}" for path, content in cases.items()]
    done = subprocess.run(
        [sys.executable, "-c", LOADS_NOTHING, *said], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.stdout == "read", done.stderr


def test_the_configuration_is_judged() -> None:
    config = {
        "config": {
            "User": "0:0",
            "Env": ["PATH=/bin", "DB_PASSWORD=", "API_TOKEN=${TOKEN}", "ADMIN_PASSWORD=tr0ub4dor"],
            "ExposedPorts": {"8080/tcp": {}, "22/tcp": {}, "22/udp": {}},
            "Healthcheck": {"Test": ["NONE"]},
        },
        "history": [
            {"created_by": "ADD https://files.internal/tool /usr/bin/ # buildkit"},
            {"created_by": "ADD --checksum=sha256:00 https://files.internal/tool /usr/bin/"},
            {"created_by": "RUN /bin/sh -c curl -fsSL https://files.internal/setup | sudo -E bash -"},
            {"created_by": "RUN /bin/sh -c curl https://files.internal | tee x"},
            {"created_by": 4},
            "text",
        ],
    }
    found = config_things(config, search()).found
    assert {(one.rule, one.where) for one in found} == {
        ("ST-USER-ROOT", "user"),
        ("ST-NO-HEALTHCHECK", "healthcheck"),
        ("ST-EXPOSES-REMOTE-LOGIN", "port 22/tcp"),
        ("ST-ENV-SECRET", "env ADMIN_PASSWORD"),
        ("ST-ADD-REMOTE", "history 0"),
        ("ST-PIPE-TO-SHELL", "history 2"),
    }


@pytest.mark.parametrize(
    "config", [{}, {"config": None}, {"config": {"Env": "x", "Labels": [], "User": 5}, "history": 3}]
)
def test_a_strange_configuration_is_judged_as_far_as_it_goes(config: dict[str, object]) -> None:
    found = config_things(config, search()).found
    assert {one.rule for one in found} <= {"ST-USER-ROOT", "ST-NO-HEALTHCHECK"}


@pytest.mark.parametrize(
    ("user", "is_root"),
    [
        ("", True),
        ("root", True),
        ("0", True),
        ("00:5", True),
        ("root:app", True),
        ("65532", False),
        ("app", False),
    ],
)
def test_who_is_root(user: str, is_root: bool) -> None:
    assert runs_as_root(user) is is_root


def test_secrets_of_the_configuration_are_found_once_and_redacted() -> None:
    """Row 13 of the images with known findings."""
    token, key = planted.token("ghp_"), "AK" + "IA" + planted.made(planted.UPPER, 16)
    password = "q7Tz9kLw2mPf"
    config = {
        "config": {
            "User": "65532",
            "Healthcheck": {"Test": ["CMD", "/bin/check"]},
            "Env": [
                f"AWS_ACCESS_KEY_ID={key}",
                "OTHER_KEY=AKIAIOSFODNN7" + "EXAMPLE",
                "DB_PASSWORD=${PASSWORD}",
            ],
            "Labels": {"db": f"postgres://ledger:{password}@db.internal/ledger"},
            "Entrypoint": ["/app", "--plain"],
        },
        "history": [
            {"created_by": f"ENV AWS_ACCESS_KEY_ID={key}", "empty_layer": True},
            {"created_by": f"ARG GITHUB_TOKEN={token}", "empty_layer": True},
            {"created_by": f"RUN |1 GITHUB_TOKEN={token} /bin/sh -c make"},
        ],
    }
    found = config_things(config, search()).found
    assert {(one.kind, one.rule, one.where) for one in found} == {
        ("secret", "ST-SECRET-AWS-ACCESS-KEY-ID", "env AWS_ACCESS_KEY_ID"),
        ("secret", "ST-SECRET-DATABASE-URL", "label db"),
        ("secret", "ST-SECRET-GITHUB-TOKEN", "history 1"),
    }
    told = "".join(one.model_dump_json() for one in found)
    assert not any(secret[4:] in told for secret in (token, key, password))


def test_what_is_too_much_in_a_configuration_is_said() -> None:
    scan = Scan(lease="", scanner="test", digest=f"sha256:{'0' * 64}", platform="linux/amd64", layers=())
    compiled = compile_rules()
    few = with_whole(scan, {}, compiled, now=NOW)
    assert not few.truncated
    env = [f"P{n}_PASSWORD=q7Tz9k{n}" for n in range(MAX_THINGS + 1)]
    many = with_whole(scan, {"config": {"Env": env}}, compiled, now=NOW)
    assert (len(many.found), many.truncated) == (MAX_THINGS, True)
    # A long line is searched to its end.
    long = {"history": [{"created_by": f"RUN {'x ' * 40_000} TOKEN={planted.token('ghp_')}"}]}
    assert "history 0" in {one.where for one in with_whole(scan, long, compiled, now=NOW).found}


def test_what_of_a_configuration_cannot_be_searched_is_incomplete() -> None:
    """It is no finding: whoever asks whether the scan is complete is told that it is not."""
    gap = Incomplete(scanner="layer", reason="damaged")
    scan = Scan(
        lease="", scanner="test", digest=f"sha256:{'0' * 64}", platform="linux/amd64", layers=(),
        incomplete=(gap,),
    )  # fmt: skip
    flood = " ".join(planted.token("ghp_", seed=n) for n in range(MAX_MATCHES + 1))
    config = {"config": {"User": "65532", "Healthcheck": {"Test": ["CMD", "/a"]}, "Env": [f"X={flood}"]}}
    said = with_whole(scan, config, compile_rules(), now=NOW)
    assert said.found == ()
    assert [(one.scanner, one.where) for one in said.incomplete] == [("layer", ""), ("content", "env X")]
    assert "ST-SECRET-GITHUB-TOKEN" in said.incomplete[1].reason
    # Nor is there anything to go by where no layer could say that nothing searches here.
    said = with_whole(scan, config, Rules(b"", "none"), now=NOW)
    assert [one.reason for one in said.incomplete] == ["damaged", NO_ENGINE]


def test_lines_of_layers_show_no_secret() -> None:
    token, password = planted.token("ghp_"), "q7Tz9kLw2mPf"
    lines = [
        f"RUN |2 A={token} B=c /bin/sh -c curl -H 'X: {token}' https://x.internal",
        f"RUN DB_PASSWORD={password} /bin/sh -c make",
        f"RUN login --password '{password}' && PASSWORD=${{OTHER}} true",
        f"COPY {'x' * 1990} {token}",
    ]
    config = {
        "history": [{"created_by": "ENV A=b", "empty_layer": True}, *({"created_by": one} for one in lines)]
    }
    compiled = compile_rules()
    shown = shown_lines(config, 4, compiled)
    assert not any(token[4:12] in one or password[2:] in one for one in shown)
    assert shown[0].endswith("https://x.internal")
    assert shown[1] == "RUN DB_PASSWORD=(12 characters) /bin/sh -c make"
    assert shown[2] == "RUN login --password (12 characters) && PASSWORD=${OTHER} true"
    # Nobody can tell what is a secret where the engine is missing.
    assert shown_lines(config, 4, Rules(b"", "none")) == ("",) * 4
    assert shown_lines(config, 3, compiled) == ("",) * 3


def test_a_clean_static_image_has_nothing() -> None:
    """Row 15 of the images with known findings."""
    config = {
        "config": {
            "User": "65532",
            "Healthcheck": {"Test": ["CMD", "/app", "check"]},
            "Labels": {"a": "b"},
            "Entrypoint": ["/app"],
        },
        "history": [{"created_by": "COPY app /app # buildkit"}],
    }
    assert config_things(config, search()) == OfConfig((), ())
    assert whole_image((), config=config, is_distroless=False, now=NOW) == ()


def found(rule: str, where: str, evidence: str = "", *, deleted: int | None = None) -> Found:
    return Found(
        kind="misconfiguration",
        rule=rule,
        severity="info",
        title=rule,
        where=where,
        evidence=evidence,
        layer=0,
        deleted_in_layer=deleted,
    )


def whole(*things: Found, distroless: bool = False, **config: object) -> set[tuple[str, str]]:
    told = whole_image(things, config={"config": config}, is_distroless=distroless, now=NOW)
    assert not any(one.rule.startswith(MARK) for one in told)
    assert all(one.severity == CATALOGUE[one.rule].severity for one in told if one.title != one.rule)
    return {(one.rule, one.where) for one in told}


def test_marks_become_findings_when_the_image_is_known() -> None:
    def ends(days: int) -> Found:
        return found(f"{MARK}certificate", "srv/server.pem", (NOW + timedelta(days=days)).isoformat())

    assert whole(ends(-1)) == {("ST-CERTIFICATE-EXPIRED", "srv/server.pem")}
    assert whole(ends(29)) == {("ST-CERTIFICATE-EXPIRES", "srv/server.pem")}
    assert whole(ends(31)) == set()
    shell = found(f"{MARK}shell", "bin/sh")
    assert whole(shell) == set()
    assert whole(shell, distroless=True) == {("ST-SHELL-IN-DISTROLESS", "bin/sh")}
    assert whole(found(f"{MARK}shell", "bin/sh", deleted=1), distroless=True) == set()
    users = found(f"{MARK}users", "etc/passwd", "root,app")
    assert whole(users, User="app") == whole(users, User="1000") == whole(users) == set()
    assert whole(users, User="web:app") == {("ST-USER-UNKNOWN", "etc/passwd")}


@pytest.mark.parametrize(
    ("where", "rule", "config", "is_it"),
    [
        ("usr/bin/app", "ST-WORLD-WRITABLE-FILE", {"Entrypoint": ["/usr/bin/app"]}, True),
        ("usr/bin/app", "ST-WORLD-WRITABLE-FILE", {"Cmd": ["app"]}, True),
        ("srv/bin/app", "ST-WORLD-WRITABLE-FILE", {"Cmd": ["app"], "Env": ["PATH=/srv/bin"]}, True),
        ("srv", "ST-WORLD-WRITABLE-FOLDER", {"Entrypoint": ["./app"], "WorkingDir": "/srv"}, True),
        ("srv/data", "ST-WORLD-WRITABLE-FOLDER", {"Entrypoint": ["/srv/app"]}, False),
        ("srv/app2", "ST-WORLD-WRITABLE-FILE", {"Entrypoint": ["/srv/app"]}, False),
        ("srv/app", "ST-WORLD-WRITABLE-FILE", {}, False),
    ],
)
def test_a_writable_program_is_told(where: str, rule: str, config: dict[str, object], is_it: bool) -> None:
    told = {one for one, _ in whole(found(rule, where), **config)}
    assert told == {rule} | ({"ST-WRITABLE-ENTRYPOINT"} if is_it else set())


def test_each_entry_of_the_catalogue_says_all() -> None:
    for rule, entry in CATALOGUE.items():
        assert rule.startswith("ST-")
        assert entry.why.endswith(".")
        assert len(entry.remedy) > 10
        assert len(entry.title) < 100
