# shellcheck shell=sh disable=SC2034  # read by init.sh
sysctl -q -p /usr/lib/sysctl.d/10-apparmor.conf
apparmor_parser --replace /cargo/sandbox/lsm/seatrial-run.apparmor
checks='tests/vm/inside/apparmor.py'
