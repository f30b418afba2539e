// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Claiming ids and names, and scrapping what an unfinished create or delete holds.
 *
 * A create that is killed, by the last thing that it had done:
 *   mkdir instances/<id>     an empty directory, with a free lock
 *   name, leases, pin, disk  the same with more in it; spec.json is not there yet
 *   spec.json                done: the VPS exists
 * A delete that is killed: spec.json was renamed to spec.json.deleting, so the VPS is gone; the
 * rest is as after a killed create. In both cases whoever meets the directory without spec.json and
 * gets its lock calls store_scrap: list, create, a command that names the id, host gc.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/migrate/migrate.h"

int id_base_of(const struct vps_conf *c, unsigned id, uint32_t *ret, struct vps_err *err)
{
	uint64_t base = (uint64_t)c->uid_base + (uint64_t)id * RUNTIME_IDS_PER_VPS;

	if (base + RUNTIME_IDS_PER_VPS > RUNTIME_UID_END)
		return vps_err_set(err, VPS_ERESOURCE,
				   "id %u is too large: its user ids would pass %u (uid-base in "
				   "vps.conf)",
				   id, RUNTIME_UID_END);
	*ret = (uint32_t)base;
	return 0;
}

static unsigned last_id(const struct vps_conf *c)
{
	return (RUNTIME_UID_END - c->uid_base) / RUNTIME_IDS_PER_VPS - 1;
}

/* Directory and lock of one id, both or neither. -EEXIST when it is taken, or just being scrapped.
 */
static int claim_one(struct vps_host *h, unsigned id, const char *verb, struct vps_locked *l)
{
	char name[ID_STR];
	int r;

	if (mkdirat(h->instances_fd, id_str(id, name), 0700) < 0)
		return -errno;
	l->h = h;
	l->id = id;
	l->dir = fs_open_dir(h->instances_fd, name);
	if (l->dir < 0)
		return l->dir == -ENOENT ? -EEXIST : l->dir;
	r = store_lock_dir(h, l->dir, name, verb, LOCK_TRY, NULL);
	if (r >= 0) {
		l->lock = r;
		return 0;
	}
	close_fd(&l->dir);
	return r == -VPS_ELOCKED || r == -VPS_ENOVPS ? -EEXIST : r;
}

/* The hint counts on, as pids do: an id that a script still remembers is not soon somebody else's.
 */
static unsigned read_hint(struct vps_host *h)
{
	char buf[ID_STR];
	uint64_t v;

	if (fs_read_buf(h->root_fd, "next", buf, sizeof(buf)) <= 0 ||
	    parse_u64(buf, last_id(&h->conf), &v) < 0 || v < h->conf.first_id)
		return h->conf.first_id;
	return (unsigned)v;
}

static int claim_next(struct vps_host *h, const char *verb, struct vps_locked *l,
		      struct vps_err *err)
{
	unsigned first = h->conf.first_id, last = last_id(&h->conf), id = read_hint(h);
	char buf[ID_STR];

	for (unsigned tried = 0; tried <= last - first; tried++, id = id < last ? id + 1 : first) {
		int r = claim_one(h, id, verb, l);
		if (r == -EEXIST)
			continue;
		if (r < 0)
			return vps_err_sys(err, r, "directory of %u", id);
		id_str(id < last ? id + 1 : first, buf);
		/* Only a hint: no fsync, and losing it costs some mkdir calls. */
		(void)fs_write_rename(h->root_fd, "next", buf, strlen(buf), 0600);
		return 0;
	}
	return vps_err_set(err, VPS_ERESOURCE, "all ids from %u to %u are taken", first, last);
}

int claim_id(struct vps_host *h, unsigned want, const char *verb, struct vps_locked *l,
	     struct vps_err *err)
{
	autoclose int store = -1;
	uint32_t base;
	int r;

	if (want) {
		r = id_base_of(&h->conf, want, &base, err);
		if (r < 0)
			return r;
		/* What a killed command left under that number goes first. */
		(void)store_scrap_id(h, want, NULL);
		r = claim_one(h, want, verb, l);
		if (r == -EEXIST)
			return vps_err_set(err, VPS_EEXISTS, "id %u is taken", want);
		return r < 0 ? vps_err_sys(err, r, "directory of %u", want) : 0;
	}
	store = lock_take(h->root_fd, STORE_LOCK, true, h->lock_timeout_ms);
	if (store < 0)
		return vps_err_sys(err, store, "lock of the store");
	fs_remove_temps(h->root_fd, ".", 0, false); /* of `next`, which is written under this lock */
	return claim_next(h, verb, l, err);
}

/* ---- names -------------------------------------------------------------------- */

/* Id that a name leads to, 0 when to none. */
static unsigned name_target(struct vps_host *h, const char *name)
{
	char target[ID_STR];
	uint64_t id;
	ssize_t n = readlinkat(h->names_fd, name, target, sizeof(target) - 1);

	if (n <= 0)
		return 0;
	target[n] = '\0';
	return parse_u64(target, UINT32_MAX, &id) == 0 ? (unsigned)id : 0;
}

/* A claim is stale when its VPS is gone or has another name (a killed rename). A directory without
 * a definition may be a create under way: its lock tells. */
static bool name_is_stale(struct vps_host *h, unsigned id, const char *name)
{
	auto_done(spec_done) struct vps_spec s;
	int r;

	spec_init(&s);
	r = store_read_spec_of(h, id, &s, NULL);
	if (r == -ENOENT) { /* gone, or a create under way: then it is locked */
		r = store_scrap_id(h, id, NULL);
		if (r < 0)
			return false;
		r = store_read_spec_of(h, id, &s, NULL);
		return r == -ENOENT;
	}
	if (r < 0 || str_eq(s.name, name))
		return false;
	/* a rename may be under way */
	autoclose int dir = store_dir(h, id);
	autoclose int lock = dir < 0 ? -1 : lock_take(dir, "lock", true, LOCK_TRY);
	return lock >= 0;
}

int claim_name(struct vps_host *h, unsigned id, const char *name, struct vps_err *err)
{
	char target[ID_STR];

	id_str(id, target);
	for (int tries = 0; tries < 3; tries++) {
		unsigned holder;
		if (symlinkat(target, h->names_fd, name) == 0)
			return 0;
		if (errno != EEXIST)
			return vps_err_sys(err, -errno, "name '%s'", name);
		holder = name_target(h, name);
		if (holder == id)
			return 0;
		if (holder && !name_is_stale(h, holder, name))
			return vps_err_set(err, VPS_EEXISTS, "the name '%s' is taken, by VPS %u",
					   name, holder);
		if (holder)
			release_name(h, holder, name);
	}
	return vps_err_set(err, VPS_EEXISTS, "the name '%s' is taken", name);
}

/* Only if it is (still) that id's. The store's lock makes looking and removing one step. */
void release_name(struct vps_host *h, unsigned id, const char *name)
{
	autoclose int store = lock_take(h->root_fd, STORE_LOCK, true, h->lock_timeout_ms);

	if (store >= 0 && name_target(h, name) == id)
		unlinkat(h->names_fd, name, 0);
}

static void release_all_names(struct vps_host *h, unsigned id)
{
	auto_strv names = NULL;

	if (fs_list(h->names_fd, ".", &names) < 0)
		return;
	for (char **p = names; p && *p; p++)
		if (name_target(h, *p) == id)
			release_name(h, id, *p);
}

/* ---- scrapping ----------------------------------------------------------------- */

static int remove_run_dir(struct vps_host *h, unsigned id)
{
	char name[ID_STR];

	return fs_remove_tree(h->run_fd, id_str(id, name));
}

/* The directory goes last, and with it the lock. Somebody may have made a new lock file in it the
 * moment after: then it is not empty, and we try again. */
static int remove_instance(struct vps_host *h, unsigned id)
{
	char name[ID_STR];
	int r = -EBUSY;

	for (int tries = 0; tries < 10 && r < 0; tries++) {
		r = fs_remove_tree(h->instances_fd, id_str(id, name));
		if (r != -ENOTEMPTY && r != -ENOENT)
			break;
	}
	return r;
}

static int unpin(struct img_store *images, unsigned id)
{
	char owner[ID_STR + sizeof("-rebuild")];
	int r = img_unpin(images, id_str(id, owner));

	if (r < 0 && r != -ENOENT)
		return r;
	snprintf(owner, sizeof(owner), "%u-rebuild", id);
	r = img_unpin(images, owner);
	return r == -ENOENT ? 0 : r;
}

/* l->spec.id 0: nothing is known but the id. */
int store_scrap(struct vps_locked *l, struct vps_err *err)
{
	struct vps_host *h = l->h;
	struct img_store *images;
	struct net_host *net;
	int r = teardown(h, l->id, err);

	r = r ?: img_disk_destroy(l->dir, DISK_AUTO, err);
	r = r ?: switch_clean(l, err);
	r = r ?: snap_clean(l, true, err);
	r = r ?: vps_host_images(h, &images, err);
	r = r ?: unpin(images, l->id);
	r = r ?: host_net(h, &net, err);
	if (r < 0)
		return vps_err_wrap(err, r, "removing VPS %u", l->id);
	/* Who knows what it has need not look at what everybody has. */
	if (l->spec.id && !fs_exists(l->dir, LEASING_FILE)) {
		lease_give_back(h, &l->spec, NULL);
		release_name(h, l->id, l->spec.name);
	} else {
		r = net_unlease_all(net, l->id, err);
		if (r < 0)
			return vps_err_wrap(err, r, "removing VPS %u", l->id);
		release_all_names(h, l->id);
	}
	r = remove_run_dir(h, l->id);
	r = r ?: remove_instance(h, l->id);
	return r < 0 ? vps_err_sys(err, r, "removing the files of VPS %u", l->id) : 0;
}

static int scrap_id(struct vps_host *h, unsigned id, int timeout_ms, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	char name[ID_STR];
	int r;

	spec_init(&l.spec);
	l.h = h;
	l.id = id;
	l.dir = store_dir(h, id);
	if (l.dir < 0)
		return l.dir == -ENOENT ? 0 : l.dir;
	l.lock = store_lock_dir(h, l.dir, id_str(id, name), "scrap", timeout_ms, err);
	if (l.lock == -VPS_ENOVPS)
		return 0;
	if (l.lock < 0)
		return l.lock;
	if (fs_exists(l.dir, "spec.json"))
		return 0;
	r = store_scrap(&l, err);
	return r < 0 ? r : 1;
}

int store_scrap_id(struct vps_host *h, unsigned id, struct vps_err *err)
{
	return scrap_id(h, id, LOCK_TRY, err);
}

void store_scrap_wait(struct vps_host *h, unsigned id)
{
	(void)scrap_id(h, id, h->lock_timeout_ms, NULL);
}
