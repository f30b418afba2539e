// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/record.h"

#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "runtime/events.h"
#include "runtime/migrate/checkpoint.h"

#define HO_FILE	    "handover.json"
#define HO_FILE_MAX 16384
#define HO_VERSION  1

void ho_file_done(struct ho_file *f)
{
	free(f->peer);
	free(f->rsh);
	free(f->far);
	free(f->disk);
	memset(f, 0, sizeof(*f));
}

static int copy_str(const struct json *j, const char *key, char **ret)
{
	return str_set(ret, json_str(json_get(j, key), NULL));
}

static int parse(const struct json *j, struct ho_file *f)
{
	int phase = ho_phase_parse(json_str(json_get(j, "phase"), ""));
	int r;

	if (json_u64(json_get(j, "version"), 0) != HO_VERSION || phase < 0)
		return -VPS_ECONF;
	f->rec.phase = (enum ho_phase)phase;
	f->rec.epoch = json_u64(json_get(j, "epoch"), 0);
	f->rec.id = json_u64(json_get(j, "id"), 0);
	f->was_running = json_bool(json_get(j, "running"), false);
	f->keep = json_bool(json_get(j, "keep"), false);
	r = copy_str(j, "peer", &f->peer);
	r = r ?: copy_str(j, "rsh", &f->rsh);
	r = r ?: copy_str(j, "far", &f->far);
	return r ?: copy_str(j, "disk", &f->disk);
}

int ho_file_read(int dir, struct ho_file *ret, struct vps_err *err)
{
	autofree char *text = NULL;
	auto_json j = NULL;
	struct ho_file f = {.rec = {.phase = HO_HERE}};
	size_t len;
	int r = fs_read(dir, HO_FILE, HO_FILE_MAX, &text, &len);

	if (r == -ENOENT) {
		*ret = f;
		return 0;
	}
	if (r < 0)
		return vps_err_sys(err, r, "read " HO_FILE);
	r = json_parse(text, len, &j, NULL) < 0 ? -VPS_ECONF : parse(j, &f);
	if (r < 0) {
		ho_file_done(&f);
		return vps_err_set(err, VPS_ECONF,
				   HO_FILE " cannot be read: whether this host may run the VPS is not known");
	}
	*ret = f;
	return 0;
}

static int write_file(int dir, const struct ho_file *f)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);

	jo_object(&o, NULL);
	jo_u64(&o, "version", HO_VERSION);
	jo_str(&o, "phase", ho_phase_name(f->rec.phase));
	jo_u64(&o, "epoch", f->rec.epoch);
	jo_u64(&o, "id", f->rec.id);
	jo_bool(&o, "running", f->was_running);
	jo_bool(&o, "keep", f->keep);
	if (f->peer)
		jo_str(&o, "peer", f->peer);
	if (f->rsh)
		jo_str(&o, "rsh", f->rsh);
	if (f->far)
		jo_str(&o, "far", f->far);
	if (f->disk)
		jo_str(&o, "disk", f->disk);
	jo_end_object(&o);
	sb_addc(&sb, '\n');
	return sb_ok(&sb) ?: fs_write_atomic(dir, HO_FILE, sb.s, sb.len, 0600);
}

int ho_file_write(int dir, const struct ho_file *f, struct vps_err *err)
{
	int r;

	if (f->rec.phase != HO_NONE && (f->rec.phase != HO_HERE || f->rec.epoch > 0))
		r = write_file(dir, f);
	else
		r = unlinkat(dir, HO_FILE, 0) < 0 && errno != ENOENT ? -errno : fs_sync_dir(dir, ".");
	return r < 0 ? vps_err_sys(err, r, "write " HO_FILE) : 0;
}

/* ---- the fence ------------------------------------------------------------------------ */

int ho_fence(struct vps_locked *l, const char *done, struct vps_err *err)
{
	const char *name = l->spec.name, *peer;
	auto_ho_file f = {0};
	int r = ho_file_read(l->dir, &f, err);

	if (r < 0)
		return vps_err_wrap(err, r, "'%s'", name);
	peer = f.peer ? f.peer : "another host";
	switch (f.rec.phase) {
	case HO_COMMITTED:
		return vps_err_set(err, VPS_ESTATE,
				   "'%s' cannot be %s: it was handed over to %s, which has not confirmed it yet ('vps "
				   "migrate --continue %s' asks; only if that host is lost for good: 'vps migrate "
				   "--force-here %s')",
				   name, done, peer, name, name);
	case HO_GONE:
		return vps_err_set(err, VPS_ESTATE,
				   "'%s' cannot be %s: it runs on %s, this is the copy that was kept ('vps delete' "
				   "removes it; only if that host is lost for good: 'vps migrate --force-here %s')",
				   name, done, peer, name);
	case HO_PREPARED:
		return vps_err_set(err, VPS_ESTATE,
				   "'%s' cannot be %s: it has come from %s, which has not said yet whether it is ours "
				   "('vps migrate --continue' there decides; only if that host is lost for good: 'vps "
				   "migrate --force-here %s')",
				   name, done, peer, name);
	default: return 0;
	}
}

int ho_undecided(struct vps_locked *l, struct vps_err *err)
{
	auto_ho_file f = {0};

	if (ho_file_read(l->dir, &f, NULL) < 0 || f.rec.phase == HO_COMMITTED || f.rec.phase == HO_PREPARED)
		return vps_err_set(err, VPS_ESTATE,
				   "'%s' is on its way between this host and %s: what is here may be all that there is "
				   "of it ('vps migrate --continue' ends it; delete --force removes it all the same)",
				   l->spec.name, f.peer ? f.peer : "another");
	return 0;
}

int ho_not_moving(struct vps_locked *l, const char *done, struct vps_err *err)
{
	autoclose int lock = lock_take(l->dir, HO_LOCK, true, LOCK_TRY);

	if (lock == -EWOULDBLOCK)
		return vps_err_set(err, VPS_ELOCKED, "'%s' cannot be %s while 'vps migrate' is at it",
				   l->spec.name, done);
	return 0;
}

bool ho_is_elsewhere(const struct vps_locked *l)
{
	auto_ho_file f = {0};

	return ho_file_read(l->dir, &f, NULL) < 0 || !ho_may_run(f.rec.phase);
}

/* ---- what a dead process left ----------------------------------------------------------- */

/* It is ours, and ran: let it go on. */
static int go_on(struct vps_locked *l, const struct ho_file *f, struct vps_err *err)
{
	struct run_state s;

	if (!f->was_running || need_running(l, &s, NULL) == 0)
		return 0;
	return start_locked(l, NULL, NULL, err);
}

static int act(struct vps_locked *l, struct ho_file *f, struct handover *h, enum ho_act a, struct vps_err *err)
{
	switch (a) {
	case HO_ACT_SAVE:
		f->rec = h->want;
		return ho_file_write(l->dir, f, err);
	case HO_ACT_THAW:
	case HO_ACT_RELEASE: return go_on(l, f, err);
	case HO_ACT_FINISH: return f->keep ? 0 : delete_locked(l, err);
	default: return -ENOTCONN;
	}
}

int ho_finish(struct vps_locked *l, struct vps_err *err)
{
	autoclose int lock = -1;
	auto_ho_file f = {0};
	enum ho_phase was;
	struct handover h;
	enum ho_act a;
	int r = ho_file_read(l->dir, &f, err);

	if (r < 0)
		return vps_err_wrap(err, r, "'%s'", l->spec.name);
	was = f.rec.phase;
	if (!ho_wants_recovery(was) || (was == HO_GONE && f.keep))
		return 0;
	lock = lock_take(l->dir, HO_LOCK, true, LOCK_TRY);
	if (lock < 0)
		return 0; /* somebody is at it */
	if (fs_exists(l->dir, HO_MEMORY)) {
		checkpoint_forget(l, NULL);
		(void)fs_remove_tree(l->dir, HO_MEMORY);
	}
	ho_recover(&h, &f.rec);
	while ((a = ho_next(&h)) != HO_ACT_END)
		ho_done(&h, act(l, &f, &h, a, NULL) >= 0);
	if (was == HO_GONE)
		return vps_err_set(err, VPS_ENOVPS, "'%s' has moved to %s", l->spec.name,
				   f.peer ? f.peer : "another host");
	if (was != HO_ARRIVED)
		event_add(l->h->run_fd, l->id, l->spec.name, "migrate-undone", NULL, 0);
	return 0;
}
