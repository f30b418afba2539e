// SPDX-License-Identifier: GPL-2.0-or-later
/* Snapshots on disk: made under a name that begins with a dot, renamed when whole, renamed back to be removed. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#include "base/fs.h"
#include "base/json.h"
#include "runtime/migrate/migrate.h"

#define NEW	    ".new."
#define OLD	    ".old."
#define USE	    ".use."
#define ENTRY_MAX   (sizeof(NEW) + SPEC_NAME_MAX)
#define VERSION	    1

void vps_snapshot_done(struct vps_snapshot *s)
{
	if (!s)
		return;
	free(s->name);
	free(s->description);
	free(s->how);
	free(s->image);
	free(s->image_digest);
	free(s->disk_backend);
	memset(s, 0, sizeof(*s));
}

void snap_init(struct snap *s)
{
	*s = (struct snap)SNAP_INIT;
	spec_init(&s->spec);
}

void snap_done(struct snap *s)
{
	vps_snapshot_done(&s->s);
	spec_done(&s->spec);
	close_fd(&s->dir);
}

void snap_disk(const struct vps_spec *s, struct img_disk_spec *ret)
{
	plan_disk(s, ret);
}

/* ---- the document ---------------------------------------------------------------------- */

static int write_file(const struct snap *s)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	int r;

	jo_object(&o, NULL);
	jo_u64(&o, "version", VERSION);
	jo_str(&o, "name", s->s.name);
	jo_str(&o, "description", s->s.description);
	jo_u64(&o, "created", s->s.created);
	jo_u64(&o, "expires", s->s.expires);
	jo_bool(&o, "scheduled", s->s.scheduled);
	jo_str(&o, "how", s->s.how);
	jo_u64(&o, "still_us", s->s.still_us);
	jo_bool(&o, "booted", s->booted);
	spec_to_json(&s->spec, &o, "spec");
	jo_end_object(&o);
	sb_addc(&sb, '\n');
	r = sb_ok(&sb);
	return r ?: fs_write_atomic(s->dir, SNAPSHOT_FILE, sb.s, sb.len, 0600);
}

static int fill(struct snap *s)
{
	struct img_disk_usage u;
	struct img_disk_spec d;
	int r = str_set(&s->s.image, s->spec.image);

	r = r ?: str_set(&s->s.image_digest, s->spec.image_digest);
	r = r ?: str_set(&s->s.disk_backend, s->spec.disk_backend);
	s->s.disk = s->spec.disk;
	s->s.memory = snap_has_memory(s->dir);
	snap_disk(&s->spec, &d);
	s->s.used = d.backend == DISK_LOOP && img_disk_usage(s->dir, &d, -1, &u) == 0 ? u.used : UINT64_MAX - 1;
	return r;
}

static int read_file(int dir, struct snap *ret, struct vps_err *err)
{
	auto_json j = NULL;
	int r = json_load(dir, SNAPSHOT_FILE, &j, err);

	if (r < 0)
		return r;
	if (json_int(json_get(j, "version"), 0) != VERSION)
		return vps_err_set(err, VPS_ECONF, "its version is another; it is of a newer vps");
	r = str_set(&ret->s.name, json_str(json_get(j, "name"), NULL));
	r = r ?: str_set(&ret->s.description, json_str(json_get(j, "description"), NULL));
	r = r ?: str_set(&ret->s.how, json_str(json_get(j, "how"), NULL));
	if (r < 0)
		return vps_err_sys(err, r, "snapshot");
	ret->s.created = json_u64(json_get(j, "created"), 0);
	ret->s.expires = json_u64(json_get(j, "expires"), 0);
	ret->s.still_us = json_u64(json_get(j, "still_us"), 0);
	ret->s.scheduled = json_bool(json_get(j, "scheduled"), false);
	ret->booted = json_bool(json_get(j, "booted"), true);
	return spec_from_json(json_get(j, "spec"), &ret->spec, err);
}

static int open_dir(int instance, const char *name)
{
	autofree char *path = str_fmt(SNAPSHOTS "/%s", name);

	return path ? fs_open_dir(instance, path) : -ENOMEM;
}

static int snap_read(int instance, const char *name, struct snap *ret, struct vps_err *err)
{
	auto_snap s;
	int r;

	snap_init(&s);
	s.dir = open_dir(instance, name);
	if (s.dir < 0)
		return s.dir;
	r = read_file(s.dir, &s, err);
	if (r == 0) {
		r = fill(&s);
		if (r < 0)
			vps_err_sys(err, r, "snapshot");
	}
	if (r < 0)
		return r;
	*ret = s;
	snap_init(&s);
	return 0;
}

static int no_such(struct vps_locked *l, const char *name, struct vps_err *err)
{
	auto_strv names = NULL;
	auto_strbuf sb = STRBUF_INIT;
	autofree char *safe = str_escape(name);

	(void)snap_names(l->dir, &names);
	for (size_t i = 0; i < 5 && names && names[i]; i++)
		sb_addf(&sb, "%s%s", i ? ", " : "; there is ", names[i]);
	return vps_err_set(err, VPS_ENOVPS, "'%s' has no snapshot '%.80s'%s%s", l->spec.name, safe ? safe : "?",
			   names ? sb_str(&sb) : "; it has none", strv_len(names) > 5 ? ", …" : "");
}

int snap_open(struct vps_locked *l, const char *name, struct snap *ret, struct vps_err *err)
{
	int r = spec_name_check(name, NULL) < 0 ? -ENOENT : snap_read(l->dir, name, ret, err);

	if (r == -ENOENT)
		return no_such(l, name, err);
	return r < 0 ? vps_err_wrap(err, r, "snapshot '%s' of '%s'", name, l->spec.name) : 0;
}

/* ---- what there is ---------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	const struct vps_snapshot *x = a, *y = b;

	if (x->created != y->created)
		return x->created < y->created ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int list(int instance, struct vps_snapshot **ret, size_t *ret_n)
{
	auto_strv entries = NULL;
	struct vps_snapshot *v = NULL;
	size_t n = 0, cap = 0;
	int r = fs_list(instance, SNAPSHOTS, &entries);

	for (char **p = entries; r == 0 && p && *p; p++) {
		auto_snap s;

		snap_init(&s);
		if (**p == '.' || snap_read(instance, *p, &s, NULL) < 0)
			continue;
		r = str_set(&s.s.name, *p); /* by which it is found */
		if (r == 0 && mem_grow(v, n, cap) < 0)
			r = -ENOMEM;
		if (r == 0) {
			v[n++] = s.s;
			memset(&s.s, 0, sizeof(s.s));
		}
	}
	if (r < 0 && r != -ENOENT) {
		vps_snapshot_list_free(v, n);
		return r;
	}
	if (n)
		qsort(v, n, sizeof(*v), by_time);
	*ret = v;
	*ret_n = n;
	return 0;
}

int snap_names(int instance, char ***ret)
{
	struct vps_snapshot *v = NULL;
	auto_strv names = NULL;
	size_t n = 0;
	int r = list(instance, &v, &n);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = strv_add(&names, v[i].name);
	vps_snapshot_list_free(v, n);
	if (r == 0)
		*ret = take_ptr(names);
	return r;
}

void vps_snapshot_list_free(struct vps_snapshot *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		vps_snapshot_done(&s[i]);
	free(s);
}

int vps_snapshot_list(struct vps_host *h, const char *who, struct vps_snapshot **ret, size_t *ret_n,
		      struct vps_err *err)
{
	autoclose int dir = -1;
	unsigned id;
	int r = store_find(h, who, &id, err);

	if (r < 0)
		return r;
	dir = store_dir(h, id);
	r = dir < 0 ? dir : list(dir, ret, ret_n);
	return r < 0 ? vps_err_sys(err, r, "snapshots of '%s'", who) : 0;
}

/* ---- away --------------------------------------------------------------------------------- */

static void pin_owner(const struct vps_locked *l, const char *name, char *ret, size_t size)
{
	snprintf(ret, size, "%u-snap-%s", l->id, name);
}

static int unpin(struct vps_locked *l, const char *name, struct vps_err *err)
{
	char owner[ID_STR + 8 + SPEC_NAME_MAX];
	struct img_store *images;
	int r = vps_host_images(l->h, &images, err);

	if (r < 0)
		return r;
	pin_owner(l, name, owner, sizeof(owner));
	r = img_unpin(images, owner);
	return r < 0 && r != -ENOENT ? vps_err_sys(err, r, "unpin the image") : 0;
}

int snap_scrap(struct vps_locked *l, const char *entry, struct vps_err *err)
{
	autofree char *path = str_fmt(SNAPSHOTS "/%s", entry);
	autofree char *whole = str_fmt(SNAPSHOTS "/%s", *entry == '.' ? entry + strlen(NEW) : entry);
	autoclose int dir = path ? fs_open_dir(l->dir, path) : -ENOMEM;
	int r = dir < 0 ? dir : img_disk_destroy(dir, DISK_AUTO, err);

	if (r < 0)
		return r == -ENOENT ? 0 : vps_err_sys(err, r, "remove a snapshot");
	/* A half-made one of a name that is taken never got as far as to a pin. */
	if (!str_starts(entry, USE) && whole && (*entry != '.' || !fs_exists(l->dir, whole)))
		r = unpin(l, whole + strlen(SNAPSHOTS "/"), err);
	r = r ?: fs_remove_tree(l->dir, path);
	return r < 0 ? vps_err_sys(err, r, "remove a snapshot") : 0;
}

static bool is_used(int instance, const char *entry)
{
	autoclose int dir = open_dir(instance, entry);

	return dir >= 0 && flock(dir, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

bool snap_is_left(int instance)
{
	auto_strv entries = NULL;

	if (fs_list(instance, SNAPSHOTS, &entries) < 0)
		return false;
	for (char **p = entries; p && *p; p++)
		if (**p == '.' && !is_used(instance, *p))
			return true;
	return false;
}

int snap_clean(struct vps_locked *l, bool all, struct vps_err *err)
{
	auto_strv entries = NULL;
	int r = fs_list(l->dir, SNAPSHOTS, &entries);

	if (r < 0)
		return r == -ENOENT ? 0 : vps_err_sys(err, r, "look at the snapshots");
	for (char **p = entries; r == 0 && p && *p; p++)
		if (all || (**p == '.' && !is_used(l->dir, *p)))
			r = snap_scrap(l, *p, err);
	return r;
}

int snap_hold(struct snap *s, struct vps_err *err)
{
	if (flock(s->dir, LOCK_SH | LOCK_NB) < 0)
		return vps_err_set(err, VPS_ELOCKED, "the snapshot is being removed");
	return 0;
}

int snap_remove(struct vps_locked *l, const char *name, struct vps_err *err)
{
	autofree char *from = str_fmt(SNAPSHOTS "/%s", name), *old = str_fmt(OLD "%s", name);
	autofree char *to = str_fmt(SNAPSHOTS "/" OLD "%s", name);
	int r = from && to && old ? 0 : -ENOMEM;

	if (r == 0 && is_used(l->dir, name))
		return vps_err_set(err, VPS_ELOCKED, "snapshot '%s' is in use by a backup", name);
	if (r == 0 && renameat(l->dir, from, l->dir, to) < 0)
		r = -errno;
	r = r ?: fs_sync_dir(l->dir, SNAPSHOTS);
	return r < 0 ? vps_err_sys(err, r, "remove snapshot '%s'", name) : snap_scrap(l, old, err);
}

/* ---- making ---------------------------------------------------------------------------------- */

static int begin_dir(struct vps_locked *l, const char *entry, int *ret, struct vps_err *err)
{
	autofree char *path = str_fmt(SNAPSHOTS "/%s", entry);
	int r = path ? fs_mkdir_p(l->dir, path, 0700) : -ENOMEM;

	*ret = r < 0 ? r : fs_open_dir(l->dir, path);
	if (*ret >= 0 && flock(*ret, LOCK_EX | LOCK_NB) < 0)
		return vps_err_sys(err, -errno, "lock a snapshot");
	return *ret < 0 ? vps_err_sys(err, *ret, "make a snapshot") : 0;
}

static int describe(struct vps_locked *l, const char *name, const struct vps_snapshot_opts *o, const struct still *st,
		    struct snap *s)
{
	int r = spec_copy(&s->spec, &l->spec);

	if (r < 0)
		spec_init(&s->spec);
	r = r ?: str_set(&s->s.name, name);
	r = r ?: str_set(&s->s.description, o ? o->description : NULL);
	r = r ?: str_set(&s->s.how, still_name(st));
	s->s.created = (uint64_t)time(NULL);
	s->s.expires = o && o->expiry_ms ? s->s.created + (o->expiry_ms + 999) / 1000 : 0;
	s->s.scheduled = o && o->scheduled;
	s->booted = fs_exists(l->dir, FIRST_BOOT_DONE);
	return r;
}

static int copy(struct vps_locked *l, const char *name, const struct vps_snapshot_opts *o, const struct progress *p,
		struct snap *s, struct vps_err *err)
{
	auto_done(still_done) struct still st = STILL_INIT;
	struct img_disk_spec d;
	int r = still_open(l, &st, err);

	if (r < 0)
		return r;
	r = describe(l, name, o, &st, s);
	if (r < 0)
		return vps_err_sys(err, r, "snapshot");
	plan_disk(&l->spec, &d);
	s->s.memory = o && o->memory;
	r = s->s.memory ? snap_memory_copy(l, s->dir, &d, &st, p, err)
			: img_disk_copy(l->dir, &d, s->dir, NULL, still_of(&st), p, err);
	s->s.still_us = st.frozen_us;
	return r;
}

/* A backup's: not to be found by anybody, gone when the lock on it is. */
static int make_used(struct vps_locked *l, const struct vps_snapshot_opts *o, const struct progress *p, struct snap *s,
		     struct vps_err *err)
{
	char entry[ENTRY_MAX];
	int r;

	snprintf(entry, sizeof(entry), USE "%d", (int)getpid());
	r = begin_dir(l, entry, &s->dir, err);
	r = r ?: copy(l, entry, o, p, s, err);
	if (r < 0)
		snap_scrap(l, entry, NULL);
	return r;
}

static int make_named(struct vps_locked *l, const char *name, const struct vps_snapshot_opts *o,
		      const struct progress *p, struct snap *s, struct vps_err *err)
{
	autofree char *from = str_fmt(SNAPSHOTS "/" NEW "%s", name), *to = str_fmt(SNAPSHOTS "/%s", name);
	char owner[ID_STR + 8 + SPEC_NAME_MAX];
	struct img_store *images;
	int r = from && to ? vps_host_images(l->h, &images, err) : vps_err_sys(err, -ENOMEM, "snapshot");

	if (r == 0 && fs_exists(l->dir, to))
		return vps_err_set(err, VPS_EEXISTS, "'%s' has a snapshot '%s' already", l->spec.name, name);
	r = r ?: begin_dir(l, from ? from + strlen(SNAPSHOTS "/") : "", &s->dir, err);
	if (r < 0)
		return r;
	pin_owner(l, name, owner, sizeof(owner));
	r = img_pin(images, owner, l->spec.image_digest, err);
	r = r ?: copy(l, name, o, p, s, err);
	if (r == 0) {
		r = write_file(s);
		if (r == 0 && renameat(l->dir, from, l->dir, to) < 0)
			r = -errno;
		r = r ?: fs_sync_dir(l->dir, SNAPSHOTS);
		r = r ?: fill(s);
		if (r < 0)
			vps_err_sys(err, r, "write the snapshot");
	}
	if (r < 0)
		snap_scrap(l, from + strlen(SNAPSHOTS "/"), NULL);
	return r;
}

int snap_make(struct vps_locked *l, const char *name, const struct vps_snapshot_opts *o, const struct progress *p,
	      struct snap *ret, struct vps_err *err)
{
	auto_snap s;
	int r;

	snap_init(&s);
	r = name ? make_named(l, name, o, p, &s, err) : make_used(l, o, p, &s, err);
	if (r < 0)
		return r;
	*ret = s;
	snap_init(&s);
	return 0;
}
