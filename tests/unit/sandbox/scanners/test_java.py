"""Java archives: which artifacts they are, however deep they lie, and what they may cost."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from sandbox.scanners.facts import Facts
from tests.kit.looking import look, wanting

LOG4J = "META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties"


def archive(entries: dict[str, bytes | str], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return packed.getvalue()


def pom(group: str, artifact: str, version: str) -> str:
    return f"#Created by Apache Maven 3.6.3\nversion={version}\ngroupId={group}\nartifactId={artifact}\n"


def found(facts: Facts) -> list[tuple[str, str, str]]:
    return [(package.name, package.version, package.path) for package in facts.packages]


CORE = archive(
    {LOG4J: pom("org.apache.logging.log4j", "log4j-core", "2.14.1"), "org/apache/Logger.class": bytes(1000)}
)
NAME = "org.apache.logging.log4j:log4j-core"


def test_an_archive_is_what_maven_says_at_each_place_where_it_lies() -> None:
    assert found(look("opt/log4j-core-2.14.1.jar", CORE)) == [(NAME, "2.14.1", "")]
    war = archive({"WEB-INF/lib/log4j-core-2.14.1.jar": CORE, "WEB-INF/web.xml": "<web-app/>"})
    facts = look("opt/bundle.zip", archive({"app.war": war, "readme.txt": "no"}, method=zipfile.ZIP_STORED))
    assert (NAME, "2.14.1", "app.war/WEB-INF/lib/log4j-core-2.14.1.jar") in found(facts)
    assert facts.incomplete == ()
    started = look(
        "opt/app.jar", b"#!/bin/sh\nexec java -jar $0\n" + archive({"BOOT-INF/lib/core.jar": CORE})
    )
    assert (NAME, "2.14.1", "BOOT-INF/lib/core.jar") in found(started)


def test_what_was_merged_into_an_archive_is_listed_beside_it() -> None:
    other = "META-INF/maven/com.acme/tool/pom.properties"
    merged = archive({LOG4J: pom("org.apache.logging.log4j", "log4j-core", "2.14.1"), other: "version=9\n"})
    assert found(look("opt/tool-9.jar", merged)) == [(NAME, "2.14.1", ""), ("com.acme:tool", "9", "")]
    shaded = archive({LOG4J: pom("org.apache.logging.log4j", "log4j-core", "2.14.1")})
    assert found(look("opt/elastic-8.1.jar", shaded)) == [(NAME, "2.14.1", ""), ("elastic", "8.1", "")]
    assert found(look("opt/elastic.jar", shaded)) == [(NAME, "2.14.1", "")]


@pytest.mark.parametrize(
    ("name", "manifest", "expected"),
    [
        ("guava-31.1-jre.jar", "", ("guava", "31.1-jre")),
        ("guava-31.1-jre.jar", "Bundle-SymbolicName: com.google.guava\n", ("guava", "31.1-jre")),
        ("guava-31.1-jre.jar", "Implementation-Vendor-Id: Some Body\n", ("guava", "31.1-jre")),
        (
            "tool.jar",
            "Implementation-Vendor-Id: org.ex\n ample\nImplementation-Version: 2.0\n\nBundle-Version: 1\n",
            ("org.example:tool", "2.0"),
        ),
        ("tool.jar", "Bundle-Version: 3.1.0\r\n", ("tool", "3.1.0")),
    ],
)
def test_without_maven_the_manifest_and_the_name_say_what_they_can(
    name: str, manifest: str, expected: tuple[str, str]
) -> None:
    entries: dict[str, bytes | str] = {"a/B.class": b"x"}
    if manifest:
        entries["META-INF/MANIFEST.MF"] = "Manifest-Version: 1.0\n" + manifest
    assert found(look("opt/" + name, archive(entries))) == [(*expected, "")]


def test_what_says_no_version_is_an_applications_own() -> None:
    for manifest in ("", "Implementation-Version: \x1b[2J\n"):
        facts = look("opt/app.jar", archive({"META-INF/MANIFEST.MF": manifest}))
        assert (facts.packages, facts.incomplete) == ((), ())


def test_a_pom_without_properties_still_says_group_and_artifact() -> None:
    lone = archive({"META-INF/maven/com.acme/tool/pom.xml": "<project/>"})
    assert found(look("opt/tool-1.5.jar", lone)) == [("com.acme:tool", "1.5", "")]


def licences_of(facts: Facts) -> dict[str, tuple[str, ...]]:
    return {package.name: package.licences for package in facts.packages}


def licensed(*licences: str, head: str = "") -> str:
    said = "".join(f"<license>{one}</license>" for one in licences)
    return f'{head}<project xmlns="http://maven.apache.org/POM/4.0.0"><licenses>{said}</licenses></project>'


TOOL = "META-INF/maven/com.acme/tool"


def test_licences_are_those_of_the_pom_or_else_of_the_bundle() -> None:
    bundle = {
        "META-INF/MANIFEST.MF": 'Bundle-License: "Apache-2.0";link="https://a, b",MIT\nBundle-Version: 1\n\n'
    }
    poms = {
        f"{TOOL}/pom.properties": "version=9\n",
        f"{TOOL}/pom.xml": licensed(
            "<name>EPL\n 2.0</name><url>http://x</url>", "<url> https://opensource.org/licenses/MIT </url>"
        ),
        "META-INF/maven/com.acme/other/pom.xml": "<project/>",
    }
    assert licences_of(look("a/tool-9.jar", archive({**poms, **bundle}))) == {
        "com.acme:tool": ("EPL 2.0", "https://opensource.org/licenses/MIT"),
        # The manifest is not of what was merged into the archive.
        "com.acme:other": (),
    }
    plain = {f"{TOOL}/pom.xml": "<project/>", **bundle}
    both = ("Apache-2.0,MIT",)
    assert licences_of(look("a/tool-9.jar", archive(plain))) == {"com.acme:tool": both}
    assert licences_of(look("a/tool-9.jar", archive({**bundle}))) == {"tool": both}
    external = {"META-INF/MANIFEST.MF": "Bundle-License: <<EXTERNAL>>\n"}
    assert licences_of(look("a/tool-9.jar", archive({**external}))) == {"tool": ()}


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
)


@pytest.mark.parametrize(
    "pom",
    [
        licensed("<name>&j;</name>", head=f"{BOMB}]>"),
        licensed("<name>x</name>", head='<!DOCTYPE a SYSTEM "file:///etc/passwd">'),
        licensed("<name>MIT</name>")[:-20],
        "<project>" + "<a>x" * 60_000,
        licensed("<name>MIT</name>", head=f"<!--{'x' * 300_000}-->"),
        b"\xff\xfe\0\0",
        "",
    ],
    ids=["entities", "external", "cut off", "deep", "long", "no text", "empty"],
)
def test_a_pom_that_cannot_be_read_names_no_licence_and_hides_no_package(pom: str | bytes) -> None:
    facts = look("a/tool-9.jar", archive({f"{TOOL}/pom.properties": "version=9\n", f"{TOOL}/pom.xml": pom}))
    assert licences_of(facts) == {"com.acme:tool": ()}
    assert facts.incomplete == ()


def test_the_encoding_that_a_pom_names_loads_nothing() -> None:
    pom = licensed("<name>Caf\u00e9</name>", head='<?xml version="1.0" encoding="mac-latin2"?>')
    assert licences_of(look("a/tool-9.jar", archive({f"{TOOL}/pom.xml": pom}))) == {
        "com.acme:tool": ("Caf\u00e9",)
    }


def test_a_zip_is_opened_for_what_it_holds_and_is_nothing_itself() -> None:
    assert wanting("srv/a.zip") == wanting("srv/A.JAR") == wanting("srv/a.war") == ["java"]
    assert wanting("srv/a.whl") == wanting("srv/a.class") == []
    for data in (archive({"a.txt": "x"}), b"no zip at all", b""):
        facts = look("srv/a.zip", data)
        assert (facts.packages, facts.incomplete) == ((), ())
    assert look("srv/a.jar", b"no zip").incomplete == ("it is no zip archive, or its end is missing",)


def nested(depth: int) -> bytes:
    data = CORE
    for level in range(depth):
        data = archive({f"level{level}.jar": data}, method=zipfile.ZIP_STORED)
    return data


def test_archives_are_opened_three_deep_and_what_lies_deeper_is_named() -> None:
    assert (NAME, "2.14.1", "level2.jar/level1.jar/level0.jar") in found(look("opt/a.jar", nested(3)))
    facts = look("opt/a.jar", nested(60))
    assert facts.incomplete == (
        "'level59.jar/level58.jar/level57.jar/level56.jar': archives lie more than 3 deep in each other",
    )


def test_a_bomb_is_not_inflated_and_named() -> None:
    bomb = archive({"bomb.jar": bytes(68_000_000)})
    facts = look("opt/a.jar", bomb)
    assert facts.incomplete == ("'bomb.jar': 'bomb.jar' has more than the 67108864 bytes that are read",)
    assert look("opt/a.jar", archive({LOG4J: bytes(1_000_000)})).incomplete == (
        f"'{LOG4J}' has more than the 262144 bytes that are read",
    )
    claiming = bytearray(archive({"a.class": bytes(100)}))
    at = claiming.index(b"PK\1\2") + 24
    claiming[at : at + 4] = struct.pack("<I", 4_000_000_000)
    facts = look("opt/a.jar", bytes(claiming))
    assert facts.incomplete == ("its entries claim to inflate to 3814 MiB",)


def test_many_archives_share_one_budget() -> None:
    small = archive({"x.jar": bytes(30_000_000)})
    many = archive({f"{number}.zip": small for number in range(20)}, method=zipfile.ZIP_STORED)
    assert look("opt/a.jar", many).incomplete == ("what is read of it would be too large when inflated",)
    poms = {f"META-INF/maven/g/{number}/pom.xml": b"" for number in range(5_001)}
    assert look("opt/a.jar", archive(poms)).incomplete == ("it names more than 5000 artifacts",)
    crowd = archive({f"{number}.zip": b"" for number in range(3_001)}, method=zipfile.ZIP_STORED)
    assert look("opt/a.jar", crowd).incomplete == ("it has too many archives in it",)


def test_a_directory_that_lies_is_named_as_incomplete() -> None:
    plain = archive({LOG4J: pom("g", "a", "1")}, method=zipfile.ZIP_STORED)
    directory = plain.index(b"PK\1\2")

    def broken(at: int, data: bytes) -> tuple[str, ...]:
        return look("opt/a.jar", plain[:at] + data + plain[at + len(data) :]).incomplete

    assert broken(directory, b"XX") == ("its directory holds what is no entry",)
    assert broken(directory + 42, b"\x05") == (f"'{LOG4J}' is not where the directory says",)
    assert broken(directory + 10, b"\x0c") == (
        f"'{LOG4J}' is encrypted, or packed in a way that is not read",
    )
    assert broken(directory + 20, b"\xff\xff") == (f"the file ends within '{LOG4J}'",)
    end = plain.index(b"PK\5\6")
    assert broken(end + 12, b"\xff\xff\xff\x7f") == ("its directory is larger than 16 MiB",)
    assert broken(end + 12, b"\xff\xff\xff\x00") == ("its directory begins before the file",)
