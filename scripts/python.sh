#!/usr/bin/env bash
# Makes .venv from requirements.lock, with hashes, and puts this clone into it: .venv/bin/seatrial.
# Does nothing when neither the lock, the project's metadata nor the Python changed since.
#   scripts/python.sh            make or refresh it
#   scripts/python.sh --find     print which Python would be used
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  echo 'There is no Python 3.11 or newer with the module venv (Debian, Ubuntu: apt-get install python3-venv).' >&2
  return 1
}

python=$(find_python)
if [[ ${1:-} == --find ]]; then
  echo "$python"
  exit 0
fi

stamp=.venv/.made-from
state=$({ "$python" -VV && pwd && cat requirements.lock pyproject.toml; } | sha256sum)
if [[ -x .venv/bin/seatrial && $(cat $stamp 2>/dev/null) == "$state" ]]; then
  exit 0
fi
echo "Making .venv with $("$python" -V) from requirements.lock"
[[ -x .venv/bin/pip ]] || "$python" -m venv --clear .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
printf '%s\n' "$state" >$stamp
