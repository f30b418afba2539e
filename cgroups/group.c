/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Make, open, enter and remove a group in all hierarchies. */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"

#define DYING_MS 200


static int bad_name(const char *name, struct vps_err *err)
{
	return vps_err_set(err, VPS_EUSAGE, "'%.64s' cannot name a cgroup", name ? name : "");
}

static struct cg *new_group(struct cg_host *h, const char *name)
{
	struct cg *cg = calloc(1, sizeof(*cg));
	if (!cg)
		return NULL;
	cg->name = strdup(name);
	if (!cg->name) {
		free(cg);
		return NULL;
	}
	cg->h = cg_host_ref(h);
	cg->v2_fd = cg->ns_fd = -1;
	for (size_t i = 0; i < CG_HIERS_MAX; i++)
		cg->tasks[i] = -1;
	return cg;
}

struct cg *cg_close(struct cg *cg)
{
	if (!cg)
		return NULL;
	for (size_t i = 0; i < CG_HIERS_MAX; i++)
		close_fd(&cg->tasks[i]);
	close_fd(&cg->ns_fd);
	close_fd(&cg->v2_fd);
	cg_host_close(cg->h);
	free(cg->name);
	free(cg);
	return NULL;
}

static int open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* ---- making */

/* mkdir, and where the group exists already, first away with the old one and its limits. */
static int make_dir(struct cg_host *h, const struct cg_hier *hi, const char *name,
		    struct vps_err *err)
{
	if (mkdirat(hi->tag_fd, name, 0755) == 0)
		return 0;
	int r = -errno;
	if (r == -EEXIST) {
		r = cg_tree_remove(hi->tag_fd, name, DYING_MS);
		if (r == -EBUSY)
			return vps_err_set(err, VPS_ESTATE, "cgroup %s/%s/%s has processes in it",
					   hi->path, h->tag, name);
		if (r == 0 && mkdirat(hi->tag_fd, name, 0755) < 0)
			r = -errno;
	}
	if (r == -EAGAIN) /* cgroup.max.descendants or cgroup.max.depth of a group above */
		return vps_err_set(err, VPS_ERESOURCE, "make cgroup %s/%s/%s: the host's limit on "
				   "the number of groups is reached: see cgroup.max.descendants",
				   hi->path, h->tag, name);
	if (r < 0)
		return vps_err_sys(err, r, "make cgroup %s/%s/%s", hi->path, h->tag, name);
	return 0;
}

static int make_v1(struct cg *cg, struct vps_err *err)
{
	struct cg_host *h = cg->h;
	for (size_t i = 0; i < h->n; i++) {
		if (h->hier[i].version != 1)
			continue;
		int r = make_dir(h, &h->hier[i], cg->name, err);
		if (r < 0)
			return r;
		cg->tasks[i] = cg_file_open(cg, &h->hier[i], "tasks", O_WRONLY);
		if (cg->tasks[i] < 0)
			return vps_err_sys(err, cg->tasks[i], "open cgroup %s/%s/%s/tasks",
					   h->hier[i].path, h->tag, cg->name);
	}
	return 0;
}

/* Hand a directory of v2 to its new owner: itself and the files that the kernel says are safe
 * (/sys/kernel/cgroup/delegate, 4.15; those of controllers that are off are not there). */
static int delegate(struct cg_host *h, int dir, uid_t owner)
{
	char buf[4096];
	ssize_t len = cg_host_read(h, "/sys/kernel/cgroup/delegate", buf, sizeof(buf));
	if (len < 0)
		return (int)len;
	if (fchownat(dir, "", owner, owner, AT_EMPTY_PATH) < 0)
		return -errno;
	char *save = NULL;
	for (char *w = strtok_r(buf, "\n", &save); w; w = strtok_r(NULL, "\n", &save)) {
		if (strchr(w, '/'))
			continue;
		if (fchownat(dir, w, owner, owner, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

static int make_v2(struct cg *cg, uid_t owner, struct vps_err *err)
{
	struct cg_host *h = cg->h;
	struct cg_hier *v2 = h->v2;
	int r = make_dir(h, v2, cg->name, err);
	if (r < 0)
		return r;
	cg->v2_fd = open_dir(v2->tag_fd, cg->name);
	if (cg->v2_fd < 0)
		return vps_err_sys(err, cg->v2_fd, "open cgroup %s", cg->name);
	/* So that a systemd inside may hand controllers on in its own subtree. */
	char words[160];
	cg_subtree_words(h->unified ? h->enabled : 0, words, sizeof(words));
	r = *words ? fs_write(cg->v2_fd, "cgroup.subtree_control", words) : 0;
	if (r < 0)
		return vps_err_sys(err, r, "enable %s in cgroup %s", words, cg->name);
	if (mkdirat(cg->v2_fd, "ns", 0755) < 0)
		return vps_err_sys(err, -errno, "make cgroup %s/ns", cg->name);
	cg->ns_fd = open_dir(cg->v2_fd, "ns");
	if (cg->ns_fd < 0)
		return vps_err_sys(err, cg->ns_fd, "open cgroup %s/ns", cg->name);
	r = owner ? delegate(h, cg->ns_fd, owner) : 0;
	return r < 0 ? vps_err_sys(err, r, "delegate cgroup %s/ns", cg->name) : 0;
}

int cg_create(struct cg_host *h, const char *name, uid_t owner, struct cg **ret,
	      struct vps_err *err)
{
	if (!cg_name_valid(name))
		return bad_name(name, err);
	int r = cg_tag_setup(h, err);
	if (r < 0)
		return r;
	auto_done(cg_closep) struct cg *cg = new_group(h, name);
	if (!cg)
		return vps_err_sys(err, -ENOMEM, "make cgroup %s", name);
	/* v2 first: a group with processes in it is always there, so nothing else is touched. */
	r = make_v2(cg, owner, err);
	if (r >= 0)
		r = make_v1(cg, err);
	if (r < 0) {
		if (cg->v2_fd >= 0) /* else nothing was made */
			cg_destroy(h, name, NULL);
		return r;
	}
	*ret = take_ptr(cg);
	return 0;
}

int cg_open(struct cg_host *h, const char *name, struct cg **ret, struct vps_err *err)
{
	if (!cg_name_valid(name))
		return bad_name(name, err);
	if (h->v2->tag_fd < 0)
		return vps_err_set(err, ENOENT, "no cgroup %s/%s", h->tag, name);
	auto_done(cg_closep) struct cg *cg = new_group(h, name);
	if (!cg)
		return vps_err_sys(err, -ENOMEM, "open cgroup %s", name);
	cg->v2_fd = open_dir(h->v2->tag_fd, name);
	if (cg->v2_fd == -ENOENT)
		return vps_err_set(err, ENOENT, "no cgroup %s/%s", h->tag, name);
	if (cg->v2_fd < 0)
		return vps_err_sys(err, cg->v2_fd, "open cgroup %s/%s", h->tag, name);
	*ret = take_ptr(cg);
	return 0;
}

/* ---- entering */

/* Opened by the parent: since 5.16 (CVE-2021-4197) the opener's rights are what counts, and the
 * child, in its new user namespace, has none over these files. */
static int open_tasks(struct cg *cg)
{
	for (size_t i = 0; i < cg->h->n; i++) {
		const struct cg_hier *hi = &cg->h->hier[i];
		if (hi->version != 1 || cg->tasks[i] >= 0)
			continue;
		cg->tasks[i] = cg_file_open(cg, hi, "tasks", O_WRONLY);
		if (cg->tasks[i] < 0)
			return cg->tasks[i];
	}
	return 0;
}

int cg_clone_fd(struct cg *cg)
{
	int r = open_tasks(cg);
	if (r < 0)
		return r;
	if (cg->ns_fd < 0)
		cg->ns_fd = open_dir(cg->v2_fd, "ns");
	return cg->ns_fd;
}

int cg_enter_v1(const struct cg *cg)
{
	for (size_t i = 0; i < cg->h->n; i++) {
		if (cg->h->hier[i].version != 1)
			continue;
		if (cg->tasks[i] < 0)
			return -EBADF;
		ssize_t n;
		do {
			n = write(cg->tasks[i], "0", 1);
		} while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
	}
	return 0;
}

/* Path of a process in v2, as /proc/PID/cgroup's line "0::" tells it: below our cgroup namespace's
 * root, as the mount's own root is. */
static int v2_path_of(const struct cg_host *h, pid_t pid, char **ret)
{
	autofree char *file = str_fmt("%s/proc/%d/cgroup", h->root, (int)pid);
	autofree char *text = NULL;
	int r = file ? fs_read(AT_FDCWD, file, 64u << 10, &text, NULL) : -ENOMEM;
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	char *line = str_starts(text, "0::") ? text : strstr(text, "\n0::");
	if (!line)
		return -ESRCH;
	line += *line == '\n' ? 4 : 3;
	line[strcspn(line, "\n")] = 0;
	*ret = strdup(line);
	return *ret ? 0 : -ENOMEM;
}

int cg_exec_fd(struct cg *cg, pid_t init)
{
	int ns = cg_clone_fd(cg);
	if (ns < 0)
		return ns;
	autofree char *path = NULL, *base = NULL;
	int r = v2_path_of(cg->h, init, &path);
	if (r < 0)
		return r;
	base = str_fmt("%s/%s/%s/ns", cg->h->v2->prefix, cg->h->tag, cg->name);
	if (!base)
		return -ENOMEM;
	size_t len = strlen(base);
	if (!str_starts(path, base) || (path[len] && path[len] != '/'))
		return -EXDEV;
	/* cgroupfs knows neither links nor "..", and O_NOFOLLOW costs nothing. */
	return open_dir(ns, path[len] ? path + len + 1 : ".");
}

/* ---- the keepers */

int cg_monitors_fd(struct cg_host *h, struct vps_err *err)
{
	if (h->monitors_fd >= 0)
		return h->monitors_fd;
	int r = h->v2->tag_fd < 0 ? cg_tag_setup(h, err) : 0;
	if (r < 0)
		return r;
	if (mkdirat(h->v2->tag_fd, "monitors", 0755) < 0 && errno != EEXIST)
		return vps_err_sys(err, -errno, "make cgroup %s/monitors", h->tag);
	r = open_dir(h->v2->tag_fd, "monitors");
	if (r < 0)
		return vps_err_sys(err, r, "open cgroup %s/monitors", h->tag);
	return h->monitors_fd = r;
}

int cg_move_monitor(struct cg_host *h, pid_t pid, struct vps_err *err)
{
	int fd = cg_monitors_fd(h, err);
	if (fd < 0)
		return fd;
	char buf[16];
	snprintf(buf, sizeof(buf), "%d", (int)pid);
	int r = fs_write(fd, "cgroup.procs", buf);
	return r < 0 ? vps_err_sys(err, r, "move process %d to cgroup %s/monitors", (int)pid,
				   h->tag)
		     : 0;
}

int cg_enter_monitors(struct cg_host *h)
{
	autoclose int root = h->unified ? cg_host_openat(h, h->v2->path, O_PATH | O_DIRECTORY) : -1;
	if (h->monitors_fd < 0)
		return -EBADF;
	/* The namespace's root is where its maker stands. */
	if (root >= 0 && fs_write(root, "cgroup.procs", "0") == 0)
		(void)!unshare(CLONE_NEWCGROUP);
	return fs_write(h->monitors_fd, "cgroup.procs", "0");
}

/* ---- removing and listing */

int cg_destroy(struct cg_host *h, const char *name, struct vps_err *err)
{
	if (!cg_name_valid(name))
		return bad_name(name, err);
	/* v2 first: it knows the tenant's own groups, and while it is busy all is. */
	if (h->v2->tag_fd >= 0) {
		char ns[CG_PATH_MAX];
		snprintf(ns, sizeof(ns), "%s/ns", name);
		unlinkat(h->v2->tag_fd, ns, AT_REMOVEDIR); /* the usual case, in two calls */
		int r = cg_tree_remove(h->v2->tag_fd, name, DYING_MS);
		if (r == -EBUSY)
			return vps_err_set(err, EBUSY, "cgroup %s/%s has processes in it", h->tag,
					   name);
		if (r < 0)
			return vps_err_sys(err, r, "remove cgroup %s/%s", h->tag, name);
	}
	if (cg_tag_protected(h))
		cg_protect_tag(h); /* a promise too many does no harm until the next one */
	int first = 0;
	for (size_t i = 0; i < h->n; i++) {
		struct cg_hier *hi = &h->hier[i];
		if (hi->version != 1 || hi->tag_fd < 0)
			continue;
		int r = cg_tree_remove(hi->tag_fd, name, DYING_MS);
		if (r < 0 && !first)
			first = vps_err_sys(err, r, "remove cgroup %s/%s/%s", hi->path, h->tag,
					    name);
	}
	return first;
}

/* Not strv_add, which counts from the start: thousands of names, once a hierarchy. */
struct names {
	char **v;
	size_t n, cap;
};

static void names_done(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

static int add_name(void *arg, int dirfd, const char *name)
{
	struct names *l = arg;
	/* What others made below our tag with other names is not ours to tell of. */
	if (!cg_name_valid(name))
		return 0;
	if (mem_grow(l->v, l->n + 1, l->cap) < 0) /* + 1: the NULL at the end */
		return -ENOMEM;
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	l->v[l->n++] = copy;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void drop_doubles(struct names *l)
{
	size_t kept = 0;
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), compare_names);
	for (size_t i = 0; i < l->n; i++) {
		if (kept && str_eq(l->v[kept - 1], l->v[i]))
			free(l->v[i]);
		else
			l->v[kept++] = l->v[i];
	}
	l->n = kept;
}

int cg_list(struct cg_host *h, char ***ret, struct vps_err *err)
{
	auto_done(names_done) struct names names = { 0 };
	for (size_t i = 0; i < h->n; i++) {
		if (h->hier[i].tag_fd < 0)
			continue;
		int r = cg_subdirs(h->hier[i].tag_fd, add_name, &names);
		if (r < 0)
			return vps_err_sys(err, r, "list cgroups of %s", h->hier[i].path);
	}
	drop_doubles(&names);
	if (names.v)
		names.v[names.n] = NULL;
	names.n = 0;
	*ret = take_ptr(names.v);
	return 0;
}
