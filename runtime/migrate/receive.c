// SPDX-License-Identifier: GPL-2.0-or-later
/* The destination: one connection, one VPS. What it does and when is handover.c's. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/events.h"
#include "runtime/migrate/arrive.h"
#include "runtime/migrate/fault.h"
#include "runtime/migrate/hook.h"
#include "runtime/migrate/imagepipe.h"
#include "runtime/migrate/link.h"
#include "runtime/migrate/scan.h"

/* A source that says nothing for so long is gone, whatever the connection thinks. While it waits for an operator's answer it
 * has said its last word before that. */
#define PATIENCE_MS (30 * 60 * 1000)

struct receiver {
	struct vps_host *h;
	struct link link;
	struct offer offer;
	struct arrival a;
	struct handover ho;
	struct apply ap;
	struct image_in image;
	struct vps_err *err;
	unsigned steps;
	bool told;
	bool gated;    /* a start of it reached its gate */
	bool released; /* and went through it */
	uint64_t asked, took; /* ns: when `prepare` came; from then until it ran */
};

static struct hook hook_of(struct receiver *r)
{
	return (struct hook){
		.h = r->h,
		.spec = r->a.l.dir >= 0 ? &r->a.l.spec : &r->offer.spec,
		.instance_dir = r->a.l.dir,
		.role = "destination",
		.peer = r->offer.peer,
	};
}

static void fill_answer(const void *a, struct json_out *o)
{
	answer_to_json(a, o);
}

/* What is here goes in front of the state, so that the source knows all of it when it decides. */
static int send_state(struct receiver *r)
{
	auto_answer ans = {0};
	int x = arrival_check(&r->a, &ans, r->err);

	x = x ?: link_put_json(&r->link, WIRE_ANSWER, fill_answer, &ans, r->err);
	r->told |= x == 0 && ans.problems;
	return x ?: wire_say(&r->link.w, &r->ho.out, r->err);
}

static int send_took(struct receiver *r)
{
	uint8_t us[8];

	stream_put_le(us, r->took / 1000, sizeof(us));
	return wire_put(&r->link.w, WIRE_TOOK, us, sizeof(us), NULL);
}

/* The source shows it to its operator: then nobody has to see it here. */
static void tell(struct receiver *r)
{
	if (!r->err->code)
		vps_err_set(r->err, EIO, "it could not be written");
	if (link_put_words(&r->link, r->err) >= 0)
		r->told = true;
}

static int send_msg(struct receiver *r)
{
	if (r->ho.out.word == HO_MSG_STATE)
		return send_state(r);
	if (r->ho.out.word == HO_MSG_FAILED || (r->ho.out.word == HO_MSG_RUNNING && r->ho.failed))
		tell(r);
	else if (r->ho.out.word == HO_MSG_RUNNING && r->took)
		(void)send_took(r);
	return wire_say(&r->link.w, &r->ho.out, NULL);
}

/* What is here of it. */
static int send_index(struct receiver *r)
{
	enum wire_tree tree = r->offer.blocks ? TREE_BLOCKS : TREE_DISK;

	return r->a.resumed ? scan_index_send(r->ap.tops[tree], tree, &r->link.w, r->err)
			    : wire_put(&r->link.w, WIRE_INDEX, NULL, 0, r->err);
}

static int save(struct receiver *r)
{
	int x = arrival_save(&r->a, &r->ho.want, r->err);

	if (x < 0 || r->ho.want.phase != HO_RECEIVING)
		return x;
	x = arrival_disk(&r->a, &r->ap, r->err);
	return x ?: send_index(r);
}

static int prepare(struct receiver *r)
{
	struct hook k = hook_of(r);
	int x;

	r->asked = sys_now_mono();
	x = hook_run(&k, "before", "prepare", r->err);

	x = x ?: apply_round(&r->ap, r->err);
	x = x ?: arrival_prepare(&r->a, r->err);
	return x ?: hook_run(&k, "after", "prepare", r->err);
}

/* Who still sends to the other host. Its own hook may know better. */
static void announce(struct receiver *r)
{
	auto_done(net_plan_done) struct net_plan plan = {0};
	struct net_host *net;

	if (plan_net(&r->a.l.spec, &plan, NULL) == 0 && host_net(r->h, &net, NULL) == 0)
		(void)net_announce(net, r->a.l.id, &plan);
}

/* It is ours by now, so nothing of this keeps it from running. */
static int release(struct receiver *r)
{
	struct hook k = hook_of(r);
	int x;

	if (!r->released) {
		(void)hook_run(&k, "before", "release", NULL);
		x = arrival_release(&r->a, r->err);
		if (x < 0)
			return x;
		if (r->asked)
			r->took = sys_now_mono() - r->asked;
		announce(r);
	}
	event_add(r->h->run_fd, r->a.l.id, r->a.l.spec.name, "migrate-in",
		  &(struct event_field){.key = "from", .str = r->offer.peer}, 1);
	(void)hook_run(&k, "after", "release", NULL);
	return 0;
}

/* ---- what comes between the messages ----------------------------------------------------- */

static int take_image(struct receiver *r)
{
	const struct stream_rec *rec = &r->link.rec;
	struct img_store *images;
	int x = vps_host_images(r->h, &images, r->err);

	if (x == 0 && digest_valid(r->a.digest))
		return vps_err_set(r->err, VPS_EBADIMAGE, "an image that nobody asked for");
	x = x ?: image_take(&r->image, images, r->offer.spec.image_digest, rec->data, rec->len, r->a.digest, r->err);
	return x < 0 ? x : 0;
}

static int take_round(struct receiver *r)
{
	const struct stream_rec *rec = &r->link.rec;
	uint8_t number[8];
	int x;

	if (rec->len != sizeof(number))
		return vps_err_set(r->err, VPS_EBADIMAGE, "a round without a number");
	memcpy(number, rec->data, sizeof(number));
	x = apply_round(&r->ap, r->err);
	x = x ?: arrival_round(&r->a, r->err);
	return x ?: wire_put(&r->link.w, WIRE_ROUND, number, sizeof(number), r->err);
}

static int take_data(struct receiver *r)
{
	switch (r->link.rec.type) {
	case WIRE_IMAGE: return take_image(r);
	case WIRE_ROUND: return take_round(r);
	case WIRE_TREE:
	case WIRE_ENTRY:
	case WIRE_DATA:
	case WIRE_HOLE:
	case WIRE_REMOVED: return apply_record(&r->ap, &r->link.rec, r->err);
	default: return vps_err_set(r->err, VPS_EBADIMAGE, "a record out of place");
	}
}

static void hear(struct receiver *r, bool twice)
{
	struct vps_err why = {0};
	struct ho_msg m;
	int x = link_read(&r->link, &why);

	if (x < 0) {
		vps_err_set(r->err, why.code, "%s", why.msg);
		ho_lost(&r->ho);
	} else if (r->link.rec.type == WIRE_MSG) {
		if (wire_msg_get(r->link.rec.data, r->link.rec.len, &m, r->err) < 0)
			ho_lost(&r->ho);
		else
			ho_heard(&r->ho, &m);
		if (twice && ho_next(&r->ho) == HO_ACT_HEAR)
			ho_heard(&r->ho, &m);
	} else if (r->a.file.rec.phase != HO_RECEIVING) {
		vps_err_set(r->err, VPS_EBADIMAGE, "files of a VPS that has not begun");
		ho_failed(&r->ho);
	} else if (take_data(r) < 0) {
		ho_failed(&r->ho);
	}
}

/* ---- the connection ------------------------------------------------------------------------- */

/* The two records that begin it. */
static int begin(struct receiver *r)
{
	struct stream_opts so = {.timeout_ms = PATIENCE_MS};
	auto_json j = NULL;
	struct ho_msg m;
	int x = link_begin(&r->link, &so, r->err);

	x = x ?: link_read(&r->link, r->err);
	if (x == 0 && r->link.rec.type != WIRE_OFFER)
		x = vps_err_set(r->err, VPS_EBADIMAGE, "no offer");
	x = x ?: link_json(&r->link, &j, r->err);
	x = x ?: offer_from_json(j, &r->offer, r->err);
	x = x ?: link_read(&r->link, r->err);
	if (x < 0)
		return x;
	if (r->link.rec.type != WIRE_MSG || wire_msg_get(r->link.rec.data, r->link.rec.len, &m, r->err) < 0 ||
	    m.word != HO_MSG_HELLO)
		return vps_err_set(r->err, VPS_EBADIMAGE, "no hello");
	x = arrival_open(r->h, &r->offer, &r->a, r->err);
	x = x ?: arrival_confirm(&r->a, m.epoch, r->err);
	if (x < 0)
		return x;
	ho_dest(&r->ho, &r->a.file.rec);
	ho_heard(&r->ho, &m);
	return 0;
}

static int step(struct receiver *r, enum ho_act act)
{
	switch (act) {
	case HO_ACT_SAVE: return save(r);
	case HO_ACT_SEND: return send_msg(r);
	case HO_ACT_DISCARD: return arrival_discard(&r->a, r->err);
	case HO_ACT_RELEASE: return release(r);
	default: return 0; /* PARK: nothing stands at a gate any more */
	}
}

static void prepare_all(struct receiver *r);

/* As far as it goes; behind a gate only up to what has to be done outside of it. The step that is next. */
static enum ho_act drive(struct receiver *r, bool at_gate)
{
	enum ho_act act;

	while ((act = ho_next(&r->ho)) != HO_ACT_END) {
		enum fault f;
		bool ok;
		if (at_gate && (act == HO_ACT_RELEASE || act == HO_ACT_PARK || act == HO_ACT_DISCARD))
			break;
		f = fault_at("destination", ++r->steps);
		if (f == FAULT_CUT || (f == FAULT_FULL && act == HO_ACT_SEND))
			link_cut(&r->link);
		if (act == HO_ACT_HEAR) {
			hear(r, f == FAULT_TWICE);
		} else if (act == HO_ACT_PREPARE && f == FAULT_NONE) {
			prepare_all(r);
		} else {
			ok = f != FAULT_FULL && (act == HO_ACT_PREPARE ? prepare(r) : step(r, act)) >= 0;
			fault_kill(f);
			ho_done(&r->ho, ok && f != FAULT_HALF);
		}
	}
	return act;
}

/* Everything of it is there and has not run an instruction. What its source says now decides. */
static int at_gate(void *arg, struct vps_err *err)
{
	struct receiver *r = arg;
	struct hook k = hook_of(r);

	r->gated = true;
	ho_done(&r->ho, true);
	if (drive(r, true) != HO_ACT_RELEASE)
		return vps_err_set(err, VPS_EINTERRUPTED, "its source did not let it go");
	(void)hook_run(&k, "before", "release", NULL);
	announce(r);
	return 0;
}

/* With its memory, PREPARED means that it stands restored at its gate: what could fail of a restore has not. */
static void prepare_all(struct receiver *r)
{
	struct start_more more = {.gate = at_gate, .gate_arg = r, .sums = &r->a.sums};
	struct vps_err why = {0};
	int x = prepare(r);

	if (x == 0 && r->offer.mode == VPS_MIGRATE_LIVE) {
		x = start_locked(&r->a.l, NULL, &more, &why);
		r->released = r->gated && x == 0;
		if (r->released)
			r->took = sys_now_mono() - r->asked;
		if (r->gated) /* its word is with the machine already */
			return;
		vps_err_set(r->err, why.code, "%s", why.msg);
	}
	ho_done(&r->ho, x >= 0);
}

static int run(struct receiver *r)
{
	int x = begin(r);

	if (x < 0) {
		if (r->link.w.s)
			tell(r);
		return x;
	}
	drive(r, false);
	switch (r->ho.end) {
	case HO_END_DONE:
		return r->ho.failed ? vps_err_wrap(r->err, -VPS_ESTATE, "it is here, but did not start") : 0;
	case HO_END_UNDECIDED:
		return vps_err_set(r->err, VPS_ESTATE, "the source is gone before it said whether '%s' is ours",
				   r->offer.spec.name);
	default:
		r->told = true; /* the source is gone and knows, or has heard it */
		return vps_err_set(r->err, ECONNABORTED, "nothing has come of '%s'", r->offer.spec.name);
	}
}

int vps_receive(struct vps_host *h, int in_fd, int out_fd, struct vps_err *err)
{
	struct vps_err why = {0};
	struct receiver r = {
		.h = h,
		.link = LINK_INIT,
		.a = ARRIVAL_INIT,
		.ap = APPLY_INIT,
		.image = IMAGE_IN_INIT,
		.err = &why,
	};
	int x;

	spec_init(&r.offer.spec);
	spec_init(&r.a.l.spec);
	signal(SIGPIPE, SIG_IGN);
	r.link.in = fcntl(in_fd, F_DUPFD_CLOEXEC, 3);
	r.link.out = fcntl(out_fd, F_DUPFD_CLOEXEC, 3);
	x = r.link.in < 0 || r.link.out < 0 ? vps_err_sys(&why, -errno, "receive") : run(&r);
	image_in_done(&r.image);
	apply_done(&r.ap);
	arrival_done(&r.a);
	offer_done(&r.offer);
	link_done(&r.link);
	if (x < 0 && r.told)
		return -why.code;
	return x < 0 ? vps_err_set(err, why.code, "%s", why.msg) : 0;
}
