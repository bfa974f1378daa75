# shellcheck shell=sh disable=SC2034  # read by init.sh
# As Ubuntu boots: what its own programs are under, and that others may make no user namespaces.
apparmor_parser --replace /etc/apparmor.d/unprivileged_userns
sysctl -q -p /usr/lib/sysctl.d/10-apparmor.conf
checks='tests/vm/inside/ubuntu.py tests/vm/inside/apparmor.py
  tests/integration/sandbox/runtimes/test_contract.py -k not(crun)'
