#!/usr/bin/env bash
# Builds the clients and runtimes that Debian has not, or has too old, once, into a folder outside the clone:
# $SEATRIAL_TEST_TOOLS, else ~/.cache/seatrial/tools. Pinned; a tool whose version is there already is left alone.
set -euo pipefail
PATH=$PATH:/usr/local/go/bin

tools=${SEATRIAL_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/seatrial/tools}
mkdir -p "$tools"

# build NAME VERSION PACKAGE [FLAGS...]: NAME-VERSION is the file, NAME a link to it.
build() {
  local name=$1 version=$2 package=$3
  shift 3
  if [[ ! -x $tools/$name-$version ]]; then
    echo "Building $name $version"
    local folder
    folder=$(mktemp -d "$tools/.build-XXXXXX")
    GOBIN=$folder go install "$@" "$package@$version"
    mv "$folder/$(basename "$package")" "$tools/$name-$version"
    rmdir "$folder"
  fi
  ln -sfn "$name-$version" "$tools/$name"
}

build crane v0.22.1 github.com/google/go-containerregistry/cmd/crane
build conformance v0.0.0-20260831232431-97274622c111 github.com/opencontainers/distribution-spec/conformance
CGO_ENABLED=1 build runc v1.5.2 github.com/opencontainers/runc \
  -tags 'seccomp netgo osusergo' -ldflags '-s -w -extldflags "-static"'
