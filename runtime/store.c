// SPDX-License-Identifier: GPL-2.0-or-later
/* Where definitions live: finding, reading, writing, locking. */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "runtime/internal.h"
#include "runtime/migrate/record.h"
#include "runtime/migrate/suspend.h"
#include "runtime/migrate/migrate.h"

#define SPEC_FILE     "spec.json"
#define SPEC_FILE_MAX (1u << 20)

/* ---- finding ---------------------------------------------------------------- */

static bool parse_id(const char *s, unsigned *ret)
{
	uint64_t v;

	/* "0101" is no other spelling of 101: directory names are compared as text, too. */
	if (*s < '1' || *s > '9' || parse_u64(s, 9999999, &v) < 0)
		return false;
	*ret = (unsigned)v;
	return true;
}

static int compare_ids(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

int store_ids(struct vps_host *h, unsigned **ret, size_t *ret_n, struct vps_err *err)
{
	auto_strv names = NULL;
	unsigned *ids;
	size_t n = 0;
	int r = fs_list(h->instances_fd, ".", &names);

	if (r < 0)
		return vps_err_sys(err, r, "list of '%s/instances'", h->conf.root);
	ids = calloc(strv_len(names) + 1, sizeof(*ids));
	if (!ids)
		return vps_err_sys(err, -ENOMEM, "list");
	for (char **p = names; p && *p; p++)
		if (parse_id(*p, &ids[n]))
			n++;
	qsort(ids, n, sizeof(*ids), compare_ids);
	*ret = ids;
	*ret_n = n;
	return 0;
}

static int find_name(struct vps_host *h, const char *name, unsigned *ret)
{
	char target[ID_STR];
	ssize_t n = readlinkat(h->names_fd, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return parse_id(target, ret) ? 0 : -EINVAL;
}

static int read_spec_at(int dirfd, const char *path, struct vps_spec *ret, struct vps_err *err)
{
	autofree char *text = NULL;
	auto_json j = NULL;
	size_t len;
	int r = fs_read(dirfd, path, SPEC_FILE_MAX, &text, &len);

	if (r == -ENOENT || r == -ENOTDIR)
		return -ENOENT;
	if (r < 0)
		return vps_err_set(err, VPS_ECONF, SPEC_FILE ": %s", vps_code_str(r));
	if (json_parse(text, len, &j, err) < 0) {
		if (err)
			err->code = VPS_ECONF;
		vps_err_wrap(err, -VPS_ECONF, SPEC_FILE);
		return -VPS_ECONF;
	}
	r = spec_from_json(j, ret, err);
	return r < 0 ? vps_err_wrap(err, r, SPEC_FILE) : 0;
}

int store_read_spec(int instance_dir, struct vps_spec *ret, struct vps_err *err)
{
	return read_spec_at(instance_dir, SPEC_FILE, ret, err);
}

int store_read_spec_of(struct vps_host *h, unsigned id, struct vps_spec *ret, struct vps_err *err)
{
	char path[ID_STR + sizeof("/" SPEC_FILE)];

	snprintf(path, sizeof(path), "%u/" SPEC_FILE, id);
	return read_spec_at(h->instances_fd, path, ret, err);
}

static bool looks_like_uuid(const char *s)
{
	return strlen(s) >= 4 && strlen(s) <= 36 && strspn(s, "0123456789abcdef-") == strlen(s);
}

/* Rare, and therefore without an index: reads every definition. */
static int find_uuid(struct vps_host *h, const char *prefix, unsigned *ret, struct vps_err *err)
{
	autofree unsigned *ids = NULL;
	unsigned found = 0;
	size_t n;
	int r = store_ids(h, &ids, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		auto_done(spec_done) struct vps_spec s;
		spec_init(&s);
		if (store_read_spec_of(h, ids[i], &s, NULL) < 0 || !str_starts(s.uuid, prefix))
			continue;
		if (found)
			return vps_err_set(err, VPS_EUSAGE,
					   "'%s' begins the uuid of %u and of %u; give more of it",
					   prefix, found, ids[i]);
		found = ids[i];
	}
	if (!found)
		return -VPS_ENOVPS;
	*ret = found;
	return 0;
}

static int no_such(const char *who, struct vps_err *err)
{
	autofree char *safe = str_escape(who);

	return vps_err_set(err, VPS_ENOVPS, "there is no VPS '%.80s' ('vps list -a' shows all)",
			   safe ? safe : "?");
}

int store_find(struct vps_host *h, const char *who, unsigned *ret, struct vps_err *err)
{
	char path[ID_STR + sizeof("/" SPEC_FILE)];
	int r = -ENOENT;

	if (parse_id(who, ret)) {
		snprintf(path, sizeof(path), "%u/" SPEC_FILE, *ret);
		if (fs_exists(h->instances_fd, path))
			return 0;
	}
	if (*who && !strchr(who, '/') && strlen(who) <= SPEC_NAME_MAX)
		r = find_name(h, who, ret);
	if (r < 0 && looks_like_uuid(who)) {
		r = find_uuid(h, who, ret, err);
		if (r < 0 && r != -VPS_ENOVPS)
			return r;
	}
	return r < 0 ? no_such(who, err) : 0;
}

/* ---- directories ------------------------------------------------------------- */

int store_dir(struct vps_host *h, unsigned id)
{
	char name[ID_STR];

	return fs_open_dir(h->instances_fd, id_str(id, name));
}

int store_run_dir(struct vps_host *h, unsigned id)
{
	char name[ID_STR];

	return fs_open_dir(h->run_fd, id_str(id, name));
}

int store_make_run_dir(struct vps_host *h, unsigned id)
{
	char name[ID_STR];

	if (mkdirat(h->run_fd, id_str(id, name), 0700) < 0 && errno != EEXIST)
		return -errno;
	return fs_open_dir(h->run_fd, name);
}

int store_write_spec(int instance_dir, const struct vps_spec *s, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	int r;

	spec_to_json(s, &o, NULL);
	sb_addc(&sb, '\n');
	r = sb_ok(&sb);
	if (r == 0 && sb.len > SPEC_FILE_MAX)
		return vps_err_set(err, VPS_EUSAGE, "the definition is larger than %u KiB",
				   SPEC_FILE_MAX >> 10);
	r = r ?: fs_write_atomic(instance_dir, SPEC_FILE, sb.s, sb.len, 0600);
	return r < 0 ? vps_err_sys(err, r, "writing the definition") : 0;
}

/* ---- locking ------------------------------------------------------------------ */

/* Only for the message to whoever waits too long, so a failure is no matter. */
static void lock_sign(int fd, const char *verb)
{
	char buf[64];
	int n = snprintf(buf, sizeof(buf), "%d %s\n", (int)getpid(), verb);

	if (ftruncate(fd, 0) == 0 && pwrite(fd, buf, (size_t)n, 0) < 0)
		return;
}

static int locked_by_other(int dir, const char *who, struct vps_err *err)
{
	char buf[64];
	ssize_t n = fs_read_buf(dir, "lock", buf, sizeof(buf));
	char *verb = n > 0 ? strchr(buf, ' ') : NULL;

	if (!verb)
		return vps_err_set(err, VPS_ELOCKED, "'%s' is locked by another command", who);
	*verb++ = '\0';
	return vps_err_set(err, VPS_ELOCKED,
			   "'%s' is locked by 'vps %s', process %s (lock-timeout in vps.conf)",
			   who, verb, buf);
}

int store_lock_dir(struct vps_host *h, int dir, const char *who, const char *verb, int timeout_ms,
		   struct vps_err *err)
{
	int fd = lock_take(dir, "lock", true, timeout_ms);

	if (fd == -EWOULDBLOCK)
		return locked_by_other(dir, who, err);
	if (fd == -ENOENT) /* deleted meanwhile */
		return no_such(who, err);
	if (fd < 0)
		return vps_err_sys(err, fd, "lock of '%s'", who);
	lock_sign(fd, verb);
	return fd;
}

static int lock_id(struct vps_host *h, unsigned id, const char *who, const char *verb,
		   struct vps_locked *l, struct vps_err *err)
{
	l->h = h;
	l->id = id;
	l->dir = store_dir(h, id);
	if (l->dir == -ENOENT)
		return no_such(who, err);
	if (l->dir < 0)
		return vps_err_sys(err, l->dir, "directory of '%s'", who);
	l->lock = store_lock_dir(h, l->dir, who, verb, h->lock_timeout_ms, err);
	return l->lock < 0 ? l->lock : 0;
}

/* The definition of what was locked. Without one, a create or a delete was killed here: finish it.
 */
static int lock_read(struct vps_locked *l, const char *who, struct vps_err *err)
{
	int r = store_read_spec(l->dir, &l->spec, err);

	if (r == -ENOENT) {
		store_scrap(l, NULL);
		return no_such(who, err);
	}
	if (r < 0)
		return vps_err_wrap(err, r, "'%s'", who);
	if (l->spec.id != l->id)
		return vps_err_set(err, VPS_ECONF, "'%s': spec.json is of id %u, not %u", who,
				   l->spec.id, l->id);
	return 0;
}

int vps_lock(struct vps_host *h, const char *who, const char *verb, struct vps_locked *ret,
	     struct vps_err *err)
{
	struct vps_locked l = VPS_LOCKED_INIT;
	struct run_state state = {0};
	bool running = false;
	unsigned id, named;
	int r = store_find(h, who, &id, err);

	if (r < 0)
		return r;
	spec_init(&l.spec);
	r = lock_id(h, id, who, verb, &l, err);
	if (r == 0)
		r = lock_read(&l, who, err);
	/* A name that a killed rename left behind leads to a VPS of another name. */
	if (r == 0 && find_name(h, who, &named) == 0 && named == id && !str_eq(who, l.spec.name)) {
		release_name(h, id, who);
		r = no_such(who, err);
	}
	/* Before anything else: who waits for a frozen disk cannot even be ended. */
	if (r == 0)
		r = still_finish(&l, err);
	if (r == 0)
		r = reconcile(&l, &state, &running, err);
	if (r == 0)
		r = suspended_finish(&l, running, &state, err);
	if (r == 0)
		r = rename_finish(&l, err);
	if (r == 0)
		r = set_finish(&l, err);
	if (r == 0)
		r = rebuild_finish(&l, err);
	if (r == 0)
		r = snap_clean(&l, false, err);
	if (r == 0)
		r = ho_finish(&l, err);
	if (r < 0) {
		locked_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

void locked_done(struct vps_locked *l)
{
	if (!l)
		return;
	spec_done(&l->spec);
	close_fd(&l->dir);
	close_fd(&l->lock);
}
