/* What the attempts and their runner share. */
#ifndef PROBE_H
#define PROBE_H

/* 0: the attempt won something; else the errno that stopped it. */
typedef int attempt(void);

struct entry {
	const char *name;
	attempt *call;
};

/* What the harness says about the host, as NAME=VALUE arguments; NULL where it says nothing. */
const char *fact(const char *name);

extern const struct entry ATTEMPTS_KERNEL[], ATTEMPTS_FILES[];

#endif
