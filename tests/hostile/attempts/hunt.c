/*
 * Looks for tokens wherever a run can look: the environment, command line and memory of every process that it
 * sees, again and again while the runtime comes and goes; then every file, and all that the network tells: what
 * listens on any port or under any abstract name, and whoever comes to a port of its own. Prints each that it finds,
 * once.
 *
 * A token here is what an API token or a JSON web token looks like. The beginnings are never together in this
 * program's own memory.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (1 << 20)
#define OVERLAP 4096
#define LONGEST 2048
#define MOST_FOUND 64
#define MOST_OF_A_FILE (64L << 20)
#define OWN_PORT 8080

static char *found[MOST_FOUND];
static int count;
static long processes, files, bytes, ports, names, answers;

/* Whether `text` begins as "seatrial_", "seatrialrt_" or "eyJ". */
static int begins(const char *text)
{
	if (text[0] == 'e' && text[1] == 'y' && text[2] == 'J')
		return 1;
	if (text[0] != 's' || text[1] != 'e' || text[2] != 'a' || text[3] != 't' || text[4] != 'r' || text[5] != 'i' ||
	    text[6] != 'a' || text[7] != 'l')
		return 0;
	return text[8] == '_' || (text[8] == 'r' && text[9] == 't' && text[10] == '_');
}

static int in_token(char one)
{
	return isalnum((unsigned char)one) || one == '_' || one == '-' || one == '.';
}

static void search(const char *data, size_t size)
{
	bytes += size;
	for (size_t at = 0; at + 32 < size; at++) {
		if (!begins(data + at))
			continue;
		size_t length = 0;
		while (at + length < size && length < LONGEST && in_token(data[at + length]))
			length++;
		/* An API token has 58 characters and more; so have tokens of the web. */
		if (length < 50)
			continue;
		int known = 0;
		for (int i = 0; i < count; i++)
			known |= strlen(found[i]) == length && !memcmp(found[i], data + at, length);
		if (!known && count < MOST_FOUND) {
			found[count++] = strndup(data + at, length);
			printf("found %s\n", found[count - 1]);
		}
		at += length;
	}
}

static void search_descriptor(int fd, off_t from, off_t to)
{
	static char chunk[CHUNK + OVERLAP];
	size_t kept = 0;
	for (off_t at = from; at < to;) {
		size_t wanted = to - at < CHUNK ? (size_t)(to - at) : CHUNK;
		ssize_t got = pread(fd, chunk + kept, wanted, at);
		if (got <= 0)
			break;
		search(chunk, kept + got);
		at += got;
		kept = kept + got < OVERLAP ? kept + got : OVERLAP;
		memmove(chunk, chunk + (got + kept > CHUNK + OVERLAP ? CHUNK : (size_t)got), kept);
	}
	memset(chunk, 0, sizeof chunk);
}

static void search_file(const char *path, off_t most)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
	if (fd < 0)
		return;
	search_descriptor(fd, 0, most);
	close(fd);
	files++;
}

/* Of another process everything; of this one all but the heap, where what was found is kept. */
static void search_memory(const char *pid)
{
	char path[64], line[512];
	unsigned long from, to;
	int own = atoi(pid) == getpid();
	snprintf(path, sizeof path, "/proc/%s/mem", pid);
	int memory = open(path, O_RDONLY);
	snprintf(path, sizeof path, "/proc/%s/maps", pid);
	FILE *maps = fopen(path, "r");
	while (maps && memory >= 0 && fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx r", &from, &to) == 2 && to - from < (256UL << 20) &&
		    !(own && (strstr(line, "[heap]") || strstr(line, "rw-p 00000000 00:00 0"))))
			search_descriptor(memory, from, to);
	if (maps)
		fclose(maps);
	close(memory);
}

static void search_processes(void)
{
	char path[300];
	struct dirent *entry;
	DIR *folder = opendir("/proc");
	while (folder && (entry = readdir(folder))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		processes++;
		const char *told[] = {"environ",  "cmdline", "status",  "mountinfo", "cgroup",   "limits",    "net/unix",
				      "net/tcp", "net/tcp6", "net/udp", "net/udp6", "net/route", "net/packet"};
		for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
			snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, told[i]);
			search_file(path, CHUNK);
		}
		search_memory(entry->d_name);
	}
	if (folder)
		closedir(folder);
}

/* Processes were looked at already, and they go while they are walked. */
static int visit(const char *path, const struct stat *state, int kind, struct FTW *unused)
{
	(void)unused;
	if (!strncmp(path, "/proc/", 6) && (isdigit((unsigned char)path[6]) || strstr(path + 6, "self")))
		return kind == FTW_D ? FTW_SKIP_SUBTREE : FTW_CONTINUE;
	if (kind == FTW_F && S_ISREG(state->st_mode))
		search_file(path, state->st_size && state->st_size < MOST_OF_A_FILE ? state->st_size : CHUNK);
	return FTW_CONTINUE;
}

static void be_patient(int fd)
{
	struct timeval patience = {2, 0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

/* What one says who is asked, or who came. */
static size_t listen_to(int fd, char *said, size_t room)
{
	size_t size = 0;
	ssize_t got;
	while (size < room && (got = recv(fd, said + size, room - size, 0)) > 0) {
		size += got;
		if (memmem(said, size, "\r\n\r\n", 4))
			break;
	}
	search(said, size);
	return size;
}

static void ask(int fd, const struct sockaddr *address, socklen_t size)
{
	static char said[1 << 16];
	/* Its own end: where the kernel picks the port that is asked, a socket reaches itself. */
	struct sockaddr_storage own = {0};
	socklen_t room = sizeof own;
	be_patient(fd);
	if (!connect(fd, address, size) && !getsockname(fd, (struct sockaddr *)&own, &room) &&
	    (address->sa_family != AF_INET || memcmp(&own, address, size))) {
		answers++;
		send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL);
		listen_to(fd, said, sizeof said);
		memset(said, 0, sizeof said);
	}
	close(fd);
}

static void search_network(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	for (long port = 1; port < 65536; port++, ports++) {
		at.sin_port = htons(port);
		ask(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&at, sizeof at);
	}
	char line[512];
	FILE *sockets = fopen("/proc/net/unix", "r");
	for (; sockets && fgets(line, sizeof line, sockets); names++) {
		struct sockaddr_un by = {.sun_family = AF_UNIX};
		char *name = strchr(line, '@');
		if (!name)
			continue;
		size_t length = strcspn(name + 1, "\n");
		length = length < sizeof by.sun_path - 1 ? length : sizeof by.sun_path - 1;
		memcpy(by.sun_path + 1, name + 1, length);
		ask(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&by,
		    offsetof(struct sockaddr_un, sun_path) + 1 + length);
	}
	if (sockets)
		fclose(sockets);
}

/* In a process of its own: the worker looks at a port of the run, and brings what it brings. */
static void wait_for_visitors(void)
{
	static char said[1 << 16];
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(OWN_PORT)};
	int visitor, door = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 16))
		exit(1);
	if (fork())
		return;
	while ((visitor = accept(door, NULL, NULL)) >= 0) {
		be_patient(visitor);
		size_t size = listen_to(visitor, said, sizeof said);
		if (memmem(said, size, "User-Agent: seatrial", 20))
			printf("visited\n");
		send(visitor, "HTTP/1.0 200 OK\r\n\r\n", 19, MSG_NOSIGNAL);
		close(visitor);
		memset(said, 0, sizeof said);
	}
	exit(1);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	wait_for_visitors();
	for (time_t end = time(NULL) + 2; time(NULL) < end;)
		search_processes();
	if (nftw("/", visit, 32, FTW_PHYS | FTW_ACTIONRETVAL))
		return 1;
	search_network();
	printf("looked at %ld processes, %ld files, %ld bytes, %ld ports, %ld lines of sockets; %ld answered\n", processes,
	       files, bytes, ports, names, answers);
	close(open("/tmp/looked", O_CREAT | O_WRONLY, 0600));
	pause();
}
