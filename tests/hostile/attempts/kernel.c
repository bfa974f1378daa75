/* Attempts that are system calls: mounts, namespaces, sockets, other processes, the kernel's own objects. */
#define _GNU_SOURCE
#include "probe.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define SAY(call) ((call) == -1 ? errno : 0)
/* For a call that checks the right first and then refuses what it was given: `refusal` means it got through. */
#define PAST(call, refusal) ((call) == -1 ? (errno == (refusal) ? 0 : errno) : 0)
#define ATTEMPT(name, ...) static int name(void) { __VA_ARGS__ }

/* --- mounts --- */
ATTEMPT(mount_tmpfs, return SAY(mount("none", "/mnt", "tmpfs", 0, NULL));)
ATTEMPT(mount_proc, return SAY(mount("none", "/mnt", "proc", 0, NULL));)
ATTEMPT(mount_cgroup, return SAY(mount("none", "/mnt", "cgroup2", 0, NULL));)
ATTEMPT(mount_bind, return SAY(mount("/proc/sys", "/mnt", NULL, MS_BIND, NULL));)
ATTEMPT(remount_proc_sys, return SAY(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));)
ATTEMPT(mount_overlay, return SAY(mount("none", "/mnt", "overlay", 0, "lowerdir=/bin:/etc"));)
ATTEMPT(unmask, return SAY(umount2("/proc/kallsyms", MNT_DETACH));)
ATTEMPT(new_mount_api, return SAY(syscall(SYS_fsopen, "tmpfs", 0));)
ATTEMPT(clone_tree, return SAY(syscall(SYS_open_tree, AT_FDCWD, "/", 1));)
ATTEMPT(set_mount_attributes,
	unsigned long long attr[4] = {0};
	return SAY(syscall(442 /* mount_setattr */, AT_FDCWD, "/proc/sys", 0, attr, sizeof attr));)
ATTEMPT(pick_mount, return SAY(syscall(SYS_fspick, AT_FDCWD, "/", 0));)
ATTEMPT(move_mount_, return PAST(syscall(SYS_move_mount, -1, "", -1, "", 4), EBADF);)
ATTEMPT(pivot_root_, return PAST(syscall(SYS_pivot_root, "/none", "/none"), ENOENT);)
ATTEMPT(chroot_, return SAY(chroot("/mnt"));)

/* --- namespaces --- */
static int unshare_(int flag)
{
	return SAY(unshare(flag));
}
static int clone_(int flag)
{
	long child = syscall(SYS_clone, (long)(flag | SIGCHLD), 0, 0, 0, 0);
	if (child == 0)
		_exit(0);
	return SAY(child);
}
#define NAMESPACE(name, flag)                             \
	ATTEMPT(unshare_##name, return unshare_(flag);)   \
	ATTEMPT(clone_##name, return clone_(flag);)
NAMESPACE(user, CLONE_NEWUSER)
NAMESPACE(mount, CLONE_NEWNS)
NAMESPACE(pid, CLONE_NEWPID)
NAMESPACE(network, CLONE_NEWNET)
NAMESPACE(ipc, CLONE_NEWIPC)
NAMESPACE(uts, CLONE_NEWUTS)
NAMESPACE(cgroup, CLONE_NEWCGROUP)
ATTEMPT(unshare_time, return unshare_(CLONE_NEWTIME);)
ATTEMPT(clone3_user,
	unsigned long long args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
	long child = syscall(SYS_clone3, args, sizeof args);
	if (child == 0)
		_exit(0);
	return SAY(child);)
ATTEMPT(setns_, int fd = open("/proc/self/ns/uts", O_RDONLY); return SAY(setns(fd, 0));)

/* --- sockets --- */
static int socket_(int family, int type, int protocol)
{
	return SAY(socket(family, type, protocol));
}
ATTEMPT(raw_socket, return socket_(AF_INET, SOCK_RAW, IPPROTO_ICMP);)
ATTEMPT(raw_socket6, return socket_(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);)
ATTEMPT(packet_socket, return socket_(AF_PACKET, SOCK_RAW, 0);)
ATTEMPT(old_packet_socket, return socket_(AF_INET, SOCK_PACKET, 0);)
ATTEMPT(vsock, return socket_(40, SOCK_STREAM, 0);)
ATTEMPT(alg_socket, return socket_(38, SOCK_SEQPACKET, 0);)
ATTEMPT(key_socket, return socket_(15, SOCK_RAW, 2);)
ATTEMPT(xdp_socket, return socket_(44, SOCK_RAW, 0);)
ATTEMPT(netlink_netfilter, return socket_(AF_NETLINK, SOCK_RAW, 12);)
ATTEMPT(netlink_xfrm, return socket_(AF_NETLINK, SOCK_RAW, 6);)
ATTEMPT(netlink_audit, return socket_(AF_NETLINK, SOCK_RAW, 9);)
ATTEMPT(netlink_uevent, return socket_(AF_NETLINK, SOCK_RAW, 15);)
ATTEMPT(module_by_protocol, return PAST(socket(AF_INET, SOCK_STREAM, 132 /* SCTP */), EPROTONOSUPPORT);)
ATTEMPT(module_by_family, return PAST(socket(29 /* CAN */, SOCK_RAW, 1), EPROTONOSUPPORT);)
ATTEMPT(pair_of_another_family, int both[2]; return PAST(socketpair(30 /* TIPC */, SOCK_STREAM, 0, both), EAFNOSUPPORT);)
ATTEMPT(high_bits_in_family, return SAY(syscall(SYS_socket, 0x100000011L, SOCK_RAW, 0));)

/* --- network --- */
static int reach(const char *address, const char *port)
{
	if (!port)
		return ENODATA;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	inet_pton(AF_INET, address, &to.sin_addr);
	return SAY(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&to, sizeof to));
}
ATTEMPT(metadata_address, return reach("169.254.169.254", fact("port"));)
ATTEMPT(host_loopback, return reach("127.0.0.1", fact("port"));)
ATTEMPT(host_address, return reach("192.0.2.1", fact("port"));)
ATTEMPT(datagram_out,
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
	inet_pton(AF_INET, "192.0.2.2", &to.sin_addr);
	return SAY(connect(socket(AF_INET, SOCK_DGRAM, 0), (void *)&to, sizeof to));)
ATTEMPT(abstract_socket,
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	if (!fact("abstract"))
		return ENODATA;
	strncpy(to.sun_path + 1, fact("abstract"), sizeof to.sun_path - 2);
	return SAY(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&to,
			   offsetof(struct sockaddr_un, sun_path) + 1 + strlen(fact("abstract"))));)
ATTEMPT(interface_flags,
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = {.ifr_name = "hostif"};
	if (ioctl(fd, SIOCGIFFLAGS, &request))
		return errno;
	return SAY(ioctl(fd, SIOCSIFFLAGS, &request));)
ATTEMPT(old_netfilter,
	char info[128] = "filter"; socklen_t size = 84;
	return PAST(getsockopt(socket(AF_INET, SOCK_DGRAM, 0), 0, 64 /* IPT_SO_GET_INFO */, info, &size), ENOPROTOOPT);)

/* --- other processes --- */
ATTEMPT(ptrace_first, return SAY(ptrace(PTRACE_SEIZE, 1, 0, 0));)
static pid_t sibling(void)
{
	pid_t child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	return child;
}
ATTEMPT(ptrace_sibling, return SAY(ptrace(PTRACE_SEIZE, sibling(), 0, 0));)
static char byte = 1;
ATTEMPT(read_memory,
	char out; struct iovec here = {&out, 1}, there = {&byte, 1};
	return SAY(process_vm_readv(sibling(), &here, 1, &there, 1, 0));)
ATTEMPT(write_memory,
	struct iovec here = {&byte, 1}, there = {&byte, 1};
	return SAY(process_vm_writev(sibling(), &here, 1, &there, 1, 0));)
ATTEMPT(compare_objects, return SAY(syscall(SYS_kcmp, getpid(), sibling(), 0, 0, 0));)
ATTEMPT(steal_descriptor,
	int pidfd = syscall(SYS_pidfd_open, sibling(), 0);
	return pidfd < 0 ? errno : SAY(syscall(438 /* pidfd_getfd */, pidfd, 0, 0));)
ATTEMPT(signal_host, return fact("pid") ? SAY(kill(atoi(fact("pid")), 0)) : ENODATA;)
ATTEMPT(host_shared_memory, return fact("shm") ? SAY(shmget(atoi(fact("shm")), 1, 0600)) : ENODATA;)
ATTEMPT(host_priority, return fact("pid") ? SAY(setpriority(PRIO_PROCESS, atoi(fact("pid")), 1)) : ENODATA;)

/* --- objects of the kernel --- */
ATTEMPT(bpf_map, unsigned attr[32] = {2, 4, 4, 1}; return SAY(syscall(SYS_bpf, 0, attr, sizeof attr));)
ATTEMPT(perf_events,
	unsigned attr[32] = {1, sizeof attr};
	return PAST(syscall(SYS_perf_event_open, attr, 0, -1, -1, 0), ENOENT);)
ATTEMPT(keyring, return SAY(syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3, 1));)
ATTEMPT(add_a_key, return SAY(syscall(SYS_add_key, "user", "seatrial", "x", 1, -2));)
ATTEMPT(request_a_key, return PAST(syscall(SYS_request_key, "user", "seatrial-none", NULL, 0), ENOKEY);)
ATTEMPT(io_uring, char params[120] = {0}; return SAY(syscall(SYS_io_uring_setup, 1, params));)
ATTEMPT(asynchronous_io, unsigned long context = 0; return SAY(syscall(SYS_io_setup, 1, &context));)
ATTEMPT(userfaultfd_, return SAY(syscall(SYS_userfaultfd, 0));)
ATTEMPT(userfaultfd_user_mode, return SAY(syscall(SYS_userfaultfd, 1));)
ATTEMPT(name_to_handle, int handle[34] = {128}, id; return SAY(syscall(SYS_name_to_handle_at, AT_FDCWD, "/", handle, &id, 0));)
ATTEMPT(open_by_handle,
	int handle[4] = {8, 1, 2, 0};
	return PAST(syscall(SYS_open_by_handle_at, open("/", O_RDONLY), handle, 0), ESTALE);)
ATTEMPT(quota, return PAST(syscall(SYS_quotactl, 0x80000400 /* Q_GETFMT */, "/none", 0, NULL), ENOENT);)
ATTEMPT(personality_, return SAY(personality(ADDR_NO_RANDOMIZE));)
ATTEMPT(message_queue, return SAY(syscall(SYS_msgget, 0, 01600));)
ATTEMPT(kernel_log, return SAY(syscall(SYS_syslog, 10 /* SIZE_BUFFER */, NULL, 0));)
ATTEMPT(gift_pages, struct iovec one = {&byte, 1}; int both[2]; if (pipe(both)) return errno; return SAY(vmsplice(both[1], &one, 1, 8));)
ATTEMPT(flush_host, return PAST(syscall(SYS_syncfs, -1), EBADF);)
ATTEMPT(own_filter, return PAST(syscall(SYS_seccomp, 1 /* FILTER */, 8 /* NEW_LISTENER */, NULL), EFAULT);)
ATTEMPT(fanotify, return SAY(syscall(SYS_fanotify_init, 0x200, 0));)
ATTEMPT(memory_policy, return SAY(syscall(SYS_set_mempolicy, 0, NULL, 0));)
ATTEMPT(page_cache, unsigned char state; return PAST(mincore((void *)0x1000, 1, &state), ENOMEM);)

/* --- what the kernel keeps for a run and counts to nobody --- */
ATTEMPT(huge_pages_mapped,
	/* Not reserved: it succeeds though the host has set none aside. */
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_HUGETLB;
	return mmap(NULL, 1 << 21, PROT_READ, flags, -1, 0) == MAP_FAILED ? errno : 0;)
ATTEMPT(huge_pages_of_a_file, return SAY(memfd_create("huge", MFD_HUGETLB));)
ATTEMPT(huge_pages_shared, return SAY(shmget(IPC_PRIVATE, 1 << 21, SHM_HUGETLB | SHM_NORESERVE | 0600));)
ATTEMPT(key_of_a_peer,
	struct tcp_md5sig key = {.tcpm_keylen = 8};
	struct sockaddr_in *peer = (void *)&key.tcpm_addr;
	peer->sin_family = AF_INET;
	return SAY(setsockopt(socket(AF_INET, SOCK_STREAM, 0), IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key));)
ATTEMPT(filter_of_a_socket,
	struct sock_filter all = {.code = BPF_RET | BPF_K, .k = 0xffff};
	struct sock_fprog program = {1, &all};
	return SAY(setsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));)

/* --- the host as a whole --- */
ATTEMPT(reboot_, return PAST(syscall(SYS_reboot, 0, 0, 0, 0), EINVAL);)
ATTEMPT(swap_on, return PAST(syscall(SYS_swapon, "/none", 0), ENOENT);)
ATTEMPT(swap_off, return PAST(syscall(SYS_swapoff, "/none"), ENOENT);)
ATTEMPT(accounting, return PAST(acct("/none"), ENOENT);)
ATTEMPT(load_kernel, return PAST(syscall(SYS_kexec_load, 0, 0, NULL, 1), EINVAL);)
ATTEMPT(load_module, return PAST(syscall(SYS_init_module, NULL, 0, ""), ENOEXEC);)
ATTEMPT(load_module_file, return PAST(syscall(SYS_finit_module, -1, "", 0), EBADF);)
ATTEMPT(unload_module, return PAST(syscall(SYS_delete_module, "seatrial_none", 0), ENOENT);)
ATTEMPT(host_name, return SAY(sethostname("trial", 5));)
ATTEMPT(domain_name, return SAY(setdomainname("(none)", 6));)
ATTEMPT(set_clock, struct timespec now; clock_gettime(CLOCK_REALTIME, &now); return SAY(clock_settime(CLOCK_REALTIME, &now));)
ATTEMPT(adjust_clock,
	struct timex zero = {.modes = 0};
	if (adjtimex(&zero) == -1)
		return errno;
	zero.modes = ADJ_FREQUENCY;
	return SAY(adjtimex(&zero));)
ATTEMPT(hang_up, return SAY(vhangup());)
#ifdef __x86_64__
ATTEMPT(io_ports, return SAY(syscall(SYS_ioperm, 0x80, 1, 1));)
ATTEMPT(local_descriptors, char table[16]; return SAY(syscall(SYS_modify_ldt, 0, table, sizeof table));)
ATTEMPT(int80,
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
	return result < 0 ? (int)-result : 0;)
ATTEMPT(x32, return SAY(syscall(SYS_getpid | 0x40000000));)
#endif

/* --- limits and privileges of the process itself --- */
ATTEMPT(raise_limit,
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_max++;
	return SAY(setrlimit(RLIMIT_NOFILE, &limit));)
ATTEMPT(be_preferred, return SAY(setpriority(PRIO_PROCESS, 0, -20));)
ATTEMPT(real_time, struct sched_param one = {1}; return SAY(sched_setscheduler(0, SCHED_FIFO, &one));)
ATTEMPT(own_capabilities,
	unsigned header[2] = {0x20080522, 0}, data[6];
	memset(data, 0xff, sizeof data);
	data[2] = data[5] = 0;
	return SAY(syscall(SYS_capset, header, data));)

#define ROW(name, call) {name, call}
const struct entry ATTEMPTS_KERNEL[] = {
	ROW("mount: tmpfs", mount_tmpfs), ROW("mount: proc", mount_proc), ROW("mount: cgroup", mount_cgroup),
	ROW("mount: bind", mount_bind), ROW("mount: make /proc/sys writable", remount_proc_sys),
	ROW("mount: overlay", mount_overlay), ROW("umount: what masks /proc/kallsyms", unmask),
	ROW("fsopen", new_mount_api), ROW("open_tree: copy of the root", clone_tree),
	ROW("mount_setattr", set_mount_attributes), ROW("fspick", pick_mount), ROW("move_mount", move_mount_),
	ROW("pivot_root", pivot_root_), ROW("chroot", chroot_),
	ROW("unshare: user", unshare_user), ROW("unshare: mount", unshare_mount), ROW("unshare: pid", unshare_pid),
	ROW("unshare: network", unshare_network), ROW("unshare: ipc", unshare_ipc), ROW("unshare: uts", unshare_uts),
	ROW("unshare: cgroup", unshare_cgroup), ROW("unshare: time", unshare_time),
	ROW("clone: user", clone_user), ROW("clone: mount", clone_mount), ROW("clone: pid", clone_pid),
	ROW("clone: network", clone_network), ROW("clone: ipc", clone_ipc), ROW("clone: uts", clone_uts),
	ROW("clone: cgroup", clone_cgroup), ROW("clone3: user", clone3_user), ROW("setns", setns_),
	ROW("socket: raw", raw_socket), ROW("socket: raw, IPv6", raw_socket6), ROW("socket: packet", packet_socket),
	ROW("socket: packet of old", old_packet_socket), ROW("socket: vsock", vsock), ROW("socket: alg", alg_socket),
	ROW("socket: key", key_socket), ROW("socket: xdp", xdp_socket),
	ROW("netlink: netfilter", netlink_netfilter), ROW("netlink: xfrm", netlink_xfrm),
	ROW("netlink: audit", netlink_audit), ROW("netlink: uevent", netlink_uevent),
	ROW("socket: module by protocol (SCTP)", module_by_protocol),
	ROW("socket: module by family (CAN)", module_by_family),
	ROW("socketpair: TIPC", pair_of_another_family), ROW("socket: family in high bits", high_bits_in_family),
	ROW("connect: metadata address", metadata_address), ROW("connect: host's loopback", host_loopback),
	ROW("connect: host's address", host_address), ROW("connect: datagrams to others", datagram_out),
	ROW("connect: host's abstract socket", abstract_socket), ROW("ioctl: flags of a host's interface", interface_flags),
	ROW("getsockopt: old netfilter", old_netfilter),
	ROW("ptrace: first process", ptrace_first), ROW("ptrace: sibling", ptrace_sibling),
	ROW("process_vm_readv", read_memory), ROW("process_vm_writev", write_memory), ROW("kcmp", compare_objects),
	ROW("pidfd_getfd", steal_descriptor), ROW("kill: process of the host", signal_host),
	ROW("setpriority: process of the host", host_priority), ROW("shmget: memory of the host", host_shared_memory),
	ROW("bpf", bpf_map), ROW("perf_event_open", perf_events), ROW("keyctl", keyring), ROW("add_key", add_a_key),
	ROW("request_key", request_a_key), ROW("io_uring", io_uring), ROW("io_setup", asynchronous_io),
	ROW("userfaultfd", userfaultfd_), ROW("userfaultfd: user mode", userfaultfd_user_mode),
	ROW("name_to_handle_at", name_to_handle), ROW("open_by_handle_at", open_by_handle), ROW("quotactl", quota),
	ROW("personality", personality_), ROW("msgget", message_queue), ROW("syslog", kernel_log),
	ROW("vmsplice", gift_pages), ROW("syncfs", flush_host), ROW("seccomp: listener", own_filter),
	ROW("fanotify_init", fanotify), ROW("set_mempolicy", memory_policy), ROW("mincore", page_cache),
	ROW("mmap: huge pages", huge_pages_mapped), ROW("memfd_create: huge pages", huge_pages_of_a_file),
	ROW("shmget: huge pages", huge_pages_shared), ROW("setsockopt: key of TCP", key_of_a_peer),
	ROW("setsockopt: filter", filter_of_a_socket),
	ROW("reboot", reboot_), ROW("swapon", swap_on), ROW("swapoff", swap_off), ROW("acct", accounting),
	ROW("kexec_load", load_kernel), ROW("init_module", load_module), ROW("finit_module", load_module_file),
	ROW("delete_module", unload_module), ROW("sethostname", host_name), ROW("setdomainname", domain_name),
	ROW("clock_settime", set_clock), ROW("adjtimex", adjust_clock), ROW("vhangup", hang_up),
#ifdef __x86_64__
	ROW("ioperm", io_ports), ROW("modify_ldt", local_descriptors), ROW("int80", int80), ROW("x32", x32),
#endif
	ROW("setrlimit: above the hard limit", raise_limit), ROW("setpriority: -20", be_preferred),
	ROW("sched_setscheduler: real time", real_time), ROW("capset: all", own_capabilities),
	{NULL, NULL},
};
