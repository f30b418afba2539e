/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A running machine's memory, copied in rounds (vmm/rounds.h) by a thread of its own, so that neither CPUs nor devices
 * wait for the disk that it goes to. What changed in between comes from two sides: KVM's log for the guest's own writes,
 * and gmem_wrote for ours. Both are taken part by part, before that part is copied: what is written to meanwhile is in the
 * next round.
 */
#ifndef VPS_VMM_PRECOPY_H
#define VPS_VMM_PRECOPY_H

#include "vmm/api.h"
#include "vmm/loop.h"
#include "vmm/rounds.h"

struct machine;

enum precopy_job { PRECOPY_NOTHING, PRECOPY_ROUND, PRECOPY_OFF, PRECOPY_QUIT };

struct precopy {
	struct machine *m;
	struct loop_source done; /* eventfd: the thread is through */
	pthread_t thread;
	bool started, filtered;

	/* The main thread's. */
	void *who;   /* waits for the answer; NULL: nobody */
	bool active; /* between the first round and the end of PRECOPY_OFF */
	bool ending;
	unsigned rounds; /* finished */
	uint64_t sum;	 /* of them, as rounds_check has it */
	uint64_t session;
	uint64_t *log, *dirty; /* our bitmap; KVM's */
	struct round_out out;

	/* The thread's. */
	bool on; /* KVM's log */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	enum precopy_job job; /* PRECOPY_NOTHING: it is idle */
	bool stop;	      /* give up the round at hand */
	int result;
	struct vps_err err;
};

/* Begins the thread; who in m->ctl hears of rounds. 0 or -errno. */
int precopy_init(struct precopy *p, struct machine *m, bool filtered);
void precopy_done(struct precopy *p);
/*
 * In the loop's thread. A round into fd (of snapshot_check_target, ours from here on success); ctl_precopied tells who of
 * its end. number: 1, or one more than the last. -EBUSY: a round is at work, or somebody else's pre-copy. -VPS_ESTATE.
 */
int precopy_round(struct precopy *p, uint64_t number, int fd, void *who, struct vps_err *err);
/* The last one, of a paused machine; returns when it is done. fd stays the caller's. */
int precopy_last(struct precopy *p, uint64_t number, int fd, struct vps_err *err);
/* No more of it: what runs is given up, nobody hears of it, the tracking ends soon. */
void precopy_end(struct precopy *p);

#endif
