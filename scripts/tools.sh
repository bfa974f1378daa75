#!/usr/bin/env bash
# Builds what Debian has not, or has too old, once, into a folder outside the clone: $SEATRIAL_TEST_TOOLS, else
# ~/.cache/seatrial/tools. Pinned; a tool whose version is there already is left alone.
#   scripts/tools.sh           clients, runtimes, other registries, an S3 server and another scanner: what
#                              `make interop` runs
#   scripts/tools.sh bench     other registries and scanners, to be measured beside this one
#   scripts/tools.sh kyverno   Kyverno's program: 3,000 packages and 9 GB on the way, so only when it is asked for
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

# build_within NAME VERSION MODULE PACKAGE [REPLACED]: in a module of our own, which only has to require theirs, and what
# they replace. `go install` takes no module where the proxy serves no list of its versions, and none that excludes
# or replaces others.
build_within() {
  local name=$1 version=$2 module=$3 package=$4 replaced=${5:-} folder
  if [[ ! -x $tools/$name-$version ]]; then
    echo "Building $name $version"
    folder=$(mktemp -d "$tools/.build-XXXXXX")
    printf 'module scratch\n\ngo 1.24\n\nrequire %s %s\n' "$module" "$version" >"$folder/go.mod"
    [[ -z $replaced ]] || printf 'replace %s\n' "$replaced" >>"$folder/go.mod"
    printf '//go:build tools\n\npackage scratch\n\nimport _ "%s"\n' "$package" >"$folder/scratch.go"
    (cd "$folder" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o built "$package")
    mv "$folder/built" "$tools/$name-$version"
    rm -rf "$folder"
  fi
  ln -sfn "$name-$version" "$tools/$name"
}

# To move in from, and to be measured beside this one.
other_registries() {
  build_within olareg v0.2.2 github.com/olareg/olareg github.com/olareg/olareg/cmd/olareg
  build registry v3.1.1 github.com/distribution/distribution/v3/cmd/registry
}

case ${1:-interop} in
  interop)
    build crane v0.22.1 github.com/google/go-containerregistry/cmd/crane
    build conformance v0.0.0-20260831232431-97274622c111 github.com/opencontainers/distribution-spec/conformance
    build regctl v0.11.7 github.com/regclient/regclient/cmd/regctl
    build oras v1.3.6 oras.land/oras/cmd/oras
    build cosign v3.1.3 github.com/sigstore/cosign/v3/cmd/cosign
    build versitygw v1.8.0 github.com/versity/versitygw/cmd/versitygw
    build helm v4.3.1 helm.sh/helm/v4/cmd/helm
    build_within notation v1.3.2 github.com/notaryproject/notation github.com/notaryproject/notation/cmd/notation
    build_within buildctl v0.34.2 github.com/moby/buildkit github.com/moby/buildkit/cmd/buildctl
    build_within buildkitd v0.34.2 github.com/moby/buildkit github.com/moby/buildkit/cmd/buildkitd
    build_within nerdctl v2.0.4 github.com/containerd/nerdctl/v2 github.com/containerd/nerdctl/v2/cmd/nerdctl
    other_registries
    # It asks for a newer Go than most have; the proxy serves that as well.
    GOTOOLCHAIN=go1.27.3 CGO_ENABLED=0 build osv-scanner v2.6.0 github.com/google/osv-scanner/v2/cmd/osv-scanner
    CGO_ENABLED=1 build runc v1.5.2 github.com/opencontainers/runc \
      -tags 'seccomp netgo osusergo' -ldflags '-s -w -extldflags "-static"'
    # Built with Go it would not know its own version.
    CGO_ENABLED=0 build runsc v0.0.0-20260905035102-160fafc42237 gvisor.dev/gvisor/runsc \
      -ldflags '-s -w -X gvisor.dev/gvisor/runsc/version.version=release-20260905.0'
    ;;
  bench)
    other_registries
    CGO_ENABLED=0 build syft v1.57.0 github.com/anchore/syft/cmd/syft
    GOEXPERIMENT=jsonv2 CGO_ENABLED=0 build trivy v0.74.0 github.com/aquasecurity/trivy/cmd/trivy
    ;;
  kyverno)
    build_within kyverno v1.19.1 github.com/kyverno/kyverno github.com/kyverno/kyverno/cmd/cli/kubectl-kyverno \
      'k8s.io/pod-security-admission => github.com/kyverno/pod-security-admission v0.0.0-20251031094455-46f20778634f'
    ;;
  *)
    echo 'usage: tools.sh [interop|bench|kyverno]' >&2
    exit 64
    ;;
esac
