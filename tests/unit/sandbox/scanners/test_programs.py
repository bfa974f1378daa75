"""Programs of Go and Rust: what they say of their making, in each form that it was written in."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import pytest

from sandbox.scanners.facts import FoundPackage
from tests.kit.elffiles import go_inline, go_modules, go_pointed, make_elf
from tests.kit.looking import look, named, wanting

MODULES = go_modules(
    "path\texample.com/Tool\nmod\texample.com/Tool\t(devel)\t\n"
    "dep\tgolang.org/x/text\tv0.3.5\th1:i6eZZ+zk0SOf0xgBpEpPD18qWcJda6q1sxt3S0kzyUQ=\n"
    "dep\tgithub.com/old/name\tv1.0.0\n=>\tgithub.com/new/name\tv1.2.3\th1:x=\n"
    "dep\texample.com/local\tv0.0.0\n=>\t./local\t(devel)\t\nbuild\t-compiler=gc\n"
)
FOUND = [
    ("stdlib", "1.26.8"),
    ("example.com/Tool", "(devel)"),
    ("golang.org/x/text", "v0.3.5"),
    ("github.com/new/name", "v1.2.3"),
    ("example.com/local", "(devel)"),
]
CRATES = {
    "packages": [
        {"name": "app", "version": "0.1.0", "source": "local", "root": True, "dependencies": [1, 2]},
        {"name": "smallvec", "version": "1.6.0", "source": "crates.io"},
        {"name": "cc", "version": "1.0.0", "source": "crates.io", "kind": "build"},
    ]
}


def program(parts: dict[bytes, bytes], **form: object) -> list[tuple[str, str]]:
    facts = look("usr/bin/tool", make_elf(parts, **form), mode=0o755)  # type: ignore[arg-type]
    assert facts.incomplete == ()
    return named(facts)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("headers", [True, False])
def test_a_go_program_names_its_modules_in_each_form(order: str, *, wide: bool, headers: bool) -> None:
    inline = go_inline("go1.26.8 X:boringcrypto", MODULES)
    pointed = go_pointed("go1.26.8", MODULES, size=8 if wide else 4, order=order)
    for written in (inline, pointed):
        parts = {b".go.buildinfo": written, b".data": bytes(64)}
        assert program(parts, wide=wide, order=order, headers=headers) == FOUND


def test_a_go_program_without_modules_has_the_standard_library_alone() -> None:
    assert program({b".go.buildinfo": go_inline("go1.19.8", b"")}) == [("stdlib", "1.19.8")]
    assert program({b".go.buildinfo": go_inline("devel go1.27-0a1b2c", b"")}) == [("stdlib", "(devel)")]
    assert program({b".go.buildinfo": go_inline("go1.24.6-X:nodwarf5", b"")}) == [("stdlib", "1.24.6")]


def test_the_runtime_that_debian_built_here_says_with_what() -> None:
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin")
    assert runc is not None
    facts = look("usr/sbin/runc", Path(runc).read_bytes(), mode=0o755)
    assert [package.name for package in facts.packages if package.name == "stdlib"] == ["stdlib"]
    assert facts.incomplete == ()


def test_a_rust_program_names_the_crates_that_it_runs_with() -> None:
    facts = look("usr/lib/libtool.so.1", make_elf({b".dep-v0": zlib.compress(json.dumps(CRATES).encode())}))
    assert facts.packages == (FoundPackage("rust", "app", "0.1.0"), FoundPackage("rust", "smallvec", "1.6.0"))
    assert facts.incomplete == ()


def test_what_says_nothing_of_its_making_has_no_packages_and_lacks_nothing() -> None:
    assert program({b".data": b"x" * 5000}) == []
    for data in (b"#!/bin/sh\n" * 200, b"\x7fELF" + bytes(2000), b"", Path("/bin/true").read_bytes()):
        facts = look("usr/bin/tool", data.ljust(1024), mode=0o755)
        assert (facts.packages, facts.incomplete) == ((), ())


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({b".go.buildinfo": b"nothing of the kind"}, "its section of build information holds none"),
        (
            {b".go.buildinfo": go_inline("go1.20", b"")[:32] + b"\xff" * 64},
            "a length in its build information does not end",
        ),
        (
            {b".go.buildinfo": go_inline("go1.20", b"")[:32] + b"\xff\xff\xff\xff\x7f"},
            "its build information is larger than 4 MiB",
        ),
        (
            {b".go.buildinfo": go_pointed("go1.17", MODULES)[:16] + b"\xff" * 80},
            "an address in its build information lies nowhere in the file",
        ),
        (
            {b".go.buildinfo": b"\xff Go buildinf:\x03\x00" + bytes(64)},
            "the size of a pointer in its build information cannot be",
        ),
        ({b".dep-v0": b"not compressed"}, "its list of crates is not compressed as it should be"),
        (
            {b".dep-v0": zlib.compress(bytes(20_000_000))},
            "its list of crates is cut off, or larger than 4 MiB",
        ),
        ({b".dep-v0": zlib.compress(b"[" * 100_000)}, "its list of crates is no JSON"),
        ({b".dep-v0": zlib.compress(b"[]")}, "its list of crates is none"),
        ({b".dep-v0": zlib.compress(b'{"packages": [1]}')}, "a crate in its list is none"),
        (
            {b".dep-v0": zlib.compress(b'{"packages": [{"name": "x"}]}')},
            "a crate in its list has no name or no version",
        ),
    ],
)
def test_what_lies_of_its_making_is_named_as_incomplete(parts: dict[bytes, bytes], reason: str) -> None:
    facts = look("usr/bin/tool", make_elf(parts), mode=0o755)
    assert [package for package in facts.packages if package.kind == "rust"] == []
    assert facts.incomplete == (reason,)


def test_headers_that_lead_out_of_the_file_are_named_as_incomplete() -> None:
    whole = make_elf({b".go.buildinfo": go_inline("go1.26.8", MODULES)})
    assert look("usr/bin/tool", whole[:4200], mode=0o755).incomplete == ("the file ends too early",)
    assert look("usr/bin/tool", whole[:40] + b"\xff" * 8 + whole[48:], mode=0o755).incomplete == (
        "an offset lies outside of the file",
    )
    assert look("usr/bin/tool", whole[:58] + b"\xff" * 6 + whole[64:], mode=0o755).incomplete == (
        "the ELF file's section headers cannot be",
    )
    bare = make_elf({b".go.buildinfo": go_inline("go1.26.8", MODULES)}, headers=False)
    assert look("usr/bin/tool", bare[:54] + b"\xff" * 4 + bare[58:], mode=0o755).incomplete == (
        "the ELF file's program headers cannot be",
    )
    assert (
        named(look("usr/bin/tool", bare.replace(b"\xff Go buildinf:", b"\xff Go buildinf."), mode=0o755))
        == []
    )


def test_only_what_can_be_a_program_is_opened() -> None:
    assert wanting("usr/bin/tool", size_bytes=2000, mode=0o755) == ["programs"]
    assert wanting("usr/lib/libtool.so.1.2", size_bytes=2000) == ["programs"]
    assert wanting("usr/bin/tool", size_bytes=2000) == wanting("usr/bin/tiny", mode=0o755) == []
