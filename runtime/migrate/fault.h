/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the schedules of the tests: something goes wrong at step N of one side. VPS_FAULT_MIGRATE="ROLE:WHAT:N", ROLE
 * source or destination, N counted from 1 over what handover.h asks for.
 */
#ifndef VPS_RUNTIME_MIGRATE_FAULT_H
#define VPS_RUNTIME_MIGRATE_FAULT_H

enum fault {
	FAULT_NONE,
	FAULT_KILL,	  /* SIGKILL before the step (done by fault_at) */
	FAULT_KILL_AFTER, /* after it, before anything comes of it */
	FAULT_CUT,	  /* the connection is gone from here on */
	FAULT_FULL,	  /* it fails, and nothing of it was done */
	FAULT_HALF,	  /* it fails, and was done all the same */
	FAULT_TWICE,	  /* a message comes twice */
};
enum fault fault_at(const char *role, unsigned step);
/* For FAULT_KILL_AFTER. */
void fault_kill(enum fault f);

#endif
