/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host check and host gc: everything of a VPS that is not there, or not running, found from the outside
 * in: each kind of thing is listed where it lives and held against the definitions and run states. What a
 * command holds the lock of at this moment is its business and left alone.
 */
#include "runtime/hostcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/fs.h"
#include "runtime/container/container.h"
#include "runtime/keeper.h"
#include "runtime/lxcfs.h"
#include "runtime/microvm/microvm.h"
#include "runtime/migrate/migrate.h"
#include "runtime/monitor.h"

#define GC_HELP	   "`vps host gc` removes it"
#define KEEPER_TRIES  20
#define KEEPER_NAP_MS 50
#define TEMP_OLD_S 60 /* a younger temp file may be somebody's work */

void check_add(struct check *c, enum check_kind kind, unsigned id, const char *help, const char *fmt, ...)
{
	struct vps_finding f = {.id = id, .leftover = kind != CHECK_NOTE, .fixed = kind == CHECK_FIXED};
	va_list ap;
	char text[512];

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f.what = strdup(text);
	f.help = help && kind != CHECK_FIXED ? strdup(help) : NULL;
	if (!f.what || mem_grow(c->found, c->n, c->cap) < 0) {
		free(f.what);
		free(f.help);
		c->oom = -ENOMEM;
		return;
	}
	c->found[c->n++] = f;
}

/* A leftover that was tried to be mended, or would be. */
static void leftover(struct check *c, unsigned id, int r, const struct vps_err *err, const char *what)
{
	if (!c->fix)
		check_add(c, CHECK_LEFTOVER, id, GC_HELP, "%s", what);
	else if (r < 0)
		check_add(c, CHECK_LEFTOVER, id, err->code ? err->msg : vps_code_str(r), "%s", what);
	else
		check_add(c, CHECK_FIXED, id, NULL, "%s", what);
}

static bool is_in(const unsigned *ids, size_t n, unsigned id)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static bool parse_vps_id(const char *s, unsigned *ret)
{
	uint64_t v;

	if (*s < '1' || *s > '9' || parse_u64(s, 9999999, &v) < 0)
		return false;
	*ret = (unsigned)v;
	return true;
}

/* Does a command hold this VPS's lock just now? */
static bool is_busy(struct vps_host *h, unsigned id)
{
	autoclose int dir = store_dir(h, id);
	autoclose int lock = dir < 0 ? -1 : lock_take(dir, "lock", true, LOCK_TRY);

	return dir >= 0 && lock == -EWOULDBLOCK;
}

static int add_id(unsigned **v, size_t *n, unsigned id)
{
	unsigned *p = reallocarray(*v, *n + 1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p[(*n)++] = id;
	*v = p;
	return 0;
}

/* ---- runs -------------------------------------------------------------------------- */

/* What is wrong with a VPS's run, in words; NULL when nothing is. ret_live: its init runs. */
static const char *run_trouble(struct vps_host *h, unsigned id, bool *ret_live)
{
	autoclose int run_dir = store_run_dir(h, id);
	autoclose int init = -1;
	struct run_state s;
	int r;

	*ret_live = false;
	if (run_dir < 0)
		return NULL;
	r = run_state_read(run_dir, &s);
	if (r == -ENOENT)
		return NULL;
	if (r < 0)
		return "its state.json is unreadable";
	if (!run_state_is_of_this_boot(&s))
		return "run state of an earlier boot";
	if (s.phase == RUN_STARTING)
		return monitor_alive(run_dir) == 0 ? "an interrupted start" : NULL;
	init = proc_ident_open(&s.init);
	*ret_live = init >= 0;
	if (monitor_alive(run_dir) != 0)
		return NULL;
	return *ret_live ? "it runs without a monitor" : "its end was not cleaned up";
}

/* What an interrupted copy of a disk left. */
static const char *copy_trouble(struct vps_host *h, unsigned id)
{
	autoclose int run_dir = store_run_dir(h, id);
	autoclose int dir = store_dir(h, id);

	if (still_is_left(run_dir) && !is_busy(h, id))
		return "an interrupted copy of its disk left it frozen";
	if (dir >= 0 && (fs_exists(dir, "switch") || snap_is_left(dir)) && !is_busy(h, id))
		return "an interrupted copy of its disk";
	return NULL;
}

static const char *trouble_of(struct vps_host *h, unsigned id, bool *ret_live)
{
	return run_trouble(h, id, ret_live) ?: copy_trouble(h, id);
}

/* Taking the lock reconciles. */
static int mend_run(struct vps_host *h, unsigned id, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	char who[ID_STR];
	bool live;
	int r = vps_lock(h, id_str(id, who), "gc", &l, err);

	if (r < 0)
		return r;
	return trouble_of(h, id, &live) ? vps_err_set(err, VPS_ESTATE, "it could not be mended") : 0;
}

static void check_runs(struct check *c)
{
	for (size_t i = 0; i < c->n_defined; i++) {
		unsigned id = c->defined[i];
		bool live, busy = is_busy(c->h, id);
		const char *trouble = trouble_of(c->h, id, &live);

		if (trouble && !busy) {
			struct vps_err err = {0};
			int r = c->fix ? mend_run(c->h, id, &err) : 0;

			leftover(c, id, r, &err, trouble);
			run_trouble(c->h, id, &live);
		}
		if (busy && add_id(&c->busy, &c->n_busy, id) < 0)
			c->oom = -ENOMEM;
		if ((live || busy) && add_id(&c->live, &c->n_live, id) < 0)
			c->oom = -ENOMEM;
	}
}

/* ---- nobody starts it meanwhile ----------------------------------------------------------- */

struct check_held {
	unsigned id;
	int lock;
};

/* Its lock, -1 where there is no directory of it: false when it cannot be had. Tried, never waited for: the
 * network's own lock may be held here already. */
static bool try_lock(struct check *c, unsigned id, int *ret_lock)
{
	autoclose int dir = store_dir(c->h, id);
	int lock = dir < 0 ? dir : lock_take(dir, "lock", true, LOCK_TRY);

	*ret_lock = lock < 0 ? -1 : lock;
	return lock >= 0 || lock == -ENOENT;
}

/* May things go of a VPS that does not run (want_live: that does)? Its lock comes with the answer: without it, it could
 * start between the look and the deed. */
static bool hold(struct check *c, unsigned id, bool want_live, int *ret_lock)
{
	autoclose int lock = -1;
	bool live;

	if (!try_lock(c, id, &lock))
		return false;
	run_trouble(c->h, id, &live);
	if (live != want_live)
		return false;
	*ret_lock = lock < 0 ? -1 : take_fd(lock);
	return true;
}

/* The same, and its lock stays with us until release_held. */
static bool keep_lock(struct check *c, unsigned id, bool want_live)
{
	struct check_held now = {.id = id, .lock = -1};

	for (size_t i = 0; i < c->n_held; i++)
		if (c->held[i].id == id)
			return true;
	if (!hold(c, id, want_live, &now.lock))
		return false;
	if (!c->fix || now.lock < 0) {
		close_fd(&now.lock);
		return true;
	}
	if (mem_grow(c->held, c->n_held, c->cap_held) < 0) {
		c->oom = -ENOMEM;
		close_fd(&now.lock);
		return false;
	}
	c->held[c->n_held++] = now;
	return true;
}

static void release_held(struct check *c)
{
	while (c->n_held > 0)
		close_fd(&c->held[--c->n_held].lock);
}

/* ---- definitions --------------------------------------------------------------------- */

/* No definition, and nobody who is about to write one: who claims an id makes and locks its directory under the
 * store's lock. */
static bool is_unfinished(struct check *c, unsigned id)
{
	autoclose int store = lock_take(c->h->root_fd, STORE_LOCK, true, LOCK_TRY);
	autoclose int lock = -1;
	char path[ID_STR + sizeof("/spec.json")];

	snprintf(path, sizeof(path), "%u/spec.json", id);
	return store >= 0 && try_lock(c, id, &lock) && lock >= 0 && !fs_exists(c->h->instances_fd, path);
}

static int read_ids(struct check *c, struct vps_err *err)
{
	autofree unsigned *ids = NULL;
	size_t n = 0;
	int r = store_ids(c->h, &ids, &n, err);

	for (size_t i = 0; r == 0 && i < n; i++) {
		auto_done(spec_done) struct vps_spec s;
		struct vps_err why = {0};

		spec_init(&s);
		r = store_read_spec_of(c->h, ids[i], &s, &why);
		if (r == -ENOENT && is_unfinished(c, ids[i])) {
			vps_err_clear(&why);
			r = c->fix ? store_scrap_id(c->h, ids[i], &why) : 1;
			if (r != 0)
				leftover(c, ids[i], r, &why, "an unfinished create or delete");
			r = 0;
			continue;
		}
		if (r < 0 && r != -ENOENT)
			check_add(c, CHECK_NOTE, ids[i], "mend or delete it by hand: nothing else touches it",
				  "its definition is unreadable: %s", why.msg);
		r = add_id(&c->defined, &c->n_defined, ids[i]);
	}
	return r;
}

static void check_names(struct check *c)
{
	auto_strv names = NULL;

	if (fs_list(c->h->names_fd, ".", &names) < 0)
		return;
	for (char **p = names; p && *p; p++) {
		auto_done(spec_done) struct vps_spec s;
		struct vps_err err = {0};
		autoclose int lock = -1;
		char target[ID_STR], what[128];
		ssize_t n = readlinkat(c->h->names_fd, *p, target, sizeof(target) - 1);
		unsigned id = 0;
		int r;

		spec_init(&s);
		target[n < 0 ? 0 : n] = '\0';
		if (!parse_vps_id(target, &id) || !try_lock(c, id, &lock))
			continue;
		r = store_read_spec_of(c->h, id, &s, NULL);
		if (r != -ENOENT && (r < 0 || str_eq(s.name, *p)))
			continue;
		if (c->fix)
			release_name(c->h, id, *p);
		snprintf(what, sizeof(what), "the name '%.60s' leads to no VPS of that name", *p);
		leftover(c, id, 0, &err, what);
	}
}

/* "<id>-link-<pid>": while a linked clone of id is made, under its lock. */
static bool is_clone_pin(const char *owner, unsigned *ret_id)
{
	autofree char *id = strndup(owner, strcspn(owner, "-"));

	return id && str_starts(owner + strlen(id), "-link-") && parse_vps_id(id, ret_id);
}

static void check_pins(struct check *c)
{
	auto_strv owners = NULL;
	struct img_store *images;

	if (c->fix)
		restore_clean(c->h);
	if (vps_host_images(c->h, &images, NULL) < 0 || img_pins(images, &owners) < 0)
		return;
	for (char **p = owners; p && *p; p++) {
		struct vps_err err = {0};
		unsigned id;
		autoclose int dir = -1;

		if (is_clone_pin(*p, &id)) {
			if (!is_busy(c->h, id))
				leftover(c, id, c->fix ? img_unpin(images, *p) : 0, &err,
					 "an image is pinned for an interrupted clone");
			continue;
		}
		if (!parse_vps_id(*p, &id) || is_in(c->defined, c->n_defined, id))
			continue;
		dir = store_dir(c->h, id);
		if (dir >= 0) /* it is being made */
			continue;
		leftover(c, id, c->fix ? img_unpin(images, *p) : 0, &err, "an image is pinned for it");
	}
}

/* ---- what runs leave -------------------------------------------------------------------- */

static void check_run_dirs(struct check *c)
{
	auto_strv names = NULL;

	if (fs_list(c->h->run_fd, ".", &names) < 0)
		return;
	for (char **p = names; p && *p; p++) {
		struct vps_err err = {0};
		unsigned id;
		int r = 0;

		if (!parse_vps_id(*p, &id) || is_in(c->defined, c->n_defined, id))
			continue;

		autoclose int dir = store_run_dir(c->h, id);
		autoclose int inst = store_dir(c->h, id);

		if (dir < 0 || inst >= 0 || monitor_alive(dir) == 1)
			continue;
		if (c->fix) {
			r = teardown(c->h, id, &err);
			r = r ?: fs_remove_tree(c->h->run_fd, *p);
		}
		leftover(c, id, r, &err, "a run directory");
	}
}

static int remove_group(struct cg_host *ch, const char *name, struct vps_err *err)
{
	auto_done(cg_closep) struct cg *cg = NULL;
	int r = cg_open(ch, name, &cg, err);

	if (r == -ENOENT) {
		vps_err_clear(err);
		r = 0;
	}
	if (r == 0 && cg && cg_populated(cg) != 0)
		r = cg_kill(cg, 5000, err);
	return r ?: cg_destroy(ch, name, err);
}

static void check_cgroups(struct check *c)
{
	auto_strv names = NULL;
	struct cg_host *ch;

	if (host_cgroups(c->h, &ch, NULL) < 0 || cg_list(ch, &names, NULL) < 0)
		return;
	for (char **p = names; p && *p; p++) {
		struct vps_err err = {0};
		autoclose int lock = -1;
		unsigned id;

		if (!parse_vps_id(*p, &id))
			check_add(c, CHECK_NOTE, 0, NULL, "a control group '%s' that is none of ours", *p);
		else if (hold(c, id, false, &lock))
			leftover(c, id, c->fix ? remove_group(ch, *p, &err) : 0, &err, "a control group");
	}
}

/* What is the host's own and not of a VPS is advice. */
static void net_found(void *arg, unsigned id, const char *what, const char *help, bool fixed)
{
	enum check_kind kind = fixed ? CHECK_FIXED : help && !id ? CHECK_NOTE : CHECK_LEFTOVER;

	check_add(arg, kind, id, help ? help : GC_HELP, "%s", what);
}

static int net_plan_of(void *arg, unsigned id, struct net_plan *ret, struct vps_err *err)
{
	struct check *c = arg;
	auto_done(spec_done) struct vps_spec s;
	int r;

	spec_init(&s);
	r = store_read_spec_of(c->h, id, &s, err);
	return r ?: plan_net(&s, ret, err);
}

/* What is asked about may be removed at any time after the answer, so the lock is kept until the audit is over. */
static bool net_busy(void *arg, unsigned id)
{
	struct check *c = arg;
	auto_done(spec_done) struct vps_spec s;

	spec_init(&s);
	if (is_in(c->busy, c->n_busy, id) || !keep_lock(c, id, is_in(c->live, c->n_live, id)))
		return true;
	/* made since we looked */
	return !is_in(c->defined, c->n_defined, id) && store_read_spec_of(c->h, id, &s, NULL) != -ENOENT;
}

static void check_network(struct check *c)
{
	struct net_audit a = {
		.live = c->live,
		.defined = c->defined,
		.n_live = c->n_live,
		.n_defined = c->n_defined,
		.fix = c->fix,
		.found = net_found,
		.get_plan = net_plan_of,
		.busy = net_busy,
		.arg = c,
	};
	struct vps_err err = {0};
	struct net_host *net;
	int r = host_net(c->h, &net, &err);

	r = r ?: net_audit(net, &a, &err);
	release_held(c);
	if (r < 0)
		check_add(c, CHECK_NOTE, 0, NULL, "the network could not be looked at: %s", err.msg);
}

static void check_loops(struct check *c)
{
	auto_strv found = NULL;
	struct vps_err err = {0};

	if (img_disk_audit(c->h->instances_fd, c->fix, &found, &err) < 0)
		return;
	for (char **p = found; p && *p; p++) {
		autofree char *what = str_fmt("a loop device nobody mounts: %s", *p);

		leftover(c, 0, 0, &err, what ? what : "a loop device nobody mounts");
	}
}

/* ---- mounts ------------------------------------------------------------------------------ */

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* Nothing of ours is mounted where others see it, but lxcfs. An operator may have mounted file systems on
 * the trees themselves; below an id there is no such. */
static unsigned mount_of(const struct vps_conf *conf, const char *path)
{
	auto_strv parents = NULL;
	unsigned id = 0;

	if (strv_addf(&parents, "%s/instances/", conf->root) < 0 || strv_addf(&parents, "%s/", conf->run) < 0)
		return 0;
	for (char **p = parents; *p; p++) {
		char first[ID_STR];
		size_t n;

		if (!str_starts(path, *p))
			continue;
		n = strcspn(path + strlen(*p), "/");
		if (n >= sizeof(first))
			continue;
		memcpy(first, path + strlen(*p), n);
		first[n] = '\0';
		if (parse_vps_id(first, &id))
			return id;
	}
	return 0;
}

static void check_mounts(struct check *c)
{
	autofree char *text = NULL;

	if (fs_read(AT_FDCWD, "/proc/self/mountinfo", 64u << 20, &text, NULL) < 0)
		return;
	for (char *p = text, *line; (line = strsep(&p, "\n"));) {
		struct vps_err err = {0};
		autoclose int lock = -1;
		char *path = line;
		unsigned id;
		int r = 0;

		for (int field = 1; path && field < 5; field++) {
			path = strchr(path, ' ');
			path += path != NULL;
		}
		if (!path)
			continue;
		path[strcspn(path, " ")] = '\0';
		unescape(path);
		id = mount_of(&c->h->conf, path);
		if (!id || !hold(c, id, false, &lock))
			continue;
		if (c->fix && umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			r = -errno;
		leftover(c, id, r, &err, "a mount");
	}
}

/* ---- temp files, images, lxcfs ------------------------------------------------------------ */

static unsigned old_temps(struct check *c, int dirfd, const char *path)
{
	int n = fs_remove_temps(dirfd, path, TEMP_OLD_S, !c->fix);

	return n < 0 ? 0 : (unsigned)n;
}

static void check_temps(struct check *c)
{
	struct vps_err err = {0};
	unsigned n = old_temps(c, c->h->root_fd, ".") + old_temps(c, c->h->root_fd, FILTER_CACHE_DIR) +
		     old_temps(c, c->h->root_fd, VM_CACHE_DIR) +
		     old_temps(c, c->h->run_fd, ".");
	char what[64], dir[ID_STR];

	if (n) {
		snprintf(what, sizeof(what), "%u unfinished file%s", n, n == 1 ? "" : "s");
		leftover(c, 0, 0, &err, what);
	}
	for (size_t i = 0; i < c->n_defined; i++) {
		id_str(c->defined[i], dir);
		n = old_temps(c, c->h->instances_fd, dir) + old_temps(c, c->h->run_fd, dir);
		if (!n)
			continue;
		snprintf(what, sizeof(what), "%u unfinished file%s", n, n == 1 ? "" : "s");
		leftover(c, c->defined[i], 0, &err, what);
	}
}

static void check_images(struct check *c)
{
	struct img_gc_result r = {0};
	struct vps_err err = {0};
	struct img_store *images;
	char size[16];

	if (vps_host_images(c->h, &images, NULL) < 0 || img_gc(images, !c->fix, &r, &err) < 0)
		return;
	fmt_size(r.bytes, size, sizeof(size));
	if (r.temps) {
		autofree char *what = str_fmt("unfinished work on %u image%s", r.temps, r.temps == 1 ? "" : "s");

		leftover(c, 0, 0, &err, what ? what : "unfinished work on images");
	}
	if (r.images + r.layers + r.blobs)
		check_add(c, CHECK_NOTE, 0, c->fix ? NULL : "`vps image gc` or `vps host gc` gives it back",
			  "%u image%s, %u layer%s that nothing uses: %s%s", r.images,
			  r.images == 1 ? "" : "s", r.layers, r.layers == 1 ? "" : "s", size,
			  c->fix ? ", removed" : "");
}

/* Nobody runs, nobody is about to, and while the locks are kept, nobody can. */
static bool nobody_runs(struct check *c)
{
	autofree unsigned *ids = NULL;
	size_t n = 0;

	if (c->n_live || store_ids(c->h, &ids, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		autoclose int run_dir = store_run_dir(c->h, ids[i]);

		if (!keep_lock(c, ids[i], false) || (run_dir >= 0 && monitor_alive(run_dir) == 1))
			return false;
	}
	return true;
}

/* A monitor at its end is connected still. */
static void end_keeper(struct check *c)
{
	int r = -EBUSY;

	for (int i = 0; r == -EBUSY && i < KEEPER_TRIES; i++) {
		if (i > 0)
			poll(NULL, 0, KEEPER_NAP_MS);

		autoclose int conn = keeper_connect(c->h->run_fd);

		r = conn < 0 ? 0 : keeper_end(conn);
	}
}

/* They lived in a group of their own. */
static void purge_cgroups(struct check *c)
{
	struct cg_host *ch;

	if (host_cgroups(c->h, &ch, NULL) == 0)
		(void)cg_host_purge(ch, NULL); /* a group that is no VPS's was told of already */
}

/* What all VPSes share goes with the last of them: the keeper by itself, a little later, lxcfs not. */
static void check_shared(struct check *c)
{
	autoclose int store = lock_take(c->h->root_fd, STORE_LOCK, true, LOCK_TRY); /* no new ones */
	autoclose int pidfd = -1;
	struct vps_err err = {0};
	int r = 0;

	if (store >= 0 && nobody_runs(c)) {
		pidfd = lxcfs_pidfd(c->h->run_fd);
		bool there = fs_exists(c->h->run_fd, "lxcfs.pid") || fs_exists(c->h->run_fd, "lxcfs");

		if (c->fix) {
			end_keeper(c);
			r = lxcfs_stop(c->h->run_fd, c->h->conf.run, &err);
			purge_cgroups(c);
		}
		if (there && (pidfd < 0 || r < 0))
			leftover(c, 0, r, &err, "files of an lxcfs that died");
	}
	release_held(c);
}

/* ---- all of it ------------------------------------------------------------------------------ */

void vps_findings_free(struct vps_finding *f, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(f[i].what);
		free(f[i].help);
	}
	free(f);
}

int vps_host_check(struct vps_host *h, bool fix, struct vps_finding **ret, size_t *ret_n,
		   struct vps_err *err)
{
	struct check c = {.h = h, .fix = fix};
	int r;

	check_mounts(&c); /* first: what is mounted keeps the directory of an unfinished delete */
	r = read_ids(&c, err);
	if (r == 0) {
		/* Runs first: what they leave is judged by who lives. */
		check_migrations(&c);
		check_runs(&c);
		check_run_dirs(&c);
		check_cgroups(&c);
		check_network(&c);
		check_names(&c);
		check_loops(&c);
		check_pins(&c);
		check_temps(&c);
		check_images(&c);
		check_shared(&c);
		check_facts(&c);
		r = c.oom;
	}
	free(c.defined);
	free(c.live);
	free(c.busy);
	free(c.held);
	if (r < 0) {
		vps_findings_free(c.found, c.n);
		return vps_err_sys(err, r, "host check");
	}
	*ret = c.found;
	*ret_n = c.n;
	return 0;
}
