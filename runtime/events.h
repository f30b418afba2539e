/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * <run>/events: what happened to whom, one JSON object a line, each one write(2) with O_APPEND of
 * at most 4 KiB (so that lines of racing writers never mix). At EVENTS_MAX the file becomes
 * events.1.
 *
 *   {"time":"2025-06-01T12:00:00.123Z","id":101,"name":"web1","event":"start"}
 *
 * No yajl here: the monitor writes events too.
 */
#ifndef VPS_RUNTIME_EVENTS_H
#define VPS_RUNTIME_EVENTS_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define EVENTS_FILE "events"
#define EVENTS_MAX  (1u << 20)

struct event_field {
	const char *key;
	const char *str; /* NULL: num */
	int64_t num;
};
/* Events there are: create start ready stop exit restart oom pause unpause set rename rebuild
 * delete suspend resume snapshot snapshot-delete snapshot-restore backup start-failed teardown-failed adopt lost.
 * id 0: of the host; name may be NULL. Long
 * strings are cut. 0 or -errno; a caller goes on when an event cannot be written. run_fd: the
 * host's run directory. */
int event_add(int run_fd, unsigned id, const char *name, const char *event,
	      const struct event_field *fields, size_t n);
/* The line without writing it, for tests: at most 4096 bytes with the newline. */
int event_format(uint64_t real_ns, unsigned id, const char *name, const char *event,
		 const struct event_field *fields, size_t n, struct strbuf *ret);

#endif
