/*
 * Has the kernel hold as much as it will for sockets that nobody reads.
 *
 *   hold datagrams   prints how many bytes were there to read after all, and ends
 *   hold netlink     fills until it is ended
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKETS 480

static int roomy(int family, int type)
{
	int fd = socket(family, type, 0), most = 1 << 24;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &most, sizeof most);
	return fd;
}

static int datagrams(void)
{
	static char data[60000];
	int to[SOCKETS], from = socket(AF_INET, SOCK_DGRAM, 0);
	long held = 0;
	for (int i = 0; i < SOCKETS; i++) {
		struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t size = sizeof own;
		to[i] = roomy(AF_INET, SOCK_DGRAM);
		if (bind(to[i], (void *)&own, size) || getsockname(to[i], (void *)&own, &size))
			return 1;
		for (int n = 0; n < 8; n++)
			sendto(from, data, sizeof data, MSG_DONTWAIT, (void *)&own, size);
	}
	for (int i = 0; i < SOCKETS; i++)
		for (ssize_t got; (got = recv(to[i], data, sizeof data, MSG_DONTWAIT)) > 0;)
			held += got;
	printf("held %ld\n", held);
	return 0;
}

static int netlink(void)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg what;
	} ask = {{sizeof ask, RTM_GETLINK, NLM_F_REQUEST, 1, 0}, {.ifi_index = 1}};
	for (int i = 0; i < SOCKETS; i++) {
		int fd = roomy(AF_NETLINK, SOCK_RAW);
		for (int n = 0; n < 400; n++)
			send(fd, &ask, sizeof ask, MSG_DONTWAIT);
	}
	return pause();
}

int main(int count, char **arguments)
{
	return count > 1 && !strcmp(arguments[1], "netlink") ? netlink() : datagrams();
}
