/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rounds of memory before a live migration stands still: is another one worth it? By what the rounds so far took; without I/O. */
#ifndef VPS_RUNTIME_MIGRATE_PRECOPY_H
#define VPS_RUNTIME_MIGRATE_PRECOPY_H

#include <stdbool.h>
#include <stdint.h>

#define PRECOPY_DOWNTIME_MS 300 /* wanted when nobody says */

struct precopy_round {
	uint64_t bytes; /* written in it, by the driver */
	/* ns: it was begun, which is since when changes count for the next one; written down; on the other host's disk */
	uint64_t began, written, sent;
};

struct precopy {
	uint64_t downtime_us; /* wanted */
	bool mapped;	      /* who goes on from it maps it, and reads what is touched */
	unsigned n;	      /* rounds so far */
	struct precopy_round last, before;
	uint64_t total;	      /* of the first: no delta is more */
	uint64_t written;     /* in all; it lies on both disks */
	uint64_t restore_us;  /* all of it brought back: what writing it down took; 0 where it is mapped */
	uint64_t write_rate, send_rate; /* bytes a second, of the largest round */
	uint64_t largest;
	uint64_t predicted_us; /* the pause, if it stood still now */
};

/* After a round: another one? Not when the pause would be short enough, nor when rounds do not become smaller any more. */
bool precopy_go_on(struct precopy *p, const struct precopy_round *r);

#endif
