/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <tag> itself: made once, and readied so that a group below it needs one mkdir. Every step may be
 * repeated and may race with another vps doing the same. */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"

static int root_fd(const struct cg_host *h, const struct cg_hier *hi)
{
	return cg_host_openat(h, hi->path, O_PATH | O_DIRECTORY);
}

static int make_tag(struct cg_host *h, struct cg_hier *hi, struct vps_err *err)
{
	autoclose int root = root_fd(h, hi);
	if (root < 0)
		return vps_err_sys(err, root, "open %s", hi->path);
	if (mkdirat(root, h->tag, 0755) < 0 && errno != EEXIST) {
		int r = -errno;
		if (r == -EROFS)
			return vps_err_set(err, VPS_EUNSUPPORTED,
					   "%s is mounted read-only: mount -o remount,rw %s",
					   hi->path, hi->path);
		return vps_err_sys(err, r, "make cgroup %s/%s", hi->path, h->tag);
	}
	int fd = openat(root, h->tag, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return vps_err_sys(err, -errno, "open cgroup %s/%s", hi->path, h->tag);
	hi->tag_fd = fd;
	return 0;
}

/* ---- v1 cpuset: a new group has no CPU and no memory node, and takes no task (ENOSPC) */

static int copy_up(int root, int tag, const char *file)
{
	char buf[8192];
	ssize_t len = fs_read_buf(root, file, buf, sizeof(buf));
	return len < 0 ? (int)len : fs_write(tag, file, buf);
}

int cg_cpuset_widen(struct cg_host *h)
{
	struct cg_hier *hi = h->where[CG_CPUSET];
	autoclose int root = root_fd(h, hi);
	if (root < 0)
		return root;
	int r = copy_up(root, hi->tag_fd, "cpuset.mems");
	if (r < 0)
		return r;
	return copy_up(root, hi->tag_fd, "cpuset.cpus");
}

/* With cgroup.clone_children a new child takes cpus and mems over from <tag>, so that a start
 * pays nothing. cpus is written last: when it is there, all is. */
static int ready_cpuset(struct cg_host *h, struct vps_err *err)
{
	struct cg_hier *hi = h->where[CG_CPUSET];
	if (!hi || hi->version != 1 || h->cpuset_ready)
		return 0;
	char buf[8192];
	ssize_t len = fs_read_buf(hi->tag_fd, "cpuset.cpus", buf, sizeof(buf));
	int r = (int)len;
	if (len == 0) {
		r = fs_write(hi->tag_fd, "cgroup.clone_children", "1");
		if (r >= 0)
			r = cg_cpuset_widen(h);
	}
	if (r < 0)
		return vps_err_sys(err, r, "hand CPUs to cpuset cgroup %s", h->tag);
	h->cpuset_ready = true;
	return 0;
}

/* ---- v2: controllers, top-down (cgroup-v2.rst, "Top-down Constraint") */

char *cg_subtree_words(unsigned mask, char *buf, size_t size)
{
	size_t len = 0;
	buf[0] = 0;
	for (int c = 0; c < CG_N_CONTROLLERS; c++)
		if ((mask & CG_BIT(c)) && len < size)
			len += (size_t)snprintf(buf + len, size - len, "%s+%s", len ? " " : "",
						cg_controller_name(c));
	return buf;
}

static unsigned enabled_in(int dir)
{
	char buf[256];
	if (fs_read_buf(dir, "cgroup.subtree_control", buf, sizeof(buf)) < 0)
		return 0;
	unsigned mask = 0;
	char *save = NULL;
	for (char *w = strtok_r(buf, " ", &save); w; w = strtok_r(NULL, " ", &save))
		for (int c = 0; c < CG_N_CONTROLLERS; c++)
			if (str_eq(w, cg_controller_name(c)))
				mask |= CG_BIT(c);
	return mask;
}

static int enable_failed(int r, const char *where, const char *words, struct vps_err *err)
{
	if (r == -EBUSY)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "cannot enable %s in cgroup %s: processes sit in it, and a v2 "
				   "group has either processes or controlled children; run vps "
				   "from the host's own cgroup root, not inside a container", words,
				   where);
	if (r == -EINVAL)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "cannot enable %s in cgroup %s: real-time processes are running "
				   "(CONFIG_RT_GROUP_SCHED), or the controller is held elsewhere",
				   words, where);
	return vps_err_sys(err, r, "enable %s in cgroup %s", words, where);
}

/* All at once, else one by one, to name the one at fault. */
static int enable_in(int dir, unsigned mask, const char *where, struct vps_err *err)
{
	char words[160];
	if (!mask || fs_write(dir, "cgroup.subtree_control",
			      cg_subtree_words(mask, words, sizeof(words))) == 0)
		return 0;
	for (int c = 0; c < CG_N_CONTROLLERS; c++) {
		if (!(mask & CG_BIT(c)))
			continue;
		int r = fs_write(dir, "cgroup.subtree_control",
				 cg_subtree_words(CG_BIT(c), words, sizeof(words)));
		if (r < 0)
			return enable_failed(r, where, words, err);
	}
	return 0;
}

int cg_v2_enable(struct cg_host *h, unsigned mask, struct vps_err *err)
{
	mask &= h->v2->controllers;
	if (!(mask & ~h->enabled))
		return 0;
	h->enabled |= enabled_in(h->v2->tag_fd);
	unsigned missing = mask & ~h->enabled;
	if (!missing)
		return 0;
	autoclose int root = root_fd(h, h->v2);
	if (root < 0)
		return vps_err_sys(err, root, "open %s", h->v2->path);
	int r = enable_in(root, missing, "/", err);
	if (r < 0)
		return r;
	/* Once <tag> has them on, nobody can take them from the root any more (EBUSY): a systemd
	 * that no longer wants a controller for its own units leaves ours alone. */
	r = enable_in(h->v2->tag_fd, missing, h->tag, err);
	if (r < 0)
		return r;
	h->enabled |= missing;
	return 0;
}

int cg_tag_setup(struct cg_host *h, struct vps_err *err)
{
	for (size_t i = 0; i < h->n; i++) {
		int r = h->hier[i].tag_fd < 0 ? make_tag(h, &h->hier[i], err) : 0;
		if (r < 0)
			return r;
	}
	int r = ready_cpuset(h, err);
	if (r < 0)
		return r;
	/* Hybrid hosts leave v2's few controllers off until a limit wants one (apply.c). */
	return h->unified ? cg_v2_enable(h, h->v2->controllers, err) : 0;
}

/* ---- the end of a tag */

/* A monitor whose VPS has ended stays for 2 s, for who asks how. */
#define LAST_WORDS_MS 3000

int cg_host_purge(struct cg_host *h, struct vps_err *err)
{
	for (size_t i = 0; i < h->n; i++) {
		struct cg_hier *hi = &h->hier[i];
		if (hi->tag_fd < 0)
			continue;
		autoclose int root = root_fd(h, hi);
		if (root < 0)
			return vps_err_sys(err, root, "open %s", hi->path);
		(void)cg_tree_remove(hi->tag_fd, "monitors", LAST_WORDS_MS);
		if (unlinkat(root, h->tag, AT_REMOVEDIR) < 0 && errno != ENOENT)
			return vps_err_sys(err, -errno, "remove cgroup %s/%s", hi->path, h->tag);
		close_fd(&hi->tag_fd);
	}
	close_fd(&h->monitors_fd);
	h->enabled = 0;
	h->cpuset_ready = false;
	return 0;
}
