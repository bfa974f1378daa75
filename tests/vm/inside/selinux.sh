# shellcheck shell=sh disable=SC2034  # read by init.sh
mount -t selinuxfs none /sys/fs/selinux
load_policy -i
restorecon -R /dev /run
# Where runs are made from plain folders these have what a worker gives to the root that it mounts.
chcon system_u:object_r:seatrial_run_file_t:s0 /tmp
# What was started before there was a policy is in a domain that may execute nothing.
enter="runcon system_u:system_r:unconfined_t:s0 $enter"
export ENFORCE=1
# The longest one of runc's is here, where there is less to do.
checks='tests/vm/inside/selinux.py tests/vm/inside/rootless.py tests/hostile/runs/test_groups.py tests/vm/inside/swap.py
  tests/integration/sandbox/runtimes/test_contract.py -k not(runc)or(killed)'
