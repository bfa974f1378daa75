#!/usr/bin/env bash
# Fetches the published packages that the images of tests/interop/scanning are made of, once, by each registry's own
# client, into the folder of the tools (scripts/tools.sh), and builds two programs of Go and one of Rust. Two minutes,
# and 20 MB.
set -euo pipefail
PATH=$PATH:/usr/local/go/bin

tools=${SEATRIAL_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/seatrial/tools}
truth=$tools/truth-2 # another number where what is in it changes
python=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/python
wheels=(Jinja2==2.10 requests==2.19.0 urllib3==1.24.1 cryptography==3.2 Django==3.2 Pillow==8.0.0 PyYAML==5.4.1)
maven=org.apache.logging.log4j

[[ ! -e $truth ]] || exit 0
mkdir -p "$tools"
unfinished=$(mktemp -d "$tools/.truth-XXXXXX")
trap 'rm -rf "$unfinished"' EXIT
cd "$unfinished"
echo "Making $(basename "$truth")"

# Where they are to lie is a CPython 3.9 on amd64, whatever runs this.
"$python" -m pip download --quiet --no-deps --only-binary :all: --python-version 39 --dest wheels \
  --platform manylinux1_x86_64 --platform manylinux2010_x86_64 --platform any "${wheels[@]}"

mkdir npm
(cd npm && npm pack --silent lodash@4.17.15 jquery@1.12.4 >/dev/null)

mkdir java
for name in log4j-core log4j-api; do
  mvn --quiet --batch-mode -Dstyle.color=never -Dmaven.repo.local="$unfinished/m2" dependency:get -Dtransitive=false \
    -Dartifact=$maven:$name:2.14.1 >/dev/null
  cp "m2/${maven//.//}/$name/2.14.1/$name-2.14.1.jar" java/
done
rm -rf m2

# Debian's own index, whatever the host is.
mkdir deb
# shellcheck disable=SC2016  # mmdebstrap gives it
DEB_FOLDER=$unfinished/deb PACKAGES='python3-urllib3 base-files netbase tzdata libssl3' \
  mmdebstrap --quiet --variant=custom bookworm /dev/null --customize-hook='cd "$DEB_FOLDER" &&
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -qq -o APT::Sandbox::User=root $PACKAGES'

# program NAME MODULES MAIN: without a C library, symbols or the names of folders.
program() {
  mkdir "$1.go"
  printf 'module example.com/Berth/%s\n\ngo 1.19\n%s\n' "$1" "$2" >"$1.go/go.mod"
  printf 'package main\n\n%s\n' "$3" >"$1.go/main.go"
  (cd "$1.go" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags='-s -w' -o "../$1" .)
  rm -rf "$1.go"
}
program old $'\nrequire golang.org/x/text v0.3.5' \
  $'import "golang.org/x/text/language"\n\nfunc main() { println(language.Und.String()) }'
program clean '' $'func main() { println("ahoy") }'

# What cargo-auditable writes into a program is read from one that it has built.
mkdir -p rust/src
cat >rust/Cargo.toml <<'END'
[package]
name = "berth"
version = "0.3.1"
edition = "2018"

[dependencies]
smallvec = "=1.6.0"

[profile.release]
strip = true
END
echo 'fn main() { println!("{:?}", smallvec::SmallVec::<[u8; 4]>::from_slice(b"ahoy")) }' >rust/src/main.rs
cargo install --quiet --locked --root cargo cargo-auditable@0.6.6
(cd rust && PATH=$PATH:$unfinished/cargo/bin cargo auditable build --quiet --release)
cp rust/target/release/berth auditable
rm -rf rust cargo
chmod 755 "$unfinished"
mv "$unfinished" "$truth"
