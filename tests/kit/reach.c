/* Tries to reach something, from inside a run: reach WAY ADDRESS PORT [BYTES], any number of times.
   One line of output for each: what came back, or why nothing did. An answer has a second to come, or as many as
   PATIENCE in the environment says. */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static struct sockaddr_storage where;
static socklen_t where_size;
static char block[65536];

static int family_of(const char *address, const char *port) {
  struct sockaddr_in *four = (struct sockaddr_in *)&where;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)&where;
  memset(&where, 0, sizeof where);
  if (strchr(address, ':')) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(atoi(port));
    inet_pton(AF_INET6, address, &six->sin6_addr);
    where_size = sizeof *six;
    return AF_INET6;
  }
  four->sin_family = AF_INET;
  four->sin_port = htons(atoi(port));
  inet_pton(AF_INET, address, &four->sin_addr);
  where_size = sizeof *four;
  return AF_INET;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static const char *attempt(const char *way, int family, const char *port, long bytes) {
  static char said[200];
  double asked = now();
  const char *given = getenv("PATIENCE");
  struct timeval patience = {bytes ? 60 : given ? atoi(given) : 1, 0};
  int fd, flags = 0;
  ssize_t got;
  if (!strcmp(way, "raw"))
    fd = socket(family, SOCK_RAW, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
  else if (!strcmp(way, "ping"))
    fd = socket(family, SOCK_DGRAM, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
  else if (!strcmp(way, "packet"))
    fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  else if (!strcmp(way, "mptcp"))
    fd = socket(family, SOCK_STREAM, IPPROTO_MPTCP);
  else if (!strcmp(way, "udp") || !strcmp(way, "sendto") || !strcmp(way, "flood"))
    fd = socket(family, SOCK_DGRAM, 0);
  else
    fd = socket(family, SOCK_STREAM, 0);
  if (fd < 0) return strerror(errno);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (!strcmp(way, "sendto") || !strcmp(way, "flood") || !strcmp(way, "ping") || !strcmp(way, "raw") || !strcmp(way, "fastopen")) {
    if (!strcmp(way, "fastopen")) flags = MSG_FASTOPEN;
    got = sendto(fd, "\10\0\0\0\0\0\0\0", 8, flags, (struct sockaddr *)&where, where_size);
  } else {
    got = connect(fd, (struct sockaddr *)&where, where_size);
    if (got == 0 && !strcmp(way, "udp")) got = send(fd, "hello", 5, 0);
  }
  if (got < 0) goto failed;
  if (!strcmp(way, "down")) {
    double begun = 0;
    long first = 0, total = 0;
    while (total < bytes && (got = read(fd, block, sizeof block)) > 0) {
      total += got;
      /* What the queues let through at once says nothing about the rate. */
      if (!begun && total > bytes / 4) begun = now(), first = total;
    }
    snprintf(said, sizeof said, "%.0f bits per second", (total - first) * 8 / (now() - begun));
  } else if (!strcmp(way, "up")) {
    for (long total = 0; total < bytes; total += got)
      if ((got = write(fd, block, sizeof block)) < 0) goto failed;
    shutdown(fd, SHUT_WR);
    got = read(fd, said, sizeof said - 1);
    said[got > 0 ? got : 0] = 0;
  } else if (!strcmp(way, "flood")) {
    /* The connection of a socket that is gone stays in the tables of those that saw it. */
    snprintf(said, sizeof said, "sent");
  } else {
    got = recv(fd, said, sizeof said - 1, 0);
    if (got < 0) goto failed;
    said[got] = 0;
  }
  close(fd);
  said[strcspn(said, "\n")] = 0;
  /* Whoever reads late sees what waited come at once: from the first packet on it takes no less time for that. */
  if (bytes) snprintf(said + strlen(said), sizeof said - strlen(said), "; %.0f in all", bytes * 8 / (now() - asked));
  return said;
failed:
  got = errno;
  close(fd);
  return got == EAGAIN || got == EINPROGRESS ? "no answer" : strerror(got);
}

int main(int count, char **words) {
  for (int at = 1; at + 2 < count; at += 3) {
    long bytes = 0;
    int family = family_of(words[at + 1], words[at + 2]);
    if (!strcmp(words[at], "down") || !strcmp(words[at], "up")) bytes = atol(words[at + 3]);
    printf("%s %s %s: ", words[at], words[at + 1], words[at + 2]);
    printf("%s\n", attempt(words[at], family, words[at + 2], bytes));
    fflush(stdout);
    if (bytes) at++;
  }
  return 0;
}
