/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stream of bytes to or from a child of ours that works on it. */
#ifndef VPS_RUNTIME_MIGRATE_FEEDER_H
#define VPS_RUNTIME_MIGRATE_FEEDER_H

#include <sys/types.h>

#include "base/digest.h"
#include "base/err.h"

struct feeder {
	pid_t pid; /* -1: none */
	int data;  /* to be read or written */
	int report;
};
#define FEEDER_INIT { -1, -1, -1 }
struct feeder_report {
	struct vps_err err;
	char digest[DIGEST_LEN];
};
/* fn in a child, with its end of the line; r < 0 and err are told. It dies with us. */
int feeder_start(int (*fn)(void *arg, int fd, struct feeder_report *r), void *arg, struct feeder *ret,
		 struct vps_err *err);
/* -EPIPE: it does not read on; feeder_end tells why. */
int feeder_write(struct feeder *f, const void *data, size_t len);
/* No more bytes, in either direction; its result. ret may be NULL. */
int feeder_end(struct feeder *f, struct feeder_report *ret, struct vps_err *err);
void feeder_kill(struct feeder *f);

#endif
