#!/usr/bin/env bash
# Makes two root file systems of Debian's own packages, once, into the folder of the tools (scripts/tools.sh): the layer
# that the ordinary images of the tests lie on, and what deploy/Containerfile is built from, with all that it installs,
# so that building it needs no network. A few minutes, and 330 MB.
set -euo pipefail

tools=${SEATRIAL_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/seatrial/tools}
layer=$tools/debian-12-1.tar.zst # another number where what is in it changes
packages=nginx-light,redis-server,postgresql,mariadb-server,apache2,tomcat10,default-jre-headless,nodejs,python3,gunicorn,gosu

installed=$(sed -n 's/.*--no-install-recommends \([a-z0-9 -]*\).*/\1/p' "$(dirname "$0")/../deploy/Containerfile" |
  tr -s ' \n' ',' | sed 's/,$//')
bare=$tools/debian-12-bare-$(sha256sum <<<"$installed" | cut -c1-8).tar.zst

mkdir -p "$tools"
unfinished=$(mktemp "$tools/.debian-XXXXXX")
trap 'rm -f "$unfinished"' EXIT
if [[ ! -e $bare ]]; then
  echo "Making $(basename "$bare")"
  mmdebstrap --quiet --variant=minbase --include="$installed" --skip=output/dev \
    --aptopt='APT::Install-Recommends false' bookworm - | zstd -q -3 >"$unfinished"
  rm -f "$tools"/debian-12-bare-*
  mv "$unfinished" "$bare"
fi
[[ -e $layer ]] && exit
echo "Making $(basename "$layer")"
# Databases are made by the images themselves. What only Postgres' just-in-time compiler needs is a fifth of all.
# shellcheck disable=SC2016  # mmdebstrap gives $1
mmdebstrap --quiet --variant=minbase --include="$packages" --skip=output/dev \
  --aptopt='APT::Install-Recommends false' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='cd "$1" && rm -rf var/lib/mysql/* var/lib/postgresql/* usr/share/i18n usr/share/man/*/* \
    usr/lib/x86_64-linux-gnu/libLLVM* usr/lib/postgresql/*/lib/llvmjit* usr/lib/postgresql/*/lib/bitcode' \
  bookworm - | zstd -q -3 >"$unfinished"
mv "$unfinished" "$layer"
