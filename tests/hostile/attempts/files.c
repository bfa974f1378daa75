/* Attempts that open files: devices, settings of the kernel, what leaks, what is not the run's. */
#define _GNU_SOURCE
#include "probe.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(call) ((call) == -1 ? errno : 0)
#define ATTEMPT(name, ...) static int name(void) { __VA_ARGS__ }
/* Opened and not written: to open is to win. */
#define WRITES(name, path) ATTEMPT(name, return SAY(open(path, O_WRONLY | O_NOCTTY));)
#define READS(name, path) ATTEMPT(name, return first_byte(path);)

/* A masked file opens and is empty; a masked folder has nothing in it. */
static int first_byte(const char *path)
{
	char byte;
	struct dirent *entry;
	DIR *folder = opendir(path);
	if (folder) {
		while ((entry = readdir(folder)))
			if (entry->d_name[0] != '.')
				return 0;
		return ENODATA;
	}
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return errno;
	ssize_t got = read(fd, &byte, 1);
	return got == 1 ? 0 : got == 0 ? ENODATA : errno;
}

/* --- devices --- */
static int node(mode_t kind, int major, int minor)
{
	unlink("/tmp/node");
	return SAY(mknod("/tmp/node", kind | 0600, makedev(major, minor)));
}
ATTEMPT(make_mem, return node(S_IFCHR, 1, 1);)
ATTEMPT(make_kvm, return node(S_IFCHR, 10, 232);)
ATTEMPT(make_loop, return node(S_IFBLK, 7, 0);)
ATTEMPT(make_fifo_device, return SAY(mknodat(AT_FDCWD, "/tmp/node2", S_IFBLK | 0600, makedev(8, 0)));)
ATTEMPT(image_kmsg, return SAY(open("/nodes/kmsg", O_RDONLY | O_NONBLOCK));)
ATTEMPT(image_loop, return SAY(open("/nodes/loop-control", O_RDWR));)
ATTEMPT(image_dev_kmsg, return SAY(open("/dev/kmsg", O_RDONLY | O_NONBLOCK));)
ATTEMPT(dev_mem, return SAY(open("/dev/mem", O_RDWR));)
ATTEMPT(dev_kvm, return SAY(open("/dev/kvm", O_RDWR));)
ATTEMPT(dev_fuse, return SAY(open("/dev/fuse", O_RDWR));)
ATTEMPT(dev_tun, return SAY(open("/dev/net/tun", O_RDWR));)
ATTEMPT(dev_disk, return SAY(open("/dev/vda", O_RDONLY));)
ATTEMPT(image_null,
	/* The image has /dev/null as a link to a file of its own: what masks files must not be its choice. */
	struct stat state;
	if (stat("/dev/null", &state))
		return errno;
	return S_ISCHR(state.st_mode) ? EEXIST : 0;)
static int type_into(int fd)
{
	char byte = 'x';
	return SAY(ioctl(fd, TIOCSTI, &byte));
}
ATTEMPT(type_into_input, return type_into(0);)
ATTEMPT(type_into_terminal, int fd = open("/dev/tty", O_RDWR); return fd < 0 ? errno : type_into(fd);)

/* --- settings of the kernel --- */
WRITES(core_pattern, "/proc/sys/kernel/core_pattern")
WRITES(modprobe, "/proc/sys/kernel/modprobe")
WRITES(overcommit, "/proc/sys/vm/overcommit_memory")
WRITES(drop_caches, "/proc/sys/vm/drop_caches")
WRITES(domain, "/proc/sys/kernel/domainname")
WRITES(forwarding, "/proc/sys/net/ipv4/ip_forward")
WRITES(binary_formats, "/proc/sys/fs/binfmt_misc/register")
WRITES(sysrq, "/proc/sysrq-trigger")
WRITES(interrupts_where, "/proc/irq/default_smp_affinity")
WRITES(uevent_helper, "/sys/kernel/uevent_helper")
WRITES(power, "/sys/power/state")
WRITES(processor, "/sys/devices/system/cpu/cpu1/online")
WRITES(huge_pages, "/sys/kernel/mm/transparent_hugepage/enabled")
WRITES(memory_pressure, "/proc/pressure/memory")
WRITES(cgroup_members, "/sys/fs/cgroup/memory/cgroup.procs")
WRITES(cgroup_release, "/sys/fs/cgroup/memory/release_agent")
WRITES(cgroup_unified, "/sys/fs/cgroup/cgroup.procs")
ATTEMPT(cgroup_folder, return SAY(mkdir("/sys/fs/cgroup/trial", 0700));)
ATTEMPT(oom_score,
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);
	return fd < 0 ? errno : write(fd, "-1000", 5) == 5 ? 0 : errno;)
ATTEMPT(own_ids,
	int fd = open("/proc/self/uid_map", O_WRONLY);
	return fd < 0 ? errno : write(fd, "0 0 1", 5) == 5 ? 0 : errno;)

/* --- what leaks --- */
READS(kernel_memory, "/proc/kcore")
/* Without the right to see them addresses are zeros. */
ATTEMPT(kernel_symbols,
	char line[256]; FILE *file = fopen("/proc/kallsyms", "r");
	while (file && fgets(line, sizeof line, file))
		if (strtoull(line, NULL, 16))
			return 0;
	return file ? ENODATA : errno;)
/* Keys of users outside would have an owner that has no number here. */
ATTEMPT(key_list,
	char line[256]; FILE *file = fopen("/proc/keys", "r");
	while (file && fgets(line, sizeof line, file))
		if (strstr(line, " 65534 "))
			return 0;
	return file ? ENODATA : errno;)
READS(pressure, "/proc/pressure")
READS(timers, "/proc/timer_list")
READS(scheduler, "/proc/sched_debug")
READS(interrupts, "/proc/interrupts")
READS(command_line, "/proc/cmdline")
READS(kernel_config, "/proc/config.gz")
READS(acpi, "/proc/acpi")
READS(scsi, "/proc/scsi")
READS(firmware, "/sys/firmware")
READS(debug, "/sys/kernel")
READS(modules, "/sys/module")
READS(file_systems, "/sys/fs")
READS(energy, "/sys/devices/virtual/powercap")
READS(block_devices, "/sys/dev/block")
READS(kernel_pages, "/proc/kpagecount")
READS(slabs, "/proc/slabinfo")
READS(allocations, "/proc/vmallocinfo")

/* --- files and processes of the host --- */
ATTEMPT(climb, return fact("canary") ? first_byte(fact("canary")) : ENODATA;)
ATTEMPT(climb_dots,
	char path[4096] = "/proc/self/root";
	if (!fact("canary"))
		return ENODATA;
	for (int i = 0; i < 40; i++)
		strcat(path, "/..");
	return first_byte(strcat(path, fact("canary")));)
ATTEMPT(climb_first,
	char path[4096] = "/proc/1/cwd/../../../../../../../..";
	return fact("canary") ? first_byte(strcat(path, fact("canary"))) : ENODATA;)
ATTEMPT(left_open,
	/* Beside the standard streams only the runner's pipe to this child, of which it may not have closed the
	   other end yet: no file, no socket, no other pipe, nothing without a name. */
	char target[256], own[256] = ""; struct dirent *entry; DIR *folder = opendir("/proc/1/fd");
	if (!folder)
		return errno;
	while ((entry = readdir(folder))) {
		ssize_t size = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
		if (size <= 0)
			continue;
		target[size] = 0;
		if (target[0] == '/' && strcmp(target, "/dev/null"))
			return 0;
		if (atoi(entry->d_name) <= 2)
			continue;
		if (!*own && !strncmp(target, "pipe:", 5))
			strcpy(own, target);
		if (strcmp(target, own))
			return 0;
	}
	return ENOENT;)
ATTEMPT(host_process,
	char path[64];
	snprintf(path, sizeof path, "/proc/%s/status", fact("pid") ? fact("pid") : "none");
	return first_byte(path);)
ATTEMPT(host_environment,
	char path[64];
	snprintf(path, sizeof path, "/proc/%s/environ", fact("pid") ? fact("pid") : "none");
	return first_byte(path);)
ATTEMPT(runtime_program,
	/* The program that made the run, if it or a descriptor of it is still somewhere. */
	char path[64], target[256]; struct dirent *entry; DIR *folder = opendir("/proc");
	while ((entry = readdir(folder))) {
		snprintf(path, sizeof path, "/proc/%.20s/exe", entry->d_name);
		ssize_t size = readlink(path, target, sizeof target - 1);
		if (size <= 0)
			continue;
		target[size] = 0;
		if (!strstr(target, "/probe") && open(path, O_WRONLY) >= 0)
			return 0;
	}
	return ENOENT;)

/* --- programs that would give rights --- */
static int as_user(const char *program)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		if (setgid(12) || setuid(12))
			_exit(errno);
		execl(program, program, "root", NULL);
		_exit(errno);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}
ATTEMPT(setuid_program, return as_user("/nodes/setuid");)

#define ROW(name, call) {name, call}
const struct entry ATTEMPTS_FILES[] = {
	ROW("mknod: mem", make_mem), ROW("mknod: kvm", make_kvm), ROW("mknod: loop", make_loop),
	ROW("mknodat: disk", make_fifo_device), ROW("open: kmsg node of the image", image_kmsg),
	ROW("open: loop-control node of the image", image_loop),
	ROW("open: kmsg in the image's /dev", image_dev_kmsg), ROW("open: /dev/mem", dev_mem),
	ROW("open: /dev/kvm", dev_kvm), ROW("open: /dev/fuse", dev_fuse), ROW("open: /dev/net/tun", dev_tun),
	ROW("open: disk of the host", dev_disk), ROW("/dev/null by the image", image_null),
	ROW("TIOCSTI: standard input", type_into_input), ROW("TIOCSTI: terminal", type_into_terminal),
	ROW("write: core_pattern", core_pattern), ROW("write: modprobe", modprobe),
	ROW("write: overcommit_memory", overcommit), ROW("write: drop_caches", drop_caches),
	ROW("write: domainname", domain), ROW("write: ip_forward", forwarding),
	ROW("write: binfmt_misc", binary_formats),
	ROW("write: sysrq-trigger", sysrq), ROW("write: interrupt affinity", interrupts_where),
	ROW("write: uevent_helper", uevent_helper), ROW("write: power state", power),
	ROW("write: processor offline", processor), ROW("write: huge pages", huge_pages),
	ROW("write: pressure trigger", memory_pressure),
	ROW("write: cgroup.procs", cgroup_members), ROW("write: release_agent", cgroup_release),
	ROW("write: cgroup.procs, unified", cgroup_unified), ROW("mkdir: cgroup", cgroup_folder),
	ROW("write: oom_score_adj -1000", oom_score), ROW("write: own uid_map", own_ids),
	ROW("read: pressure of the host", pressure), ROW("read: kcore", kernel_memory), ROW("read: kallsyms", kernel_symbols), ROW("read: keys", key_list),
	ROW("read: timer_list", timers), ROW("read: sched_debug", scheduler), ROW("read: interrupts", interrupts),
	ROW("read: kernel's command line", command_line), ROW("read: config.gz", kernel_config),
	ROW("read: acpi", acpi), ROW("read: scsi", scsi), ROW("read: firmware", firmware),
	ROW("read: /sys/kernel", debug), ROW("read: modules", modules), ROW("read: /sys/fs", file_systems),
	ROW("read: powercap", energy), ROW("read: block devices", block_devices),
	ROW("read: kpagecount", kernel_pages), ROW("read: slabinfo", slabs), ROW("read: vmallocinfo", allocations),
	ROW("file of the host by its path", climb), ROW("file of the host by ..", climb_dots),
	ROW("file of the host by /proc/1/cwd", climb_first), ROW("descriptors left open", left_open),
	ROW("read: state of a process of the host", host_process),
	ROW("read: environment of a process of the host", host_environment),
	ROW("overwrite: the runtime", runtime_program),
	ROW("setuid program", setuid_program),
	{NULL, NULL},
};
