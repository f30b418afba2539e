/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Freeze and kill by cgroup v2; both end when cgroup.events says so. */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "base/fs.h"
#include "base/sys.h"

static ssize_t read_events(int fd, char *buf, size_t size)
{
	ssize_t n = pread(fd, buf, size - 1, 0);
	if (n < 0)
		return -errno;
	buf[n] = 0;
	return n;
}

int cg_events_get(int dirfd, const char *key)
{
	char buf[256];
	ssize_t n = fs_read_buf(dirfd, "cgroup.events", buf, sizeof(buf));
	if (n < 0)
		return (int)n;
	uint64_t v = cg_parse_key(buf, key);
	return v == CG_UNSET ? -EOPNOTSUPP : v != 0;
}

/* The kernel tells of a change by POLLPRI, but at most once in 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV,
 * 4.18): a second change soon after the first is seen earlier by looking again. So each wait is
 * short at first and doubles. */
int cg_events_wait(int dirfd, const char *key, uint64_t want, int timeout_ms)
{
	autoclose int fd = openat(dirfd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	uint64_t deadline = sys_now_mono() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000;
	for (int step = 1;; step = step < 64 ? step * 2 : step) {
		char buf[256];
		ssize_t n = read_events(fd, buf, sizeof(buf));
		if (n < 0)
			return (int)n;
		uint64_t v = cg_parse_key(buf, key);
		if (v == want)
			return 0;
		if (v == CG_UNSET)
			return -EOPNOTSUPP;
		uint64_t now = sys_now_mono();
		if (now >= deadline)
			return -ETIMEDOUT;
		int left = (int)((deadline - now) / 1000000) + 1;
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		if (poll(&p, 1, left < step ? left : step) < 0 && errno != EINTR)
			return -errno;
	}
}

int cg_freeze(struct cg *cg, bool frozen, int timeout_ms, struct vps_err *err)
{
	const char *verb = frozen ? "freeze" : "thaw";
	int r = fs_write(cg->v2_fd, "cgroup.freeze", frozen ? "1" : "0");
	if (r == -ENOENT)
		return vps_err_set(err, VPS_EUNSUPPORTED, "%s '%s': this kernel has no "
				   "cgroup.freeze; it came with Linux 5.2", verb, cg->name);
	if (r < 0)
		return vps_err_sys(err, r, "%s '%s'", verb, cg->name);
	r = cg_events_wait(cg->v2_fd, "frozen", frozen, timeout_ms);
	if (r == 0)
		return 0;
	if (frozen)
		fs_write(cg->v2_fd, "cgroup.freeze", "0");
	if (r == -ETIMEDOUT)
		return vps_err_set(err, ETIMEDOUT, "%s '%s': not done after %d ms; a process in it "
				   "waits in the kernel, perhaps for a disk or a network file "
				   "system%s", verb, cg->name, timeout_ms,
				   frozen ? "; it runs on" : "");
	return vps_err_sys(err, r, "%s '%s'", verb, cg->name);
}

int cg_freeze_begin(struct cg *cg, struct vps_err *err)
{
	int r = fs_write(cg->v2_fd, "cgroup.freeze", "1");

	return r < 0 ? vps_err_sys(err, r, "freeze '%s'", cg->name) : 0;
}

int cg_is_frozen(struct cg *cg)
{
	return cg_events_get(cg->v2_fd, "frozen");
}

int cg_populated(struct cg *cg)
{
	return cg_events_get(cg->v2_fd, "populated");
}

/* Before 5.14. A process may fork between our reading the list and its death, so again until none
 * is left. Frozen processes die too: v2's freezer lets SIGKILL through. */
static int kill_by_signals(struct cg *cg, int timeout_ms)
{
	uint64_t deadline = sys_now_mono() + (uint64_t)timeout_ms * 1000000;
	int r;
	do {
		r = cg_tree_kill(cg->v2_fd);
		if (r >= 0)
			r = cg_events_wait(cg->v2_fd, "populated", 0, 20);
	} while (r == -ETIMEDOUT && sys_now_mono() < deadline);
	return r;
}

int cg_kill(struct cg *cg, int timeout_ms, struct vps_err *err)
{
	int r = fs_write(cg->v2_fd, "cgroup.kill", "1");
	if (r == -ENOENT)
		r = kill_by_signals(cg, timeout_ms);
	else if (r == 0)
		r = cg_events_wait(cg->v2_fd, "populated", 0, timeout_ms);
	if (r == -ETIMEDOUT)
		return vps_err_set(
			err, ETIMEDOUT,
			"kill '%s': processes are left after %d ms; they "
			"wait in the kernel, perhaps for a disk or a network file system",
			cg->name, timeout_ms);
	return r < 0 ? vps_err_sys(err, r, "kill '%s'", cg->name) : 0;
}
