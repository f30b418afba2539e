/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose a VPS is while it moves from one host to another: the hand-over, as a machine without any I/O. The
 * source's process and the destination's each drive one of these; so do the explorer of all interleavings and
 * the schedules of the tests (tests/unit/runtime_handover.c), so that what is proved is what runs.
 *
 *	source                                   destination
 *	COPYING    hello ------------------------>
 *	           <----------------------- state          what is there of it
 *	           begin, the files ------------->  RECEIVING
 *	FROZEN     it stands still; the rest, prepare -->
 *	           <-------------------- prepared  PREPARED   whole, on disk, its gate shut
 *	COMMITTED  (epoch + 1: never runs here again)
 *	           commit ----------------------->  ARRIVED    the gate opens
 *	           <--------------------- running
 *	GONE       bye -------------------------->  HERE
 *
 * Each word in capitals is on the disk, synced, before the next message leaves. Up to COMMITTED the VPS is the
 * source's, and whoever finds the record of a dead process lets it go on there. From COMMITTED on it is the
 * destination's, and only a further connection (or the operator, by force) decides anything. A destination that is
 * PREPARED and loses its source waits: it cannot know.
 *
 * I4, never two running and never none recoverable, rests on three things: the source's record decides; the
 * destination holds its lock from the first word of a connection to its end, so that nothing old of another connection
 * acts in between; and nothing of a PREPARED destination is thrown away but by a source that has heard, on
 * this connection, that it is there, and says begin all the same.
 */
#ifndef VPS_RUNTIME_MIGRATE_HANDOVER_H
#define VPS_RUNTIME_MIGRATE_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

enum ho_phase {
	HO_NONE,      /* no such VPS on this host */
	HO_HERE,      /* this host's alone; the record of a VPS that never moved */
	HO_COPYING,   /* source */
	HO_FROZEN,
	HO_COMMITTED,
	HO_GONE,
	HO_RECEIVING, /* destination */
	HO_PREPARED,
	HO_ARRIVED,   /* this host's, and to be let go on, should its receiver be dead */
};
#define HO_PHASES (HO_ARRIVED + 1)

/* What is durable, beside the VPS. */
struct ho_record {
	enum ho_phase phase;
	uint64_t epoch; /* how often it was handed over; of RECEIVING and PREPARED: what it will be */
	uint64_t id;	/* of this migration */
};
/* May the VPS be started on a host with this record? */
bool ho_may_run(enum ho_phase p);
/* Did a process that is dead leave something to be undone or ended here, without asking anybody? */
bool ho_wants_recovery(enum ho_phase p);

enum ho_word {
	HO_MSG_HELLO = 1, /* phase: the source's, COPYING or COMMITTED; epoch: what it will be */
	HO_MSG_STATE,	  /* phase: what the destination has, for this source: NONE, RECEIVING, PREPARED, HERE */
	HO_MSG_BEGIN,
	HO_MSG_PREPARE,
	HO_MSG_PREPARED,
	HO_MSG_COMMIT,
	HO_MSG_RUNNING,	  /* phase: HERE, or ARRIVED: it is the destination's, but did not start */
	HO_MSG_ABORT,
	HO_MSG_FAILED,
	HO_MSG_BYE,
};
#define HO_WORDS (HO_MSG_BYE + 1)
struct ho_msg {
	enum ho_word word;
	enum ho_phase phase;
	uint64_t epoch, id;
};

/* What a side has to do now. Each ends with ho_done, but for HEAR. */
enum ho_act {
	HO_ACT_END,	/* nothing more; why: ho_end */
	HO_ACT_SAVE,	/* make h->want durable (HO_NONE: remove the record). false only when it may or may not be */
	HO_ACT_SEND,	/* h->out; false: the connection is gone */
	HO_ACT_HEAR,	/* a message, to ho_heard; end of the connection, a deadline, an interruption: ho_lost */
	/* source */
	HO_ACT_COPY,	/* what can be copied while it runs */
	HO_ACT_FREEZE,	/* freeze or stop it */
	HO_ACT_REST,	/* what has changed since */
	HO_ACT_THAW,	/* let it go on, whether or not it was frozen */
	HO_ACT_FINISH,	/* away with what is here, unless it is to be kept */
	/* destination */
	HO_ACT_PREPARE, /* all there? Name, addresses, disk in place; its gate stays shut */
	HO_ACT_DISCARD, /* what was prepared is worth nothing */
	HO_ACT_RELEASE, /* open the gate */
	HO_ACT_PARK,	/* nothing runs; what is on the disk stays for another connection */
};

enum ho_end {
	HO_END_NOT_YET,
	HO_END_DONE,	    /* handed over, or taken over */
	HO_END_ABORTED,	    /* source: it goes on here. destination: nothing has come of it */
	HO_END_UNDECIDED,   /* source: COMMITTED, not acknowledged. destination: PREPARED, the source is gone */
	HO_END_STUCK,	    /* source: a record could not be written or it could not go on; the next command tries again */
	HO_END_UNKNOWN,	    /* source: COMMITTED, and the destination knows nothing of it */
	HO_END_REFUSED,	    /* the destination has a newer one, or one of its own */
};

struct handover {
	struct ho_record rec; /* as durable, as far as is known */
	struct ho_record want;
	struct ho_msg out;
	int at;		      /* handover.c's own */
	bool failed;	      /* destination: it is ours, but did not start */
	bool clone;	      /* a copy under another identity: the source goes on and nothing is handed over */
	enum ho_end end;
};

/* A new migration of a VPS that is HERE (id: a random number), or, with a COMMITTED record, its end. */
void ho_source(struct handover *h, const struct ho_record *rec, uint64_t id, bool clone);
/* Without a connection: what ho_wants_recovery found. */
void ho_recover(struct handover *h, const struct ho_record *rec);
/* One connection; rec: what this host has of the VPS that the hello names, read under the lock. It is known once
 * the hello is heard: call ho_dest, then ho_heard. */
void ho_dest(struct handover *h, const struct ho_record *rec);

enum ho_act ho_next(struct handover *h);
void ho_done(struct handover *h, bool ok);
void ho_heard(struct handover *h, const struct ho_msg *m);
void ho_lost(struct handover *h);
/* Destination, instead of ho_heard: what came between the messages could not be taken. */
void ho_failed(struct handover *h);
/* The operator wants it undone. Before COMMITTED it will be; false: it is too late. */
bool ho_abort(struct handover *h);

const char *ho_phase_name(enum ho_phase p);
/* -1: no such name */
int ho_phase_parse(const char *s);

#endif
