/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a tenant made below ns/, as JSON and back, for a checkpoint: groups with owner and settings, and which
 * process is in which. Processes are named as their own PID namespace numbers them.
 *
 *   [{"path": "init.scope", "uid": 0, "gid": 0, "pids": [1], "set": {"pids.max": "100"}, "subtree": "memory pids"}, …]
 *
 * A parent stands before its children; "" is ns/ itself. uid and gid are the tenant's own.
 */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/json.h"

#define MAX_GROUPS 65536u
#define MAX_DEPTH  100

/* Settings that a tenant may write in its own groups. Reading one that this kernel or group has not is no error. */
static const char *const settings[] = {
	"cgroup.max.depth", "cgroup.max.descendants", "cpu.idle", "cpu.max", "cpu.weight", "cpuset.cpus",
	"cpuset.mems", "io.weight", "memory.high", "memory.low", "memory.max", "memory.min", "memory.oom.group",
	"memory.swap.high", "memory.swap.max", "memory.zswap.max", "pids.max",
};
/*
 * Below ns/, while processes are brought back: a group with processes cannot pass on controllers, and files of the tenant's
 * groups that come with these (memory.events) may be open or watched, so they must be there before any process is.
 */
#define RESTORING "vps.restoring"
/* What systemd hands to a delegate beside the directory (/sys/kernel/cgroup/delegate has the kernel's list). */
static const char *const delegated[] = {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"};

/* ---- processes ------------------------------------------------------------------- */

/* The last number of NSpid in /proc/PID/status: its pid in its own namespace; depth: in how many it has one. */
static int inner_pid(pid_t pid, pid_t *ret, unsigned *ret_depth)
{
	char path[40], buf[4096];
	const char *p;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	n = fs_read_buf(AT_FDCWD, path, buf, sizeof(buf));
	p = n < 0 ? NULL : strstr(buf, "\nNSpid:");
	if (!p)
		return n == -ENOENT || n == -ESRCH ? -ESRCH : -EIO;
	p += strlen("\nNSpid:");
	*ret_depth = 0;
	for (char *end; *p != '\n' && *p; p = end) {
		long v = strtol(p, &end, 10);
		if (end == p)
			break;
		*ret = (pid_t)v;
		++*ret_depth;
	}
	return *ret_depth ? 0 : -EIO;
}

/* fn for each pid of a group's cgroup.procs. */
static int each_pid(int dir, int (*fn)(void *arg, pid_t pid), void *arg)
{
	autofree char *text = NULL;
	int r = fs_read(dir, "cgroup.procs", 1u << 20, &text, NULL);

	if (r == -EOPNOTSUPP) /* threaded: its domain's root lists them */
		return 0;
	for (char *p = text, *end; r == 0 && p && *p; p = *end ? end + 1 : end) {
		long pid = strtol(p, &end, 10);
		if (end == p)
			break;
		if (pid > 0)
			r = fn(arg, (pid_t)pid);
	}
	return r;
}

/* ---- saving ------------------------------------------------------------------------ */

struct saver {
	struct json_out *o;
	uid_t base;
	struct strbuf path;
	unsigned depth, n;
};

static int save_pid(void *arg, pid_t pid)
{
	struct saver *s = arg;
	pid_t inner;
	unsigned depth;
	int r = inner_pid(pid, &inner, &depth);

	if (r == -ESRCH)
		return 0;
	if (r == 0)
		jo_int(s->o, NULL, inner);
	return r;
}

static void save_settings(struct saver *s, int dir)
{
	char buf[256];

	jo_object(s->o, "set");
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		if (fs_read_buf(dir, settings[i], buf, sizeof(buf)) > 0)
			jo_str(s->o, settings[i], buf);
	jo_end_object(s->o);
	if (fs_read_buf(dir, "cgroup.subtree_control", buf, sizeof(buf)) > 0)
		jo_str(s->o, "subtree", buf);
}

static int save_group(struct saver *s, int dir)
{
	struct stat st;
	int r;

	if (fstat(dir, &st) < 0)
		return -errno;
	if (s->n++ >= MAX_GROUPS)
		return -E2BIG;
	jo_object(s->o, NULL);
	jo_str(s->o, "path", s->path.len ? s->path.s : "");
	jo_u64(s->o, "uid", st.st_uid - s->base);
	jo_u64(s->o, "gid", st.st_gid - s->base);
	jo_array(s->o, "pids");
	r = each_pid(dir, save_pid, s);
	jo_end_array(s->o);
	/* ns/ itself has limits of its own only where the tenant is its own parent, that is nowhere. */
	save_settings(s, dir);
	jo_end_object(s->o);
	return r;
}

static int save_child(void *arg, int parent, const char *name)
{
	struct saver *s = arg;
	size_t was = s->path.len;
	autoclose int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (dir < 0)
		return errno == ENOENT ? 0 : -errno;
	if (s->depth >= MAX_DEPTH)
		return -E2BIG;
	sb_addf(&s->path, "%s%s", was ? "/" : "", name);
	s->depth++;
	r = sb_ok(&s->path);
	r = r ?: save_group(s, dir);
	r = r ?: cg_subdirs(dir, save_child, s);
	s->depth--;
	if (s->path.s)
		s->path.s[s->path.len = was] = '\0';
	return r;
}

static int open_ns(struct cg *cg)
{
	return fs_open_dir(cg->v2_fd, "ns");
}

int cg_tree_save(struct cg *cg, struct json_out *o, const char *key, struct vps_err *err)
{
	struct saver s = {.o = o};
	struct stat st;
	autoclose int ns = open_ns(cg);
	int r = ns < 0 ? ns : fstat(ns, &st) < 0 ? -errno : 0;

	if (r < 0)
		return vps_err_sys(err, r, "cgroup of '%s'", cg->name);
	s.base = st.st_uid; /* delegated to the tenant's root */
	jo_array(o, key);
	r = save_group(&s, ns);
	r = r ?: cg_subdirs(ns, save_child, &s);
	jo_end_array(o);
	sb_done(&s.path);
	return r < 0 ? vps_err_sys(err, r, "read the groups of '%s'", cg->name) : 0;
}

/* ---- making --------------------------------------------------------------------------- */

/* Below ns/, as it came from a file: no component may lead elsewhere. */
static bool path_ok(const char *path)
{
	if (!*path)
		return true;
	for (const char *p = path;;) {
		size_t n = strcspn(p, "/");
		if (n == 0 || n > 255 || (p[0] == '.' && (n == 1 || (n == 2 && p[1] == '.'))))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

/* kernfs gives a new group to who makes it; the tenant's root did. */
static int make_dir(int ns, uid_t base, const char *path)
{
	int r = 0;

	setfsuid(base);
	setfsgid(base);
	if (mkdirat(ns, path, 0755) < 0 && errno != EEXIST)
		r = -errno;
	setfsuid(geteuid());
	setfsgid(getegid());
	return r;
}

static int make_group(int ns, uid_t base, const struct json *g)
{
	const char *path = json_str(json_get(g, "path"), NULL);
	uint64_t uid = json_u64(json_get(g, "uid"), UINT64_MAX), gid = json_u64(json_get(g, "gid"), UINT64_MAX);
	int r;

	if (!path || !path_ok(path) || uid > UINT16_MAX || gid > UINT16_MAX)
		return -EBADMSG;
	if (!*path)
		return 0;
	r = make_dir(ns, base, path);
	if (r < 0 || (uid == 0 && gid == 0))
		return r;
	autoclose int dir = fs_open_dir(ns, path);
	if (dir < 0)
		return dir;
	if (fchown(dir, base + (uid_t)uid, base + (gid_t)gid) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_LEN(delegated); i++)
		if (fchownat(dir, delegated[i], base + (uid_t)uid, base + (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0 &&
		    errno != ENOENT)
			return -errno;
	return 0;
}

int cg_tree_make(struct cg *cg, const struct json *tree, struct vps_err *err)
{
	struct stat st;
	autoclose int ns = open_ns(cg);
	int r = ns < 0 ? ns : fstat(ns, &st) < 0 ? -errno : 0;

	if (r == 0 && (json_type(tree) != JSON_ARRAY || json_len(tree) > MAX_GROUPS))
		r = -EBADMSG;
	for (size_t i = 0; r == 0 && i < json_len(tree); i++)
		r = make_group(ns, st.st_uid, json_at(tree, i));
	r = r ?: make_dir(ns, st.st_uid, RESTORING);
	return r < 0 ? vps_err_sys(err, r, "make the groups of '%s' again", cg->name) : 0;
}

/* ---- placing ------------------------------------------------------------------------------ */

struct member { pid_t pid, inner; };
struct members {
	struct member *v;
	size_t n, cap;
};

static int add_member(void *arg, pid_t pid)
{
	struct members *m = arg;
	struct member x = {.pid = pid};
	unsigned depth;
	int r = inner_pid(pid, &x.inner, &depth);

	if (r == -ESRCH || (r == 0 && depth < 2)) /* a helper of ours */
		return 0;
	r = r ?: mem_grow(m->v, m->n, m->cap);
	if (r == 0)
		m->v[m->n++] = x;
	return r;
}

static int by_inner(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return x->inner < y->inner ? -1 : x->inner > y->inner;
}

static int place_group(int ns, const struct members *m, const struct json *g)
{
	const char *path = json_str(json_get(g, "path"), "");
	const struct json *pids = json_get(g, "pids");
	autofree char *file = str_fmt("%s%scgroup.procs", path, *path ? "/" : "");
	int r = file ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < json_len(pids); i++) {
		struct member key = {.inner = (pid_t)json_int(json_at(pids, i), 0)};
		const struct member *x = bsearch(&key, m->v, m->n, sizeof(key), by_inner);
		char text[16];

		if (!x) /* a zombie has gone */
			continue;
		snprintf(text, sizeof(text), "%d", (int)x->pid);
		r = fs_write(ns, file, text);
	}
	return r;
}

/* What cannot be set again (a controller that this host keeps elsewhere) is systemd's to live without, as it was
 * when it started on such a host. */
static void set_group(int ns, const struct json *g)
{
	const char *path = json_str(json_get(g, "path"), "");
	const struct json *set = json_get(g, "set");
	const char *subtree = json_str(json_get(g, "subtree"), "");
	autoclose int dir = fs_open_dir(ns, *path ? path : ".");

	for (size_t i = 0; *path && i < json_len(set); i++)
		for (size_t k = 0; k < ARRAY_LEN(settings); k++)
			if (str_eq(json_key(set, i), settings[k]))
				fs_write(dir, settings[k], json_str(json_at(set, i), ""));
	while (*subtree) {
		size_t n = strcspn(subtree, " ");
		char word[40];

		snprintf(word, sizeof(word), "+%.*s", (int)n, subtree);
		fs_write(dir, "cgroup.subtree_control", word);
		subtree += n + (subtree[n] == ' ');
	}
}

/* A tenant without systemd may have its processes in ns/ itself and controllers for its groups (threaded ones: pids, cpu): the
 * kernel takes them in that order only. */
static bool root_has_pids(const struct json *tree)
{
	for (size_t i = 0; i < json_len(tree); i++)
		if (!*json_str(json_get(json_at(tree, i), "path"), ""))
			return json_len(json_get(json_at(tree, i), "pids")) > 0;
	return false;
}

static void set_groups(int ns, const struct json *tree)
{
	for (size_t i = 0; i < json_len(tree); i++)
		set_group(ns, json_at(tree, i));
}

int cg_tree_place(struct cg *cg, const struct json *tree, struct vps_err *err)
{
	struct members m = {0};
	autoclose int ns = open_ns(cg);
	autoclose int from = ns < 0 ? ns : fs_open_dir(ns, RESTORING);
	int r = from < 0 ? from : each_pid(from, add_member, &m);

	if (m.n)
		qsort(m.v, m.n, sizeof(*m.v), by_inner);
	for (size_t i = 0; r == 0 && i < json_len(tree); i++)
		r = place_group(ns, &m, json_at(tree, i));
	free(m.v);
	if (r == 0) /* what is still in it is nobody's of the tenant */
		(void)unlinkat(ns, RESTORING, AT_REMOVEDIR);
	if (r == 0 && root_has_pids(tree))
		set_groups(ns, tree);
	return r < 0 ? vps_err_sys(err, r, "put the processes of '%s' into their groups", cg->name) : 0;
}

/* ---- of a restore ---------------------------------------------------------------------------- */

struct mover { int to, r; };

static int move_ours(void *arg, pid_t pid)
{
	struct mover *mv = arg;
	pid_t inner;
	unsigned depth;
	char text[16];
	int r = inner_pid(pid, &inner, &depth);

	if (r == -ESRCH || (r == 0 && depth > 1))
		return 0;
	snprintf(text, sizeof(text), "%d", (int)pid);
	return r ?: fs_write(mv->to, "cgroup.procs", text);
}

int cg_tree_leave(struct cg *cg, struct vps_err *err)
{
	struct mover mv = {.to = cg_monitors_fd(cg->h, err)};
	autoclose int ns = open_ns(cg);
	autoclose int from = ns < 0 ? ns : fs_open_dir(ns, RESTORING);
	int r = mv.to < 0 ? mv.to : from < 0 ? from : each_pid(from, move_ours, &mv);

	return r < 0 ? vps_err_sys(err, r, "leave the groups of '%s'", cg->name) : 0;
}

int cg_tree_enter(struct cg *cg, const struct json *tree)
{
	int ns = cg_clone_fd(cg), r;

	if (ns < 0)
		return ns;
	r = fs_write(ns, "cgroup.procs", "0");
	r = r ?: cg_enter_v1(cg);
	if (r == 0 && unshare(CLONE_NEWCGROUP) < 0)
		r = -errno;
	r = r ?: fs_write(ns, RESTORING "/cgroup.procs", "0");
	/* Top-down, and only now: nobody is in ns/ itself. */
	if (r == 0 && !root_has_pids(tree))
		set_groups(ns, tree);
	return r;
}

char *cg_ns_path(const struct cg *cg)
{
	return str_fmt("%s%s/%s/%s/ns", cg->h->root, cg->h->v2->path, cg->h->tag, cg->name);
}

int cg_freeze_fd(const struct cg *cg)
{
	int fd = openat(cg->v2_fd, "cgroup.freeze", O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}
