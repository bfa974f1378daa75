#!/usr/bin/env bash
# Makes the layer that the ordinary images of the tests lie on, once, into the folder of the tools (scripts/tools.sh):
# Debian's own packages, in one root file system. A few minutes, and 250 MB.
set -euo pipefail

tools=${SEATRIAL_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/seatrial/tools}
layer=$tools/debian-12-1.tar.zst # another number where what is in it changes
packages=nginx-light,redis-server,postgresql,mariadb-server,apache2,tomcat10,default-jre-headless,nodejs,python3,gunicorn,gosu

mkdir -p "$tools"
[[ -e $layer ]] && exit
echo "Making $(basename "$layer")"
unfinished=$(mktemp "$tools/.debian-XXXXXX")
trap 'rm -f "$unfinished"' EXIT
# Databases are made by the images themselves. What only Postgres' just-in-time compiler needs is a fifth of all.
# shellcheck disable=SC2016  # mmdebstrap gives $1
mmdebstrap --quiet --variant=minbase --include="$packages" --skip=output/dev \
  --aptopt='APT::Install-Recommends false' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='cd "$1" && rm -rf var/lib/mysql/* var/lib/postgresql/* usr/share/i18n usr/share/man/*/* \
    usr/lib/x86_64-linux-gnu/libLLVM* usr/lib/postgresql/*/lib/llvmjit* usr/lib/postgresql/*/lib/bitcode' \
  bookworm - | zstd -q -3 >"$unfinished"
mv "$unfinished" "$layer"
