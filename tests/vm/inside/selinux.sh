# shellcheck shell=sh disable=SC2034  # read by init.sh
mount -t selinuxfs none /sys/fs/selinux
load_policy -i
# Where runs are made from plain folders these have what a worker gives to the root that it mounts.
mount -t tmpfs -o mode=1777,context=system_u:object_r:seatrial_run_file_t:s0 tmp /tmp
restorecon -R /dev /run
# What was started before there was a policy is in a domain that may execute nothing.
enter='runcon system_u:system_r:unconfined_t:s0'
export ENFORCE=1
checks='tests/vm/inside/selinux.py'
