#!/usr/bin/env bash
# Makes sure of the system packages that a target needs: scripts/packages.sh demo|test|check|interop|bench|vm
#
# Debian and Ubuntu, through apt-get when we are root or may sudo. On a terminal it shows what it would install
# and asks. Where nothing can be installed it lists what is missing and goes on: the demo and the tests say
# themselves what they cannot do without it. No service is started by what it installs.
set -euo pipefail

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin

# package | how we see that it is there already | what it is for
demo='python3-venv|python|the Python environment (Python 3.11 or newer)
podman|command podman|builds, pushes and pulls the images
skopeo|command skopeo|pushes and pulls where podman itself cannot work
runc|command runc|runs the images
busybox-static|static busybox|the one file that the images are made of
uidmap|command newuidmap|user namespaces of a plain user
e2fsprogs|command mkfs.ext4|the bounded writable layer of a run'
test="$demo
gcc|command gcc|builds the program that attacks from inside a run
libc6-dev|file /usr/lib/*/libc.a|and the library that it is linked to
crun|command crun|another runtime that runs the images
catatonit|command catatonit|the init before a command
tini|command tini-static|another init, that images bring along
rpm|command rpm|compares versions as rpm does
stress-ng|command stress-ng|storms inside a run
trinity|command trinity|random system calls inside a run
buildah|command buildah|another client that pushes
nginx-light|command nginx|an ordinary image that must start
redis-server|command redis-server|an ordinary image that must start
postgresql|file /usr/lib/postgresql/*/bin/postgres|the tests run on SQLite and on PostgreSQL
apparmor|command apparmor_parser|compiles the AppArmor profile of runs
secilc|command secilc|compiles the SELinux domain of runs
linux-libc-dev|file /usr/include/asm-generic/unistd.h|the numbers of system calls, to compare ours with
iproute2|command ip|replicas of the registry in networks of their own, and runs with a network
nftables|command nft|runs with a network
faketime|file /usr/lib/*/faketime/libfaketimeMT.so.1|a replica whose clock is wrong
shellcheck|command shellcheck|checks the scripts
systemd|command systemd-analyze|checks the service units
git|command git|the tests ask which files ship
curl|command curl|the pipeline example
jq|command jq|the pipeline example
rpm|command rpmbuild|makes packages and their database, to be read by the scanner
age|command age|reads and writes what encrypted backups are
db5.3-util|command db5.3_load|makes the database that older ones have
chromium|command chromium|looks at the pages, and is what other sites attack"
check='python3-venv|python|the Python environment (Python 3.11 or newer)
shellcheck|command shellcheck|checks the scripts'
interop="$test
golang-go|command go|builds the clients and runtimes that Debian has not
pkg-config|command pkg-config|builds a current runc
libseccomp-dev|file /usr/include/seccomp.h|builds a current runc
mmdebstrap|command mmdebstrap|makes the layer that ordinary images lie on
zstd|command zstd|and compresses it
containerd|command containerd|another client: ctr, with a containerd of its own
docker.io|file /usr/bin/docker|another client, with an engine of its own
umoci|command umoci|reads the layouts that are exported
rsync|command rsync|keeps copies of them
docker-registry|command docker-registry|another registry, to move in from
wget|command wget|mirrors those that are served
vsftpd|command vsftpd|an ftp server to import from
npm|command npm|fetches packages of npm, to be found by the scanner
maven|command mvn|fetches packages of Maven, to be found by the scanner
caddy|command caddy|a proxy in front, with the example configuration
prometheus|command promtool|checks the alert rules"
bench="$demo
golang-go|command go|builds the registries that Debian has not
docker-registry|command docker-registry|a registry to compare with
nginx-light|command nginx|plain files to compare with
umoci|command umoci|unpacks images, to compare with
wrk|command wrk|requests at a cost that leaves two cores to the registry
postgresql|file /usr/lib/postgresql/*/bin/postgres|the other database"
vm='python3-venv|python|the Python environment (Python 3.11 or newer)
qemu-system-x86|command qemu-system-x86_64|runs the machines
mmdebstrap|command mmdebstrap|makes their disk
e2fsprogs|command mke2fs|makes their disk
gcc|command gcc|builds the program that attacks from inside a run
libc6-dev|file /usr/lib/*/libc.a|and the library that it is linked to'

present() {
  case $1 in
    command) command -v "$2" >/dev/null ;;
    file) compgen -G "$2" >/dev/null ;;
    static) command -v "$2" >/dev/null && ! head -c 8192 "$(command -v "$2")" | grep -qaE 'ld-(linux|musl)' ;;
    python) "$(dirname "$0")/python.sh" --find >/dev/null 2>&1 ;;
  esac
}

install() {
  local elevate=() policy=/usr/sbin/policy-rc.d
  [[ $EUID -eq 0 ]] || elevate=(sudo)
  if [[ ! -e $policy ]]; then
    # apt-get would start what it installs (a database, say); this tells it not to, until it is done.
    printf '#!/bin/sh\nexit 101\n' | "${elevate[@]}" tee "$policy" >/dev/null
    "${elevate[@]}" chmod 755 "$policy"
    # shellcheck disable=SC2064  # expanded now, since both are local
    trap "${elevate[*]} rm -f $policy" EXIT
  fi
  "${elevate[@]}" apt-get update -q
  "${elevate[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

may_install() {
  command -v apt-get >/dev/null || return 1
  [[ $EUID -eq 0 ]] && return 0
  command -v sudo >/dev/null || return 1
  [[ -t 0 ]] || sudo -n true 2>/dev/null
}

main() {
  local list missing=() lines=() package probe purpose
  case ${1:-} in
    demo) list=$demo ;;
    test) list=$test ;;
    check) list=$check ;;
    interop) list=$interop ;;
    bench) list=$bench ;;
    vm) list=$vm ;;
    *)
      echo 'usage: packages.sh demo|test|check|interop|bench|vm' >&2
      return 64
      ;;
  esac
  while IFS='|' read -r package probe purpose; do
    # shellcheck disable=SC2086  # the probe is a word and its argument
    present $probe && continue
    missing+=("$package")
    lines+=("$(printf '  %-16s %s' "$package" "$purpose")")
  done <<<"$list"
  [[ ${#missing[@]} -gt 0 ]] || return 0

  printf 'These packages are not there yet:\n'
  printf '%s\n' "${lines[@]}"
  if ! may_install; then
    printf 'They cannot be installed from here; as root:  apt-get install %s\nGoing on without them.\n' "${missing[*]}"
    return 0
  fi
  if [[ -t 0 && -z ${CI:-} ]]; then
    local answer
    read -r -p 'Install them with apt-get now? [Y/n] ' answer
    if [[ ${answer,,} == n* ]]; then
      printf 'Going on without them.\n'
      return 0
    fi
  fi
  install "${missing[@]}"
}

main "$@"
