// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/handover.h"

#include <string.h>

static const char *const phase_names[HO_PHASES] = {
	[HO_NONE] = "none",
	[HO_HERE] = "here",
	[HO_COPYING] = "copying",
	[HO_FROZEN] = "frozen",
	[HO_COMMITTED] = "committed",
	[HO_GONE] = "gone",
	[HO_RECEIVING] = "receiving",
	[HO_PREPARED] = "prepared",
	[HO_ARRIVED] = "arrived",
};

/* Where a side is: what ho_next says next. */
enum at {
	AT_END,
	/* source */
	S_SAVE_COPYING,
	S_HELLO,
	S_STATE,
	S_BEGIN,
	S_COPY,
	S_SAVE_FROZEN,
	S_FREEZE,
	S_REST,
	S_PREPARE,
	S_PREPARED,
	S_SAVE_COMMITTED,
	S_COMMIT,
	S_RUNNING,
	S_SAVE_GONE,
	S_FINISH,
	S_BYE,
	S_UNDO, /* COMMITTED may be on the disk or not: FROZEN is to be there for certain */
	S_THAW,
	S_SAVE_HERE,
	S_ABORT,
	S_CLONE_THAW,
	S_CLONE_HERE,
	/* destination */
	D_HELLO,
	D_LATE_RELEASE, /* of a receiver that was killed at it */
	D_LATE_HERE,
	D_STATE,
	D_FIRST,
	D_DISCARD_OLD,
	D_SAVE_RECEIVING,
	D_DATA,
	D_PREPARE,
	D_SAVE_PREPARED,
	D_PREPARED,
	D_COMMIT,
	D_SAVE_ARRIVED,
	D_RELEASE,
	D_RUNNING,
	D_SAVE_HERE,
	D_BYE,
	D_FAILED,
	D_PARK,
	D_DISCARD,
	D_SAVE_NONE,
};

const char *ho_phase_name(enum ho_phase p)
{
	return p < HO_PHASES ? phase_names[p] : "unknown";
}

int ho_phase_parse(const char *s)
{
	for (int i = 0; i < HO_PHASES; i++)
		if (strcmp(s, phase_names[i]) == 0)
			return i;
	return -1;
}

bool ho_may_run(enum ho_phase p)
{
	return p == HO_HERE || p == HO_COPYING || p == HO_FROZEN || p == HO_ARRIVED;
}

bool ho_wants_recovery(enum ho_phase p)
{
	return p == HO_COPYING || p == HO_FROZEN || p == HO_GONE || p == HO_ARRIVED;
}

/* ---- beginnings ---------------------------------------------------------------------- */

void ho_source(struct handover *h, const struct ho_record *rec, uint64_t id, bool clone)
{
	*h = (struct handover){.rec = *rec, .clone = clone, .at = S_SAVE_COPYING};
	if (rec->phase == HO_COMMITTED)
		h->at = S_HELLO;
	else
		h->rec.id = id;
}

void ho_recover(struct handover *h, const struct ho_record *rec)
{
	*h = (struct handover){.rec = *rec, .at = AT_END};
	if (rec->phase == HO_FROZEN)
		h->at = S_THAW;
	else if (rec->phase == HO_COPYING)
		h->at = S_SAVE_HERE;
	else if (rec->phase == HO_GONE)
		h->at = S_FINISH;
	else if (rec->phase == HO_ARRIVED)
		h->at = D_LATE_RELEASE;
	else
		h->end = HO_END_DONE;
}

void ho_dest(struct handover *h, const struct ho_record *rec)
{
	*h = (struct handover){.rec = *rec, .at = D_HELLO};
}

/* ---- what is to be done ---------------------------------------------------------------- */

static enum ho_act save(struct handover *h, enum ho_phase phase, uint64_t epoch)
{
	h->want = (struct ho_record){.phase = phase, .epoch = epoch, .id = h->rec.id};
	return HO_ACT_SAVE;
}

static enum ho_act say(struct handover *h, enum ho_word word)
{
	h->out = (struct ho_msg){.word = word, .id = h->rec.id, .epoch = h->rec.epoch, .phase = h->rec.phase};
	return HO_ACT_SEND;
}

/* What the destination tells of itself: a VPS that was here under this epoch or a later one has arrived, whatever
 * became of it then. */
static enum ho_phase state_for(const struct ho_record *rec, const struct ho_msg *hello)
{
	switch (rec->phase) {
	case HO_NONE:
	case HO_RECEIVING:
		return rec->phase;
	case HO_PREPARED:
		if (hello->phase == HO_COMMITTED)
			return rec->id == hello->id ? HO_PREPARED : HO_NONE;
		/* prepared for an epoch that is not to come any more, or by a later owner */
		return hello->epoch >= rec->epoch ? HO_PREPARED : HO_HERE;
	default:
		if (hello->phase == HO_COMMITTED && rec->epoch < hello->epoch)
			return HO_NONE;
		return HO_HERE;
	}
}

static enum ho_act source_next(struct handover *h)
{
	const struct ho_record *rec = &h->rec;

	switch (h->at) {
	case S_SAVE_COPYING: return save(h, HO_COPYING, rec->epoch);
	case S_HELLO:
		say(h, HO_MSG_HELLO);
		if (rec->phase == HO_COPYING)
			h->out.epoch++;
		return HO_ACT_SEND;
	case S_BEGIN: return say(h, HO_MSG_BEGIN);
	case S_COPY: return HO_ACT_COPY;
	case S_SAVE_FROZEN: return save(h, HO_FROZEN, rec->epoch);
	case S_FREEZE: return HO_ACT_FREEZE;
	case S_REST: return HO_ACT_REST;
	case S_PREPARE: return say(h, HO_MSG_PREPARE);
	case S_SAVE_COMMITTED: return save(h, HO_COMMITTED, rec->epoch + 1);
	case S_COMMIT: return say(h, HO_MSG_COMMIT);
	case S_SAVE_GONE: return save(h, HO_GONE, rec->epoch);
	case S_FINISH: return HO_ACT_FINISH;
	case S_BYE: return say(h, HO_MSG_BYE);
	case S_UNDO: return save(h, HO_FROZEN, rec->epoch);
	case S_THAW:
	case S_CLONE_THAW: return HO_ACT_THAW;
	case S_SAVE_HERE:
	case S_CLONE_HERE: return save(h, HO_HERE, rec->epoch);
	case S_ABORT: return say(h, HO_MSG_ABORT);
	default: return HO_ACT_HEAR;
	}
}

static enum ho_act dest_next(struct handover *h)
{
	const struct ho_record *rec = &h->rec;

	switch (h->at) {
	case D_STATE: /* out was made when the hello was heard */
		return HO_ACT_SEND;
	case D_DISCARD_OLD:
	case D_DISCARD: return HO_ACT_DISCARD;
	case D_SAVE_RECEIVING: /* want was made when begin was heard */
		return HO_ACT_SAVE;
	case D_PREPARE: return HO_ACT_PREPARE;
	case D_SAVE_PREPARED: return save(h, HO_PREPARED, rec->epoch);
	case D_PREPARED: return say(h, HO_MSG_PREPARED);
	case D_SAVE_ARRIVED: return save(h, HO_ARRIVED, rec->epoch);
	case D_RELEASE:
	case D_LATE_RELEASE: return HO_ACT_RELEASE;
	case D_RUNNING:
		say(h, HO_MSG_RUNNING);
		h->out.phase = h->failed ? HO_ARRIVED : HO_HERE;
		return HO_ACT_SEND;
	case D_SAVE_HERE:
	case D_LATE_HERE: return save(h, HO_HERE, rec->epoch);
	case D_FAILED: return say(h, HO_MSG_FAILED);
	case D_PARK: return HO_ACT_PARK;
	case D_SAVE_NONE: return save(h, HO_NONE, 0);
	default: return HO_ACT_HEAR;
	}
}

enum ho_act ho_next(struct handover *h)
{
	if (h->at == AT_END)
		return HO_ACT_END;
	return h->at < D_HELLO ? source_next(h) : dest_next(h);
}

/* ---- what came of it ------------------------------------------------------------------- */

static void end(struct handover *h, enum ho_end why)
{
	h->at = AT_END;
	h->end = why;
}

/* Before COMMITTED: back to where it was. */
static void give_up(struct handover *h, enum ho_end why)
{
	h->end = why;
	h->at = h->rec.phase == HO_FROZEN ? S_THAW : S_SAVE_HERE;
}

static void source_done(struct handover *h)
{
	switch (h->at) {
	case S_SAVE_COPYING: h->at = S_HELLO; break;
	case S_HELLO: h->at = S_STATE; break;
	case S_BEGIN: h->at = S_COPY; break;
	case S_COPY: h->at = S_SAVE_FROZEN; break;
	case S_SAVE_FROZEN: h->at = S_FREEZE; break;
	case S_FREEZE: h->at = S_REST; break;
	case S_REST: h->at = S_PREPARE; break;
	case S_PREPARE: h->at = S_PREPARED; break;
	case S_SAVE_COMMITTED: h->at = S_COMMIT; break;
	case S_COMMIT: h->at = S_RUNNING; break;
	case S_SAVE_GONE: h->at = S_FINISH; break;
	case S_FINISH: h->at = S_BYE; break;
	case S_UNDO: give_up(h, HO_END_ABORTED); break;
	case S_THAW: h->at = S_SAVE_HERE; break;
	case S_SAVE_HERE: h->at = S_ABORT; break;
	case S_CLONE_THAW: h->at = S_CLONE_HERE; break;
	case S_CLONE_HERE: h->at = S_COMMIT; break;
	case S_BYE: end(h, HO_END_DONE); break;
	default: end(h, h->end ? h->end : HO_END_ABORTED); break; /* S_ABORT */
	}
}

static void source_failed(struct handover *h)
{
	switch (h->at) {
	case S_SAVE_COMMITTED: h->at = S_UNDO; break;
	case S_COMMIT:
		end(h, h->clone ? HO_END_ABORTED : HO_END_UNDECIDED);
		break;
	case S_HELLO:
		if (h->rec.phase == HO_COMMITTED)
			end(h, HO_END_UNDECIDED);
		else
			give_up(h, HO_END_ABORTED);
		break;
	case S_SAVE_FROZEN: /* it may be on the disk: a thaw more does no harm */
		h->rec.phase = HO_FROZEN;
		give_up(h, HO_END_ABORTED);
		break;
	case S_SAVE_COPYING:
	case S_BEGIN:
	case S_COPY:
	case S_FREEZE:
	case S_REST:
	case S_PREPARE: give_up(h, HO_END_ABORTED); break;
	case S_SAVE_GONE:  /* COMMITTED is as good: another connection ends it */
	case S_FINISH: end(h, HO_END_STUCK); break;
	case S_BYE: end(h, HO_END_DONE); break;
	case S_ABORT: end(h, h->end ? h->end : HO_END_ABORTED); break;
	default: end(h, HO_END_STUCK); break; /* S_UNDO, S_THAW, S_SAVE_HERE and a clone's */
	}
}

/* That it was let go is written, or not: then it will be once more. Is there a connection that waits? */
static void late_end(struct handover *h)
{
	if (h->at == D_LATE_HERE && h->out.word == HO_MSG_STATE)
		h->at = D_STATE;
	else
		end(h, HO_END_DONE);
}

static void dest_done(struct handover *h)
{
	switch (h->at) {
	case D_STATE: h->at = D_FIRST; break;
	case D_DISCARD_OLD: h->at = D_SAVE_RECEIVING; break;
	case D_SAVE_RECEIVING: h->at = D_DATA; break;
	case D_PREPARE: h->at = D_SAVE_PREPARED; break;
	case D_SAVE_PREPARED: h->at = D_PREPARED; break;
	case D_PREPARED: h->at = D_COMMIT; break;
	case D_SAVE_ARRIVED: h->at = D_RELEASE; break;
	case D_RELEASE: h->at = D_RUNNING; break;
	case D_RUNNING: h->at = D_SAVE_HERE; break;
	case D_SAVE_HERE: h->at = D_BYE; break;
	case D_LATE_RELEASE: h->at = D_LATE_HERE; break;
	case D_LATE_HERE: late_end(h); break;
	case D_DISCARD: h->at = D_SAVE_NONE; break;
	case D_PARK: end(h, HO_END_UNDECIDED); break;
	default: end(h, HO_END_ABORTED); break; /* D_FAILED, D_SAVE_NONE */
	}
}

static void dest_failed(struct handover *h)
{
	switch (h->at) {
	case D_PREPARED: h->at = D_PARK; break;
	/* It is ours all the same, which is what the source wants to know: whoever mends the reason starts it. */
	case D_RELEASE:
		h->failed = true;
		h->at = D_RUNNING;
		break;
	case D_LATE_RELEASE:
		h->failed = true;
		h->at = D_LATE_HERE;
		break;
	case D_RUNNING: h->at = D_SAVE_HERE; break;
	case D_SAVE_HERE:
	case D_LATE_HERE: late_end(h); break;
	/* It may be on the disk, so nothing may be said: after another connection the record tells. */
	case D_SAVE_PREPARED:
	case D_SAVE_ARRIVED:
	case D_PARK: end(h, HO_END_UNDECIDED); break;
	case D_STATE:
	case D_FAILED:
	case D_DISCARD:
	case D_SAVE_NONE: end(h, HO_END_ABORTED); break;
	default: h->at = D_FAILED; break; /* D_DISCARD_OLD, D_SAVE_RECEIVING, D_PREPARE */
	}
}

void ho_done(struct handover *h, bool ok)
{
	if (ok && ho_next(h) == HO_ACT_SAVE)
		h->rec = h->want;
	if (h->at < D_HELLO)
		(ok ? source_done : source_failed)(h);
	else
		(ok ? dest_done : dest_failed)(h);
}

/* ---- what is heard ------------------------------------------------------------------------ */

static void source_state(struct handover *h, enum ho_phase theirs)
{
	if (h->rec.phase != HO_COMMITTED) {
		if (theirs == HO_HERE)
			give_up(h, HO_END_REFUSED);
		else
			h->at = S_BEGIN;
	} else if (theirs == HO_PREPARED) {
		h->at = S_COMMIT;
	} else if (theirs == HO_HERE) {
		h->at = S_SAVE_GONE;
	} else {
		end(h, HO_END_UNKNOWN);
	}
}

static void source_heard(struct handover *h, const struct ho_msg *m)
{
	if (h->at == S_STATE && m->word == HO_MSG_STATE && m->phase < HO_PHASES)
		source_state(h, m->phase);
	else if (h->at == S_PREPARED && m->word == HO_MSG_PREPARED)
		h->at = h->clone ? S_CLONE_THAW : S_SAVE_COMMITTED;
	else if (h->at == S_RUNNING && m->word == HO_MSG_RUNNING)
		h->at = h->clone ? S_BYE : S_SAVE_GONE;
	else if (m->word != HO_MSG_STATE && m->word != HO_MSG_PREPARED) /* said twice: no matter */
		ho_lost(h);
}

static void dest_heard(struct handover *h, const struct ho_msg *m)
{
	const struct ho_record *rec = &h->rec;

	if (h->at == D_HELLO && m->word == HO_MSG_HELLO) {
		h->out = (struct ho_msg){
			.word = HO_MSG_STATE, .phase = state_for(rec, m), .epoch = rec->epoch, .id = m->id};
		h->want = (struct ho_record){.phase = HO_RECEIVING, .epoch = m->epoch, .id = m->id};
		h->at = rec->phase == HO_ARRIVED ? D_LATE_RELEASE : D_STATE;
	} else if (h->at == D_FIRST && m->word == HO_MSG_BEGIN && m->id == h->want.id && h->out.phase != HO_HERE) {
		h->at = rec->phase == HO_PREPARED ? D_DISCARD_OLD : D_SAVE_RECEIVING;
	} else if (h->at == D_DATA && m->word == HO_MSG_PREPARE && m->id == rec->id) {
		h->at = D_PREPARE;
	} else if ((h->at == D_COMMIT || h->at == D_FIRST) && m->word == HO_MSG_COMMIT &&
		   rec->phase == HO_PREPARED && m->id == rec->id) {
		h->at = D_SAVE_ARRIVED;
	} else if ((h->at == D_COMMIT || h->at == D_DATA) && m->word == HO_MSG_ABORT && m->id == rec->id) {
		h->at = D_DISCARD;
	} else if (h->at == D_BYE && m->word == HO_MSG_COMMIT) {
		h->at = D_RUNNING;
	} else if (h->at == D_BYE && m->word == HO_MSG_BYE) {
		end(h, HO_END_DONE);
	} else if (m->word != HO_MSG_HELLO && m->word != HO_MSG_BEGIN && m->word != HO_MSG_PREPARE) {
		ho_lost(h);
	}
}

void ho_heard(struct handover *h, const struct ho_msg *m)
{
	if (h->at < D_HELLO)
		source_heard(h, m);
	else
		dest_heard(h, m);
}

void ho_lost(struct handover *h)
{
	switch (h->at) {
	case S_STATE:
		if (h->rec.phase == HO_COMMITTED)
			end(h, HO_END_UNDECIDED);
		else
			give_up(h, HO_END_ABORTED);
		break;
	case S_PREPARED: give_up(h, HO_END_ABORTED); break;
	case S_RUNNING: end(h, h->clone ? HO_END_ABORTED : HO_END_UNDECIDED); break;
	case D_BYE: end(h, HO_END_DONE); break;
	case D_COMMIT: h->at = D_PARK; break;
	case D_FIRST:
	case D_HELLO:
		end(h, h->rec.phase == HO_PREPARED ? HO_END_UNDECIDED : HO_END_ABORTED);
		break;
	default: end(h, HO_END_ABORTED); break; /* D_DATA: what came may serve the next time */
	}
}

void ho_failed(struct handover *h)
{
	if (h->at == D_DATA)
		h->at = D_FAILED;
	else
		ho_lost(h);
}

bool ho_abort(struct handover *h)
{
	if (h->at >= D_HELLO || h->at == AT_END || h->at == S_SAVE_GONE || h->at == S_FINISH || h->at == S_BYE ||
	    h->rec.phase == HO_COMMITTED || h->rec.phase == HO_GONE)
		return false;
	if (h->at < S_SAVE_COMMITTED)
		give_up(h, HO_END_ABORTED);
	return h->at >= S_UNDO;
}
