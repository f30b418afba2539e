// SPDX-License-Identifier: GPL-2.0-or-later
/* The source: one VPS, one connection. What it does and when is handover.c's. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/events.h"
#include "runtime/migrate/fault.h"
#include "runtime/migrate/hook.h"
#include "runtime/migrate/imagepipe.h"
#include "runtime/migrate/migrate_impl.h"

#define DEFAULT_RSH	"ssh"
#define DEFAULT_RECEIVE "vps receive"
#define ROUNDS_MAX	12
#define ENOUGH		(1u << 20) /* bytes that a last round may have: milliseconds of any network */
#define CONFIRM_MS	120000	   /* a start there, from the commit on */
#define PATIENCE_MS	600000	   /* any answer */

void vps_migrate_result_done(struct vps_migrate_result *r)
{
	if (!r)
		return;
	free(r->host);
	strv_free(r->problems);
	strv_free(r->notes);
	memset(r, 0, sizeof(*r));
}

static struct hook hook_of(struct source *s)
{
	return (struct hook){
		.h = s->h, .spec = &s->l.spec, .instance_dir = s->l.dir, .role = "source", .peer = s->file.peer};
}

/* ---- the lock: not held while it runs and is copied ------------------------------------------ */

void source_unlock(struct source *s)
{
	locked_done(&s->l);
	s->l = (struct vps_locked)VPS_LOCKED_INIT;
	spec_init(&s->l.spec);
}

int source_relock(struct source *s)
{
	return s->l.lock >= 0 ? 0 : vps_lock(s->h, s->who, "migrate", &s->l, s->err);
}

/* Before the hand-over is decided, an operator and a deadline end it; after that only patience does. */
static bool stop(void *arg)
{
	struct source *s = arg;

	if (s->ho.rec.phase == HO_COMMITTED || s->ho.rec.phase == HO_GONE)
		return s->deadline && sys_now_mono() > s->deadline;
	if (s->o->stop && s->o->stop(s->o->arg)) {
		vps_err_set(s->err, VPS_EINTERRUPTED, "interrupted: '%s' goes on here", s->offer.spec.name);
		return true;
	}
	if (s->deadline && sys_now_mono() > s->deadline) {
		vps_err_set(s->err, VPS_ETIMEDOUT, "it took longer than was allowed (--timeout)");
		return true;
	}
	return false;
}

/* ---- what is heard ------------------------------------------------------------------------------------ */

/* From what the disk takes and the rate of this connection so far; of none, a gigabit's. */
static void estimate(struct source *s, bool image)
{
	uint64_t rate = s->rate ? s->rate : s->o->limit ? s->o->limit : 100u << 20;

	s->res->estimate_ms = (s->offer.used + (image ? s->offer.image_size : 0)) / (rate / 1000 + 1);
}

static int take_answer(struct source *s)
{
	auto_answer a = {0};
	auto_json j = NULL;
	int r = link_json(&s->link, &j, s->err);

	r = r ?: answer_from_json(j, &a, s->err);
	if (r < 0)
		return r;
	s->answered = true;
	s->res->image = a.image;
	s->image_layers = a.image_layers;
	s->there = a.running;
	s->mem.hold.there = a.has;
	estimate(s, a.image);
	free(s->res->host);
	s->res->host = take_ptr(a.host);
	for (char **p = a.problems; r == 0 && p && *p; p++)
		r = strv_add(&s->res->problems, *p);
	for (char **p = a.notes; r == 0 && p && *p; p++)
		r = strv_add(&s->res->notes, *p);
	return r < 0 ? vps_err_sys(s->err, r, "answer") : 0;
}

/* The next message; what comes in front of one is dealt with. */
static int next_msg(struct source *s, struct ho_msg *ret)
{
	int r;

	while ((r = link_read(&s->link, s->err)) == 0) {
		switch (s->link.rec.type) {
		case WIRE_MSG: return wire_msg_get(s->link.rec.data, s->link.rec.len, ret, s->err);
		case WIRE_ANSWER: r = take_answer(s); break;
		case WIRE_WORDS: (void)link_take_words(&s->link, s->err); break;
		case WIRE_TOOK:
			if (s->link.rec.len == 8)
				s->res->pause_there_us = stream_get_le(s->link.rec.data, 8);
			break;
		default: r = vps_err_set(s->err, VPS_EBADIMAGE, "a record out of place");
		}
		if (r < 0)
			return r;
	}
	return r;
}

/* All that stands in the way, in one message. */
static int judge(struct source *s)
{
	autofree char *all = NULL;
	auto_strbuf sb = STRBUF_INIT;

	if (!s->answered)
		return vps_err_set(s->err, VPS_EBADIMAGE, "the destination did not answer the offer");
	if (!s->res->problems)
		return 0;
	for (char **p = s->res->problems; *p; p++)
		sb_addf(&sb, "%s%s", p == s->res->problems ? "" : "; ", *p);
	return vps_err_set(s->err, VPS_ESTATE, "'%s' cannot move: %s", s->offer.spec.name, sb_str(&sb));
}

static void hear(struct source *s, bool twice)
{
	struct ho_msg m;

	if (next_msg(s, &m) < 0) {
		ho_lost(&s->ho);
		return;
	}
	if (m.word == HO_MSG_STATE && s->ho.rec.phase != HO_COMMITTED && judge(s) < 0) {
		ho_lost(&s->ho);
		return;
	}
	if (m.word == HO_MSG_STATE && s->ho.rec.phase == HO_COMMITTED && m.phase == HO_HERE)
		s->res->started = s->there;
	if (m.word == HO_MSG_RUNNING) {
		s->res->started = s->file.was_running && m.phase == HO_HERE;
		if (s->err->code) /* it is there, but did not start */
			(void)strv_add(&s->res->notes, s->err->msg);
		if (s->still)
			s->res->pause_us = (sys_now_mono() - s->still) / 1000;
	}
	ho_heard(&s->ho, &m);
	if (twice && ho_next(&s->ho) == HO_ACT_HEAR)
		ho_heard(&s->ho, &m);
}

/* ---- steps ----------------------------------------------------------------------------------------------- */

/* It goes on, or ends where it stands. */
static int leave_memory(struct source *s, bool go_on, struct vps_err *err)
{
	if (!s->taken)
		return 0;
	s->taken = false;
	return checkpoint_leave(&s->l, &s->taking, go_on, err);
}

static int save(struct source *s)
{
	const struct ho_record *want = &s->ho.want;
	int r = source_relock(s);

	if (r < 0)
		return r;
	if (want->phase == HO_FROZEN && s->file.rec.phase == HO_COPYING) {
		if ( s->offer.mode == VPS_MIGRATE_STOPPED && source_is_running(s))
			return vps_err_set(s->err, VPS_ESTATE, "it was started meanwhile");
		s->file.was_running = source_is_running(s);
	}
	s->file.rec = *want;
	if (want->phase == HO_HERE) /* nobody's business any more */
		s->file.was_running = false;
	if (want->phase == HO_HERE)
		source_drop_memory(s);
	r = ho_file_write(s->l.dir, &s->file, s->err);
	if (r == 0 && want->phase == HO_COPYING && s->offer.mode != VPS_MIGRATE_STOPPED)
		source_unlock(s);
	if (r == 0 && want->phase == HO_COMMITTED)
		s->deadline = sys_now_mono() + CONFIRM_MS * 1000000ull;
	return r;
}

static void fill_offer(const void *o, struct json_out *out)
{
	offer_to_json(o, out);
}

static int send_msg(struct source *s)
{
	int r = 0;

	if (s->ho.out.word == HO_MSG_HELLO)
		r = link_put_json(&s->link, WIRE_OFFER, fill_offer, &s->offer, s->err);
	r = r ?: wire_say(&s->link.w, &s->ho.out, s->err);
	if (s->ho.out.word == HO_MSG_COMMIT && s->ho.rec.phase == HO_COMMITTED)
		(void)leave_memory(s, false, NULL); /* and with it the way to its address here */
	return r;
}

static int wait_round(struct source *s)
{
	uint8_t number[8];
	int r;

	stream_put_le(number, ++s->round, 8);
	r = wire_put(&s->link.w, WIRE_ROUND, number, sizeof(number), s->err);
	while (r == 0) {
		r = link_read(&s->link, s->err);
		if (r == 0 && s->link.rec.type == WIRE_ROUND && s->link.rec.len == sizeof(number))
			break;
		if (r == 0 && s->link.rec.type == WIRE_WORDS)
			r = link_take_words(&s->link, s->err);
		else if (r == 0)
			r = vps_err_set(s->err, VPS_EBADIMAGE, "a record out of place");
	}
	return r;
}

/* The driver may know what the next round has to look at. Where not, it looks at all of it. */
static void ask_written(struct source *s)
{
	const struct vps_driver *d = driver_of(&s->offer.spec);
	autoclose int run_dir = -1, fd = -1;
	struct vps_live live = {.spec = &s->offer.spec, .instance_dir = -1};

	if (!s->offer.blocks || !d->written || s->offer.mode == VPS_MIGRATE_STOPPED)
		return;
	live.run_dir = run_dir = store_run_dir(s->h, s->l.id);
	fd = sys_memfd("written", 0);
	if (run_dir < 0 || fd < 0 || d->written(&live, &s->written, fd, NULL) < 0 || scan_written(s->scan, fd) < 0)
		close_fd(&s->written); /* begun anew, it says that all of it is */
}

int source_send_round(struct source *s, bool last, struct scan_round *ret)
{
	uint64_t t0, sent = stream_out_bytes(s->link.w.s);
	int r;

	ask_written(s);
	t0 = sys_now_mono();
	r = scan_send(s->scan, &s->link.w, last, s->o->progress, last ? "rest" : "disk", s->offer.used, ret, s->err);

	if (r == 0 && s->mem.news)
		r = source_send_memory(s, last);
	if (r == 0 && !last)
		r = wait_round(s);
	s->res->rounds++;
	t0 = sys_now_mono() - t0;
	if (r == 0 && t0 > 1000000)
		s->rate = (stream_out_bytes(s->link.w.s) - sent) * 1000 / (t0 / 1000000);
	return r;
}

/* What of the disk is there already. */
static int take_index(struct source *s)
{
	int r;

	do {
		r = link_read(&s->link, s->err);
		if (r == 0 && s->link.rec.type == WIRE_WORDS)
			r = link_take_words(&s->link, s->err);
		else if (r == 0 && s->link.rec.type != WIRE_INDEX)
			r = vps_err_set(s->err, VPS_EBADIMAGE, "a record out of place");
		else if (r == 0)
			r = scan_index_take(s->scan, &s->link.rec, s->err);
	} while (r == 0);
	return r < 0 ? r : 0;
}

/* Why a send fails is what the other side said before it went. */
static int broken(struct source *s, int r)
{
	struct vps_err words = {0};

	if (r != -EPIPE && r != -ECONNRESET)
		return r;
	while (link_read(&s->link, NULL) == 0)
		if (s->link.rec.type == WIRE_WORDS) {
			link_take_words(&s->link, &words);
			vps_err_clear(s->err);
			return vps_err_set(s->err, words.code, "%s", words.msg);
		}
	return r;
}

static int copy(struct source *s)
{
	struct hook k = hook_of(s);
	struct scan_round n = {0};
	struct img_store *images;
	uint64_t before = UINT64_MAX;
	int r;

	k.spec = &s->offer.spec;
	r = hook_run(&k, "before", "copy", s->err);
	r = r ?: vps_host_images(s->h, &images, s->err);
	r = r ?: take_index(s);
	if (r == 0 && s->res->image)
		r = image_send(images, s->offer.spec.image_digest, s->image_layers, &s->link.w, s->o->progress,
			       s->offer.image_size, &s->res->image_bytes, s->err);
	/* Until little is left, or a round does not leave less than the one before it. */
	for (unsigned i = 0; r == 0 && i < ROUNDS_MAX; i++) {
		r = source_send_round(s, false, &n);
		if (s->offer.mode == VPS_MIGRATE_STOPPED || n.bytes <= ENOUGH || (i > 1 && n.bytes > before / 10 * 9))
			break;
		before = n.bytes;
	}
	if (r == 0 && s->offer.mode == VPS_MIGRATE_LIVE)
		r = source_precopy(s);
	r = broken(s, r);
	return r ?: hook_run(&k, "after", "copy", s->err);
}

static int freeze(struct source *s)
{
	struct vps_stop_opts so = {.timeout_ms = s->o->stop_timeout_ms};
	struct hook k = hook_of(s);
	int r = source_is_unchanged(s);

	r = r ?: hook_run(&k, "before", "freeze", s->err);
	if (r < 0)
		return r;
	if (s->offer.mode == VPS_MIGRATE_LIVE && !s->file.was_running)
		return vps_err_set(s->err, VPS_ESTATE, "it ended while it was copied: run the same again and it moves stopped");
	s->still = sys_now_mono();
	if (s->file.was_running)
		r = s->offer.mode == VPS_MIGRATE_LIVE ? source_take_memory(s) : stop_locked(&s->l, &so, s->err);
	return r ?: hook_run(&k, "after", "freeze", s->err);
}

static int rest(struct source *s)
{
	struct scan_round n;
	int r = broken(s, source_send_round(s, true, &n));
	struct hook k = hook_of(s);

	return r ?: hook_run(&k, "before", "handover", s->err);
}

/* It is ours still: it goes on as it was. */
static int thaw(struct source *s)
{
	struct vps_err why = {0};
	int r = source_relock(s);

	if (r == 0 && s->taken)
		return leave_memory(s, true, s->err);
	if (r < 0 || !s->file.was_running || source_is_running(s))
		return r;
	r = start_locked(&s->l, NULL, NULL, &why);
	if (r < 0)
		(void)strv_addf(&s->res->notes, "it did not start again here: %s", why.msg);
	return r;
}

static int finish(struct source *s)
{
	struct hook k = hook_of(s);
	int r;

	source_close_disk(s);
	source_drop_memory(s);
	(void)hook_run(&k, "after", "handover", NULL);
	event_add(s->h->run_fd, s->l.id, s->l.spec.name, "migrate-out",
		  &(struct event_field){.key = "to", .str = s->file.peer}, 1);
	if (s->o->keep || s->file.keep) {
		s->res->kept = true;
		return 0;
	}
	r = delete_locked(&s->l, s->err);
	if (r == 0)
		source_unlock(s);
	return r;
}

static int step(struct source *s, enum ho_act act)
{
	switch (act) {
	case HO_ACT_SAVE: return save(s);
	case HO_ACT_SEND: return send_msg(s);
	case HO_ACT_COPY: return copy(s);
	case HO_ACT_FREEZE: return freeze(s);
	case HO_ACT_REST: return rest(s);
	case HO_ACT_THAW: return thaw(s);
	case HO_ACT_FINISH: return finish(s);
	default: return 0;
	}
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

static struct vps_err lost_err(const struct source *s)
{
	struct vps_err e = {0};

	vps_err_set(&e, ECONNABORTED, "the connection to %s was lost", s->file.peer);
	return e;
}

static int outcome(struct source *s)
{
	const char *name = s->offer.spec.name ? s->offer.spec.name : s->who;
	struct vps_err why = s->err->code ? *s->err : lost_err(s);

	/* what a stream says of its own end is nothing that an operator wants to know */
	if (why.code == EPIPE || why.code == ENODATA || why.code == ECONNRESET || why.code == ECONNABORTED)
		why = lost_err(s);
	vps_err_clear(s->err);
	switch (s->ho.end) {
	case HO_END_DONE: return 0;
	case HO_END_UNDECIDED:
		return vps_err_set(s->err, VPS_ESTATE,
				   "'%s' was handed over to %s, which has not confirmed it (%.200s): it stays stopped here; "
				   "'vps migrate --continue %s' asks again", name, s->file.peer, why.msg, name);
	case HO_END_UNKNOWN:
		return vps_err_set(s->err, VPS_ESTATE,
				   "'%s' was handed over to %s, and that host knows nothing of it: is it the right one? If it has "
				   "lost its disk, 'vps migrate --force-here %s' brings back the copy that is here",
				   name, s->file.peer, name);
	case HO_END_REFUSED:
		if (why.code != ECONNABORTED)
			break;
		return vps_err_set(s->err, VPS_EEXISTS, "%s has a later '%s' of its own", s->file.peer, name);
	case HO_END_STUCK:
		return vps_err_set(s->err, why.code, "%.300s; 'vps migrate' could not put it back as it was: the next command "
						     "for '%s' tries again", why.msg, name);
	default: break;
	}
	return vps_err_set(s->err, why.code, "%s", why.msg);
}

static int connect_to(struct source *s)
{
	struct stream_opts so = {.level = s->o->compress, .timeout_ms = PATIENCE_MS, .stop = stop, .arg = s};
	const char *rsh = s->file.rsh ? s->file.rsh : DEFAULT_RSH;
	int r = link_spawn(rsh, s->file.peer, s->file.far ? s->file.far : DEFAULT_RECEIVE, &s->link, s->err);

	s->link.w.limit = s->o->limit;
	r = r ?: link_begin(&s->link, &so, s->err);
	return r < 0 ? vps_err_wrap(s->err, r, "%s %s", rsh, s->file.peer) : 0;
}

/* Only asking: nothing is written anywhere. */
static int dry_run(struct source *s)
{
	struct ho_msg m = {.word = HO_MSG_HELLO, .phase = HO_COPYING, .epoch = s->file.rec.epoch + 1, .id = 1};
	int r = link_put_json(&s->link, WIRE_OFFER, fill_offer, &s->offer, s->err);

	r = r ?: wire_say(&s->link.w, &m, s->err);
	r = r ?: next_msg(s, &m);
	if (r == 0 && m.word != HO_MSG_STATE)
		r = vps_err_set(s->err, VPS_EBADIMAGE, "a message out of place");
	s->res->mode = s->offer.mode;
	return r ?: judge(s);
}

static int drive(struct source *s)
{
	enum ho_act act;

	while ((act = ho_next(&s->ho)) != HO_ACT_END) {
		enum fault f = fault_at("source", ++s->steps);
		bool ok;
		if (f == FAULT_CUT || (f == FAULT_FULL && act == HO_ACT_SEND))
			link_cut(&s->link);
		if (act == HO_ACT_HEAR) {
			hear(s, f == FAULT_TWICE);
			continue;
		}
		ok = f != FAULT_FULL && step(s, act) >= 0;
		fault_kill(f);
		ho_done(&s->ho, ok && f != FAULT_HALF);
	}
	if (s->link.w.s)
		s->res->sent = stream_out_bytes(s->link.w.s);
	s->res->total_us = (sys_now_mono() - s->began) / 1000;
	s->res->mode = s->offer.mode;
	return outcome(s);
}

static int random_id(uint64_t *ret)
{
	do {
		if (getrandom(ret, sizeof(*ret), 0) != sizeof(*ret))
			return -errno;
		*ret &= INT64_MAX; /* JSON's */
	} while (!*ret);
	return 0;
}

static int fresh(struct source *s)
{
	uint64_t id = 0;
	int r = ho_fence(&s->l, "moved", s->err);

	r = r ?: str_set(&s->file.peer, s->o->host);
	r = r ?: str_set(&s->file.rsh, s->o->rsh);
	r = r ?: str_set(&s->file.far, s->o->receive);
	r = r ?: random_id(&id);
	if (r < 0)
		return vps_err_sys(s->err, r, "migrate");
	s->file.keep = s->o->keep;
	r = source_decide_mode(s);
	r = r ?: source_make_offer(s);
	r = r ?: connect_to(s);
	if (r < 0)
		return r;
	if (s->o->dry_run)
		return dry_run(s);
	ho_source(&s->ho, &s->file.rec, id, false);
	return drive(s);
}

/* COMMITTED, and no word since. */
static int go_on(struct source *s)
{
	int r = 0;

	if (s->o->host)
		r = str_set(&s->file.peer, s->o->host);
	if (r == 0 && s->o->rsh)
		r = str_set(&s->file.rsh, s->o->rsh);
	if (r == 0 && s->o->receive)
		r = str_set(&s->file.far, s->o->receive);
	r = r ?: spec_copy(&s->offer.spec, &s->l.spec);
	if (r < 0)
		return vps_err_sys(s->err, r, "migrate");
	s->offer.mode = s->file.was_running ? VPS_MIGRATE_RESTART : VPS_MIGRATE_STOPPED;
	s->offer.blocks = s->l.spec.isolation == ISOLATION_VM;
	ho_source(&s->ho, &s->file.rec, 0, false);
	r = connect_to(s);
	if (r < 0)
		ho_done(&s->ho, false);
	return drive(s);
}

static int begin(struct source *s, const char *who, bool only_continue)
{
	int r = vps_lock(s->h, who, "migrate", &s->l, s->err);

	if (r < 0)
		return r;
	id_str(s->l.id, s->who);
	s->mlock = lock_take(s->l.dir, HO_LOCK, true, LOCK_TRY);
	if (s->mlock == -EWOULDBLOCK)
		return vps_err_set(s->err, VPS_ELOCKED, "another 'vps migrate' is at '%s'", s->l.spec.name);
	if (s->mlock < 0)
		return vps_err_sys(s->err, s->mlock, "migrate");
	r = ho_file_read(s->l.dir, &s->file, s->err);
	if (r < 0)
		return r;
	if (s->file.rec.phase == HO_COMMITTED)
		return go_on(s);
	if (only_continue)
		return vps_err_set(s->err, VPS_ESTATE, "'%s' is not on its way: there is nothing to go on with", s->l.spec.name);
	return fresh(s);
}

static int migrate(struct vps_host *h, const char *who, const struct vps_migrate_opts *o,
		   struct vps_migrate_result *ret, bool only_continue, struct vps_err *err)
{
	struct vps_err why = {0};
	struct source s = {
		.h = h,
		.o = o,
		.res = ret,
		.l = VPS_LOCKED_INIT,
		.mlock = -1,
		.link = LINK_INIT,
		.mount = -1,
		.top = -1,
		.written = -1,
		.mem.dir = -1,
		.mem.hold = VPS_HOLD_INIT,
		.began = sys_now_mono(),
		.err = &why,
	};
	struct sigaction ignore = {.sa_handler = SIG_IGN}, was;
	int r;

	spec_init(&s.l.spec);
	spec_init(&s.offer.spec);
	memset(ret, 0, sizeof(*ret));
	ret->estimate_ms = UINT64_MAX;
	if (o->timeout_ms > 0)
		s.deadline = s.began + (uint64_t)o->timeout_ms * 1000000;
	sigaction(SIGPIPE, &ignore, &was);
	r = begin(&s, who, only_continue);
	/* Else, if what is on the disk is not known, it stays frozen: the next command for it reads that and decides. */
	if (s.taken && s.ho.rec.phase == HO_COMMITTED)
		leave_memory(&s, false, NULL);
	source_close_disk(&s);
	s.mem.scan = scan_free(s.mem.scan);
	checkpoint_sums_done(&s.mem.sums);
	close_fd(&s.written);
	close_fd(&s.mem.dir);
	close_fd(&s.mem.hold.fd);
	locked_done(&s.l);
	close_fd(&s.mlock);
	link_done(&s.link); /* waits for the other side's end */
	offer_done(&s.offer);
	ho_file_done(&s.file);
	sigaction(SIGPIPE, &was, NULL);
	if (r < 0)
		return vps_err_set(err, why.code ? why.code : -r, "migrate %.63s: %s", who, why.msg);
	return 0;
}

int vps_migrate(struct vps_host *h, const char *who, const struct vps_migrate_opts *o,
		struct vps_migrate_result *ret, struct vps_err *err)
{
	return migrate(h, who, o, ret, false, err);
}

int vps_migrate_continue(struct vps_host *h, const char *who, const struct vps_migrate_opts *o,
			 struct vps_migrate_result *ret, struct vps_err *err)
{
	return migrate(h, who, o, ret, true, err);
}

int vps_migrate_force_here(struct vps_host *h, const char *who, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	auto_ho_file f = {0};
	int r = vps_lock(h, who, "migrate", &l, err);

	r = r ?: ho_not_moving(&l, "taken back", err);
	r = r ?: ho_file_read(l.dir, &f, err);
	if (r < 0)
		return r;
	if (ho_may_run(f.rec.phase))
		return vps_err_set(err, VPS_ESTATE, "'%s' is this host's already", l.spec.name);
	/* later than whatever the other host has, should it ever come back */
	f.rec = (struct ho_record){.phase = HO_HERE, .epoch = f.rec.epoch + 1};
	f.was_running = f.keep = false;
	r = ho_file_write(l.dir, &f, err);
	if (r < 0)
		return r;
	(void)fs_remove_tree(l.dir, HO_MEMORY);
	event_add(h->run_fd, l.id, l.spec.name, "migrate-forced", NULL, 0);
	return 0;
}
