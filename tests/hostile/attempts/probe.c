/*
 * Tries, from inside a run, what an attacker would, and says for each attempt what stopped it.
 *
 *   probe attempts NAME=VALUE...   one line each: attempt, errno by name or "open"
 *   probe walk                     numbers of the system calls that can be reached: native, x32, int80
 *
 * Every attempt and every call has a child of its own with a time limit; what would win does no harm: a switch
 * is opened and not written, a setting is set to what it is.
 */
#define _GNU_SOURCE
#include "probe.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_CALL 480
#define KILLED (-1000)
#define SILENT (-2000)
#define X32_BIT 0x40000000L

static char **facts;

const char *fact(const char *name)
{
	size_t length = strlen(name);
	for (char **one = facts; *one; one++)
		if (!strncmp(*one, name, length) && (*one)[length] == '=')
			return *one + length + 1;
	return NULL;
}

/* What a child says, or KILLED - signal, or SILENT if it ended without a word. */
static int in_child(int (*call)(long), long argument, unsigned seconds)
{
	int pipes[2], status, result = SILENT;
	if (pipe(pipes))
		return SILENT;
	pid_t child = fork();
	if (child == 0) {
		pid_t self = getpid();
		setpgid(0, 0);
		alarm(seconds);
		prctl(PR_SET_DUMPABLE, 1);
		close(pipes[0]);
		int answer = call(argument);
		/* A fork or clone that went through comes here twice. */
		if (syscall(SYS_getpid) == self && write(pipes[1], &answer, sizeof answer) < 0)
			_exit(1);
		_exit(0);
	}
	close(pipes[1]);
	ssize_t got = read(pipes[0], &result, sizeof result);
	close(pipes[0]);
	if (child > 0) {
		waitpid(child, &status, 0);
		kill(-child, SIGKILL);
		if (got != sizeof result)
			result = WIFSIGNALED(status) ? KILLED - WTERMSIG(status) : SILENT;
	}
	while (waitpid(-1, &status, WNOHANG) > 0)
		;
	return result;
}

static const struct entry *current;

static int try_one(long unused)
{
	(void)unused;
	return current->call();
}

static void try_all(const struct entry *list)
{
	for (current = list; current->name; current++) {
		int result = in_child(try_one, 0, 30);
		const char *name;
		if (result == 0)
			name = "open";
		else if (result == KILLED - SIGSYS)
			name = "SIGSYS";
		else if (result <= KILLED && result > SILENT)
			name = result == KILLED - SIGALRM ? "timeout" : sigabbrev_np(KILLED - result);
		else if (result == SILENT)
			name = "silent";
		else
			name = strerrorname_np(result);
		printf("%s\t%s\n", current->name, name ? name : "unknown");
	}
}

/* Calls whose plain arguments would be refused as unknown, or that are allowed for some arguments only. */
static long plain_call(long number)
{
	switch (number) {
	case SYS_futex:
		return syscall(number, NULL, 1, 1, NULL, NULL, 0);
	case SYS_clone:
		return syscall(number, SIGCHLD, 0, 0, 0, 0);
	case SYS_socket:
	case SYS_socketpair:
		return syscall(number, AF_UNIX, SOCK_STREAM, 0, -1);
	case SYS_getsockopt:
	case SYS_setsockopt:
		return syscall(number, -1, SOL_SOCKET, SO_TYPE, NULL, NULL);
#ifdef SYS_mknod
	case SYS_mknod:
		return syscall(number, NULL, S_IFREG, 0);
#endif
	case SYS_mknodat:
		return syscall(number, -1, NULL, S_IFREG, 0);
	case SYS_personality:
		return syscall(number, 0xffffffffL);
	default:
		return syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);
	}
}

static int reach_native(long number)
{
	errno = 0;
	return plain_call(number) == -1 ? errno : 0;
}

#ifdef __x86_64__
static int reach_x32(long number)
{
	errno = 0;
	return syscall(number | X32_BIT, -1L, -1L, -1L, -1L, -1L, -1L) == -1 ? errno : 0;
}

static int reach_int80(long number)
{
	long result;
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(-1L), "c"(-1L), "d"(-1L), "S"(-1L), "D"(-1L)
			 : "memory", "r8", "r9", "r10", "r11");
	return result < 0 ? (int)-result : 0;
}
#endif

static void walk(const char *name, int (*reach)(long))
{
	printf("%s", name);
	for (long number = 0; number < LAST_CALL; number++) {
		int result = in_child(reach, number, 1);
		if (result != ENOSYS && result != KILLED - SIGSYS)
			printf(" %ld", number);
	}
	printf("\n");
}

int main(int count, char **arguments)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (count < 2)
		return 64;
	facts = arguments + 2;
	if (!strcmp(arguments[1], "attempts")) {
		/* Last what would change the mounts of all, where it is not stopped. */
		try_all(ATTEMPTS_FILES);
		try_all(ATTEMPTS_KERNEL);
	} else if (!strcmp(arguments[1], "walk")) {
		walk("native", reach_native);
#ifdef __x86_64__
		walk("x32", reach_x32);
		walk("int80", reach_int80);
#endif
	} else if (!strcmp(arguments[1], "root")) {
		/* What a setuid or capable copy of this program is started to say. */
		return geteuid() == 0 ? 0 : EPERM;
	} else {
		return 64;
	}
	printf("done\n");
	return 0;
}
