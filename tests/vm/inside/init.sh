# shellcheck shell=sh
# The first process of the machine, once its drives are there. Its end is the end of the machine: a panic.
exec </dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CI=true
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/pts /dev/shm /dev/mqueue
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 -o nsdelegate,memory_recursiveprot none /sys/fs/cgroup
mount -t securityfs none /sys/kernel/security
mount -t bpf none /sys/fs/bpf
ip link set lo up
hostname vm
sysctl -q -w net.ipv4.ip_forward=1
stty -F /dev/ttyS1 raw 2>/dev/null

enter='sh tests/vm/inside/checks.sh'
mode=$(sed -E 's/.*seatrial\.mode=([a-z]+).*/\1/' /proc/cmdline)
# shellcheck disable=SC1090  # one of the modes
. "/cargo/tests/vm/inside/$mode.sh"
cd /cargo || exit 70
# shellcheck disable=SC2086,SC2154  # words of a command, names of files
exec $enter $checks
