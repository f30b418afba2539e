// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The hand-over of a migration (runtime/migrate/handover.c), whole: every interleaving of two hosts, their processes and
 * the connection between them, with messages lost, repeated and cut, saves that fail with or without effect, either
 * side killed or rebooted before and after each step, connections whose receiver wakes up late, and operators
 * who start the VPS wherever it lets them. The code that is explored is the code that runs.
 *
 * In each state: never two running, never two hosts that may run it, and always one that can. From each state: left
 * in peace, one more command on the source ends it with the VPS on exactly one host, running if it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/migrate/handover.h"

enum vps { ABSENT, STOPPED, FROZEN, GATED, RUNNING };
enum kind { LIVE, NEAR, COLD }; /* frozen and thawed; stopped and started; not running at all */

#define QUEUE 6
struct queue {
	uint8_t n;
	bool eof; /* nothing more will come */
	struct ho_msg m[QUEUE];
};

struct world {
	struct ho_record srec, drec; /* what is on the disks */
	struct handover s, d;
	struct queue to_d, to_s;
	struct queue late;  /* a connection whose source is gone and whose receiver has not had the lock yet */
	uint8_t svps, dvps;
	bool was_running;   /* durable, with the record FROZEN */
	bool s_alive, d_alive, d_knows; /* d_knows: has heard a hello */
	bool pending;	    /* a connection waits for a receiver */
	bool late_there, broken, keep;
	bool excused;	    /* from running in the end: a host lost power, a start failed */
	uint8_t kind;
	uint8_t connects, faults; /* left */
	uint8_t next_id;
};

/* ---- every state once: open addressing over 128 bits of hash --------------------------- */

static struct key { uint64_t a, b; } *seen;
static size_t n_seen, cap_seen;

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

static struct key key_of(const struct world *w)
{
	const unsigned char *p = (const unsigned char *)w;
	struct key k = {1, 0x6a09e667f3bcc908ull};

	for (size_t i = 0; i < sizeof(*w); i += 8) {
		uint64_t v = 0;
		memcpy(&v, p + i, sizeof(*w) - i < 8 ? sizeof(*w) - i : 8);
		k.a = mix(k.a, v);
		k.b = mix(k.b, v + i);
	}
	k.a |= 1;
	return k;
}

static bool place(struct key *table, size_t cap, struct key k)
{
	for (size_t i = k.b & (cap - 1);; i = (i + 1) & (cap - 1)) {
		if (!table[i].a) {
			table[i] = k;
			return true;
		}
		if (table[i].a == k.a && table[i].b == k.b)
			return false;
	}
}

static bool is_new(const struct world *w)
{
	if (n_seen * 4 >= cap_seen * 3) {
		size_t cap = cap_seen ? cap_seen * 2 : 1 << 16;
		struct key *t = calloc(cap, sizeof(*t));
		assert_non_null(t);
		for (size_t i = 0; i < cap_seen; i++)
			if (seen[i].a)
				place(t, cap, seen[i]);
		free(seen);
		seen = t;
		cap_seen = cap;
	}
	if (!place(seen, cap_seen, key_of(w)))
		return false;
	n_seen++;
	return true;
}

/* ---- the connection ------------------------------------------------------------------------ */

static void push(struct queue *q, const struct ho_msg *m)
{
	assert_true(q->n < QUEUE);
	q->m[q->n++] = *m;
}

static struct ho_msg pop(struct queue *q)
{
	struct ho_msg m = q->m[0];

	memmove(&q->m[0], &q->m[1], --q->n * sizeof(m));
	memset(&q->m[q->n], 0, sizeof(m));
	return m;
}

static void cut_to(struct queue *q, unsigned n)
{
	while (q->n > n)
		memset(&q->m[--q->n], 0, sizeof(q->m[0]));
	q->eof = true;
}

/* ---- two hosts -------------------------------------------------------------------------------- */

/* Volatile state goes with the process; so does what stands at the gate. */
static void s_dies(struct world *w)
{
	w->s_alive = false;
	memset(&w->s, 0, sizeof(w->s));
	memset(&w->to_s, 0, sizeof(w->to_s));
	w->to_d.eof = true;
}

static void d_dies(struct world *w)
{
	w->d_alive = w->d_knows = false;
	memset(&w->d, 0, sizeof(w->d));
	memset(&w->to_d, 0, sizeof(w->to_d));
	w->pending = false;
	w->to_s.eof = true;
	if (w->dvps == GATED)
		w->dvps = STOPPED;
}

static void save(struct ho_record *disk, const struct handover *h)
{
	*disk = h->want;
	if (disk->phase == HO_NONE || (disk->phase == HO_HERE && disk->epoch == 0))
		disk->id = 0;
}

static void s_freeze(struct world *w)
{
	if (w->svps == RUNNING)
		w->svps = w->kind == LIVE ? FROZEN : STOPPED;
}

static void s_thaw(struct world *w)
{
	if (w->was_running)
		w->svps = RUNNING;
}

static void s_finish(struct world *w)
{
	w->svps = w->keep ? STOPPED : ABSENT;
	if (!w->keep)
		w->srec = (struct ho_record){0};
}

static void d_release(struct world *w)
{
	w->dvps = w->was_running ? RUNNING : STOPPED;
}

static void print(const struct world *w, const char *why)
{
	print_message("%s: kind %d; source %s/%d vps %d %s at %d; destination %s/%d vps %d %s at %d; to_d %d to_s %d%s%s\n", why,
		      w->kind, ho_phase_name(w->srec.phase), (int)w->srec.epoch, w->svps, w->s_alive ? "up" : "dead",
		      w->s.at, ho_phase_name(w->drec.phase), (int)w->drec.epoch, w->dvps, w->d_alive ? "up" : "dead",
		      w->d.at, w->to_d.n, w->to_s.n, w->broken ? " cut" : "", w->late_there ? " late" : "");
}

#define HOLDS(w, x, why)                \
	do {                            \
		if (!(x)) {             \
			print(w, why);  \
			fail_msg("%s", why); \
		}                       \
	} while (0)

/* ---- exploring ---------------------------------------------------------------------------------- */

static struct world *stack;
static size_t n_stack, cap_stack;
static uint64_t n_ends[HO_END_REFUSED + 1];

static void reach(const struct world *w)
{
	if (!is_new(w))
		return;
	if (n_stack == cap_stack) {
		cap_stack = cap_stack ? cap_stack * 2 : 1024;
		stack = realloc(stack, cap_stack * sizeof(*stack));
		assert_non_null(stack);
	}
	stack[n_stack++] = *w;
}

/* With a fault less. */
#define FAULT(w, x)                       \
	if ((w)->faults) {                \
		struct world x = *(w);    \
		x.faults--;
#define END_FAULT(x) \
		reach(&x); \
	}

static void s_effect(struct world *w, enum ho_act act)
{
	switch (act) {
	case HO_ACT_SAVE:
		if (w->s.want.phase == HO_FROZEN && w->srec.phase == HO_COPYING)
			w->was_running = w->svps == RUNNING;
		save(&w->srec, &w->s);
		break;
	case HO_ACT_SEND:
		if (!w->broken && !w->to_d.eof)
			push(&w->to_d, &w->s.out);
		break;
	case HO_ACT_FREEZE: s_freeze(w); break;
	case HO_ACT_THAW: s_thaw(w); break;
	case HO_ACT_FINISH: s_finish(w); break;
	default: break;
	}
}

static void d_effect(struct world *w, enum ho_act act)
{
	switch (act) {
	case HO_ACT_SAVE: save(&w->drec, &w->d); break;
	case HO_ACT_SEND:
		if (!w->broken && !w->to_s.eof && w->s_alive)
			push(&w->to_s, &w->d.out);
		break;
	case HO_ACT_PREPARE: w->dvps = GATED; break;
	case HO_ACT_DISCARD: w->dvps = ABSENT; break;
	case HO_ACT_RELEASE:
		if (w->dvps != RUNNING)
			d_release(w);
		break;
	case HO_ACT_PARK: w->dvps = STOPPED; break;
	default: break;
	}
}

/* One process's step that is not hearing: it works; it fails without effect; it fails, and was done all the same. */
static void try_act(const struct world *w, bool source, enum ho_act act)
{
	void (*effect)(struct world *, enum ho_act) = source ? s_effect : d_effect;
	struct world ok = *w;
	bool gone = act == HO_ACT_SEND && (w->broken || (source ? w->to_d.eof || !w->pending : !w->s_alive));

	effect(&ok, act);
	ho_done(source ? &ok.s : &ok.d, true);
	reach(&ok); /* into a connection that is gone, too: what is sent may be lost unseen */
	if (gone) {
		struct world no = *w;
		ho_done(source ? &no.s : &no.d, false);
		reach(&no);
		return;
	}
	FAULT(w, no)
		no.excused |= act == HO_ACT_RELEASE || act == HO_ACT_THAW;
		ho_done(source ? &no.s : &no.d, false);
	END_FAULT(no)
	FAULT(w, half)
		effect(&half, act);
		ho_done(source ? &half.s : &half.d, false);
	END_FAULT(half)
}

static void hear(struct world *w, bool source, const struct ho_msg *m)
{
	if (!source && !w->d_knows) {
		if (m->word != HO_MSG_HELLO) { /* no stream that we know */
			d_dies(w);
			return;
		}
		w->d_knows = true;
		ho_dest(&w->d, &w->drec);
	}
	ho_heard(source ? &w->s : &w->d, m);
}

static void try_hear(const struct world *w, bool source)
{
	const struct queue *q = source ? &w->to_s : &w->to_d;

	if (q->n) {
		struct world x = *w;
		struct ho_msg m = pop(source ? &x.to_s : &x.to_d);
		hear(&x, source, &m);
		reach(&x);
		FAULT(w, twice)
			m = q->m[0];
			hear(&twice, source, &m);
		END_FAULT(twice)
	} else if (q->eof) {
		struct world x = *w;
		if (!source && !x.d_knows)
			d_dies(&x);
		else
			ho_lost(source ? &x.s : &x.d);
		reach(&x);
	}
	if (!source && w->d_knows) {
		FAULT(w, full)
			ho_failed(&full.d);
		END_FAULT(full)
	}
	/* its patience ends */
	if (source || w->d_knows) {
		FAULT(w, late)
			ho_lost(source ? &late.s : &late.d);
		END_FAULT(late)
	}
}

static void step_s(const struct world *w)
{
	struct world x = *w;
	enum ho_act act = ho_next(&x.s);

	if (act == HO_ACT_END) {
		n_ends[x.s.end]++;
		HOLDS(w, w->s.end != HO_END_ABORTED || (w->srec.phase == HO_HERE && (w->excused || w->svps != FROZEN)),
		      "given up, and left lying");
		HOLDS(w, w->s.end != HO_END_DONE || w->srec.phase == (w->keep ? HO_GONE : HO_NONE), "done, and not gone");
		s_dies(&x);
		reach(&x);
		return;
	}
	if (act == HO_ACT_HEAR)
		try_hear(&x, true);
	else
		try_act(&x, true, act);
	FAULT(&x, undo)
		if (!ho_abort(&undo.s))
			undo.faults = 0; /* nothing changed: no new state worth a visit */
	END_FAULT(undo)
}

static void step_d(const struct world *w)
{
	struct world x = *w;
	enum ho_act act = x.d_knows ? ho_next(&x.d) : HO_ACT_HEAR;

	if (act == HO_ACT_END) {
		d_dies(&x);
		reach(&x);
	} else if (act == HO_ACT_HEAR) {
		try_hear(&x, false);
	} else {
		try_act(&x, false, act);
	}
}

static void step_d_alone(struct world *w)
{
	enum ho_act act;

	for (ho_recover(&w->d, &w->drec); (act = ho_next(&w->d)) != HO_ACT_END;) {
		d_effect(w, act);
		ho_done(&w->d, true);
	}
	memset(&w->d, 0, sizeof(w->d));
}

static void connect(struct world *w, const struct ho_record *rec)
{
	w->connects--;
	if (w->pending && !w->d_alive) { /* nobody read it yet; its source is gone */
		w->late = w->to_d;
		w->late_there = w->late.n > 0;
	}
	memset(&w->to_d, 0, sizeof(w->to_d));
	memset(&w->to_s, 0, sizeof(w->to_s));
	w->broken = false;
	w->pending = true;
	w->s_alive = true;
	ho_source(&w->s, rec, w->next_id++, false);
}

/* A command on the source, after its process is gone. */
static void try_commands(const struct world *w)
{
	struct world x = *w;

	if (ho_wants_recovery(w->srec.phase)) {
		if (w->srec.phase != HO_GONE || !w->keep) {
			x.s_alive = true;
			x.broken = true;
			ho_recover(&x.s, &x.srec);
			reach(&x);
		}
		return;
	}
	if (w->connects && !w->d_alive && !(w->pending && w->late_there) &&
	    (w->srec.phase == HO_HERE || w->srec.phase == HO_COMMITTED)) {
		connect(&x, &x.srec);
		reach(&x);
	}
}

static void try_receivers(const struct world *w)
{
	struct world x = *w;

	if (w->d_alive)
		return;
	if (ho_wants_recovery(w->drec.phase)) { /* any command there */
		step_d_alone(&x);
		reach(&x);
		x = *w;
	}
	if (w->pending && (w->to_d.n || w->to_d.eof)) {
		x.d_alive = true;
		reach(&x);
	}
	if (w->late_there && !w->pending) { /* and if there is one, that one has to wait: the lock is taken here */
		x = *w;
		x.to_d = x.late;
		x.to_d.eof = true;
		memset(&x.late, 0, sizeof(x.late));
		x.late_there = false;
		x.pending = x.d_alive = x.broken = true;
		reach(&x);
	}
	if (w->late_there && w->pending && w->d_alive == false) {
		/* the late one has the lock first: it finds its end and goes, for its source is dead; what it could do, it
		 * does at once, as nobody answers it */
		x = *w;
		struct world z = *w;
		z.to_d = z.late;
		z.to_d.eof = true;
		z.s_alive = false;
		z.d_alive = true;
		for (int i = 0; i < 50 && z.d_alive; i++) {
			enum ho_act act = z.d_knows ? ho_next(&z.d) : HO_ACT_HEAR;
			if (act == HO_ACT_END) {
				d_dies(&z);
			} else if (act != HO_ACT_HEAR) {
				d_effect(&z, act);
				ho_done(&z.d, true);
			} else if (z.to_d.n) {
				struct ho_msg m = pop(&z.to_d);
				hear(&z, false, &m);
			} else if (!z.d_knows) {
				d_dies(&z);
			} else {
				ho_lost(&z.d);
			}
		}
		assert_false(z.d_alive);
		x.drec = z.drec;
		x.dvps = z.dvps;
		memset(&x.late, 0, sizeof(x.late));
		x.late_there = false;
		reach(&x);
	}
}

static void try_faults(const struct world *w)
{
	if (w->s_alive) {
		FAULT(w, k)
			s_dies(&k);
		END_FAULT(k)
	}
	if (w->d_alive) {
		FAULT(w, k)
			d_dies(&k);
		END_FAULT(k)
	}
	FAULT(w, s_boot)
		s_dies(&s_boot);
		if (s_boot.svps == RUNNING || s_boot.svps == FROZEN)
			s_boot.svps = STOPPED;
		s_boot.excused = true;
	END_FAULT(s_boot)
	FAULT(w, d_boot)
		d_dies(&d_boot);
		memset(&d_boot.late, 0, sizeof(d_boot.late));
		d_boot.late_there = false;
		if (d_boot.dvps == RUNNING)
			d_boot.dvps = STOPPED;
		d_boot.excused = true;
	END_FAULT(d_boot)
	if (w->pending && !w->broken)
		for (unsigned i = 0; i <= w->to_d.n; i++)
			for (unsigned k = 0; k <= w->to_s.n; k++) {
				FAULT(w, c)
					cut_to(&c.to_d, i);
					cut_to(&c.to_s, k);
					c.broken = true;
				END_FAULT(c)
			}
}

/* Whoever wants it to run, wherever he is let. The lock keeps him out while a hand-over is under way. */
static void try_operators(const struct world *w)
{
	bool s_free = !w->s_alive ? !ho_wants_recovery(w->srec.phase) : w->s.rec.phase == HO_COPYING;

	if (w->svps == STOPPED && s_free && ho_may_run(w->srec.phase)) {
		struct world x = *w;
		x.svps = RUNNING;
		reach(&x);
	}
	if (w->dvps == STOPPED && !w->d_alive && ho_may_run(w->drec.phase)) {
		struct world x = *w;
		x.dvps = RUNNING;
		reach(&x);
	}
}

/* ---- what must hold ---------------------------------------------------------------------------- */

static void check(const struct world *w)
{
	bool s_may = ho_may_run(w->srec.phase), d_may = ho_may_run(w->drec.phase);

	HOLDS(w, w->svps != RUNNING || w->dvps != RUNNING, "two running");
	HOLDS(w, !s_may || !d_may, "two that may run");
	HOLDS(w, w->svps != RUNNING || s_may, "the source runs what is not its own");
	HOLDS(w, w->dvps != RUNNING || d_may, "the destination runs what is not its own");
	HOLDS(w,
	      s_may || d_may ||
		      (w->srec.phase == HO_COMMITTED && w->drec.phase == HO_PREPARED && w->srec.id == w->drec.id &&
		       w->srec.epoch == w->drec.epoch),
	      "none recoverable");
}

/* One side as far as it goes alone, all of it working. */
static bool run_s(struct world *w)
{
	enum ho_act act;

	if (!w->s_alive)
		return false;
	act = ho_next(&w->s);
	if (act == HO_ACT_END) {
		s_dies(w);
	} else if (act != HO_ACT_HEAR) {
		bool ok = act != HO_ACT_SEND || (!w->broken && !w->to_d.eof && w->pending);
		s_effect(w, act);
		ho_done(&w->s, ok);
	} else if (w->to_s.n) {
		struct ho_msg m = pop(&w->to_s);
		hear(w, true, &m);
	} else if (w->to_s.eof || w->broken) {
		ho_lost(&w->s);
	} else {
		return false;
	}
	return true;
}

static bool run_d(struct world *w)
{
	enum ho_act act;

	if (!w->d_alive) {
		if (!w->pending || (!w->to_d.n && !w->to_d.eof))
			return false;
		w->d_alive = true;
		return true;
	}
	act = w->d_knows ? ho_next(&w->d) : HO_ACT_HEAR;
	if (act == HO_ACT_END) {
		d_dies(w);
	} else if (act != HO_ACT_HEAR) {
		bool ok = act != HO_ACT_SEND || (!w->broken && w->s_alive);
		d_effect(w, act);
		ho_done(&w->d, ok);
	} else if (w->to_d.n) {
		struct ho_msg m = pop(&w->to_d);
		hear(w, false, &m);
	} else if (w->to_d.eof || w->broken || !w->s_alive) {
		if (w->d_knows)
			ho_lost(&w->d);
		else
			d_dies(w);
	} else {
		return false;
	}
	return true;
}

static void settle(const struct world *from)
{
	struct world w = *from;
	bool running = w.svps == RUNNING || w.svps == FROZEN || w.dvps == RUNNING || w.was_running;
	int steps = 0;

	for (bool commanded = false; steps < 400; steps++) {
		if (run_d(&w) || run_s(&w))
			continue;
		if (w.s_alive || w.d_alive) { /* each waits for the other: patience ends */
			w.broken = true;
			continue;
		}
		if (ho_wants_recovery(w.srec.phase) && !(w.srec.phase == HO_GONE && w.keep)) {
			w.s_alive = w.broken = true;
			ho_recover(&w.s, &w.srec);
		} else if (w.srec.phase == HO_COMMITTED && !commanded) {
			w.connects = 1;
			w.late_there = false;
			connect(&w, &w.srec);
			commanded = true;
		} else if (ho_wants_recovery(w.drec.phase)) {
			step_d_alone(&w);
		} else {
			break;
		}
	}
	HOLDS(from, steps < 400, "does not come to rest");
	HOLDS(from, ho_may_run(w.srec.phase) != ho_may_run(w.drec.phase), "in the end it is not exactly one host's");
	HOLDS(from, w.srec.phase != HO_COMMITTED, "in the end it is not ended");
	HOLDS(from, !running || w.excused || w.svps == RUNNING || w.dvps == RUNNING, "in the end it does not run");
	HOLDS(from, w.svps == STOPPED || w.svps == RUNNING || ho_may_run(w.drec.phase), "in the end there is none");
	check(&w);
}

static size_t explore(enum kind kind, bool keep, unsigned connects, unsigned faults)
{
	struct world first;
	size_t most = 0;

	memset(&first, 0, sizeof(first));
	first.srec.phase = HO_HERE;
	first.svps = kind == COLD ? STOPPED : RUNNING;
	first.kind = (uint8_t)kind;
	first.keep = keep;
	first.connects = (uint8_t)connects;
	first.faults = (uint8_t)faults;
	first.next_id = 1;
	reach(&first);
	while (n_stack) {
		struct world w = stack[--n_stack];
		if (n_stack > most)
			most = n_stack;
		check(&w);
		settle(&w);
		if (w.s_alive)
			step_s(&w);
		else
			try_commands(&w);
		if (w.d_alive)
			step_d(&w);
		else
			try_receivers(&w);
		try_faults(&w);
		try_operators(&w);
	}
	size_t n = n_seen;
	free(seen);
	seen = NULL;
	n_seen = cap_seen = 0;
	return n;
}

static void test_all_interleavings(void **unused)
{
	const char *more = getenv("VPS_HANDOVER_FAULTS");
	unsigned faults = more ? (unsigned)atoi(more) : 3;
	size_t n;

	(void)unused;
	for (int kind = LIVE; kind <= COLD; kind++)
		for (int keep = 0; keep < 2; keep++) {
			n = explore((enum kind)kind, keep, 3, faults);
			print_message("kind %d%s: %zu states\n", kind, keep ? ", kept" : "", n);
			assert_true(n > 10000);
		}
	for (int i = HO_END_DONE; i <= HO_END_REFUSED; i++)
		print_message("ends of kind %d: %llu\n", i, (unsigned long long)n_ends[i]);
	assert_int_not_equal(n_ends[HO_END_DONE], 0);
	assert_int_not_equal(n_ends[HO_END_ABORTED], 0);
	assert_int_not_equal(n_ends[HO_END_UNDECIDED], 0);
	assert_int_not_equal(n_ends[HO_END_STUCK], 0);
	assert_int_equal(n_ends[HO_END_UNKNOWN], 0); /* only a destination that lost its disk */
	free(stack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_interleavings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
