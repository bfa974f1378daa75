# shellcheck shell=sh disable=SC2034  # read by init.sh
# As Ubuntu boots: what its own programs are under, and that others may make no user namespaces.
apparmor_parser --replace /etc/apparmor.d/unprivileged_userns /etc/apparmor.d/runc /etc/apparmor.d/crun
sysctl -q -p /usr/lib/sysctl.d/10-apparmor.conf
checks='tests/vm/inside/ubuntu.py tests/vm/inside/apparmor.py tests/vm/inside/service.py
  tests/hostile/attempts/test_attempts.py::test_nothing_is_won
  tests/integration/sandbox/runtimes/test_contract.py -k not(TestContract)or(runc)and(not(killed))'
# systemd is the first process here, with nothing to start but the checks and what they ask for.
mkdir -p /run/systemd/system
cat >/run/systemd/system/checks.service <<END
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/$enter $(echo "$checks" | tr -d '\n')
Environment="PATH=$PATH" HOME=$HOME LANG=$LANG CI=$CI
WorkingDirectory=/cargo
StandardOutput=file:/dev/ttyS0
StandardError=inherit
TasksMax=infinity
OOMPolicy=continue
END
mount -t tmpfs none /usr/lib/systemd/system-generators
enter='/usr/lib/systemd/systemd --unit=checks.service --log-target=kmsg --log-level=warning'
checks=
