/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Would each limit be held on this host? What would not is refused with words, before anything is
 * made. */
#include "cgroups/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"

#define CPUS_MAX 8192 /* NR_CPUS of the largest kernels */
#define UNIFY	 "boot with systemd.unified_cgroup_hierarchy=1 (without systemd: cgroup_no_v1=all)"

/* ---- what is missing, in words */

static int no_controller(const char *limit, const char *controller, struct vps_err *err)
{
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "%s: this host has no %s controller: the kernel was booted with "
			   "cgroup_disable=%s or built without it, or its hierarchy is not mounted",
			   limit, controller, controller);
}

static int needs_v2(const char *limit, const char *controller, const char *instead,
		    struct vps_err *err)
{
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "%s needs cgroup v2 for %s, which is on v1 here: " UNIFY "%s%s", limit,
			   controller, instead ? ", or " : "", instead ? instead : "");
}

static int bad_range(const struct cg_limit_row *row, uint64_t v, struct vps_err *err)
{
	char value[24] = "max";
	if (v != CG_MAX)
		snprintf(value, sizeof(value), "%" PRIu64, v);
	return vps_err_set(err, VPS_EUSAGE, "%s %s: must be %" PRIu64 "..%" PRIu64 "%s", row->name,
			   value, row->min, row->max, row->may_max ? " or max" : "");
}

/* ---- I/O weight: a number that nobody reads, but on disks under BFQ or io.cost */

static bool bfq_in_use(const struct cg_host *h)
{
	autoclose int fd = cg_host_openat(h, "/sys/block", O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return false;
	fd = -1;
	bool found = false;
	for (struct dirent *d = readdir(dir); d && !found; d = readdir(dir)) {
		char path[NAME_MAX + 32], buf[256];
		/* A host has a loop device a VPS, perhaps; none of them schedules. */
		if (d->d_name[0] == '.' || str_starts(d->d_name, "loop") ||
		    str_starts(d->d_name, "ram") || str_starts(d->d_name, "zram"))
			continue;
		snprintf(path, sizeof(path), "%s/queue/scheduler", d->d_name);
		if (fs_read_buf(dirfd(dir), path, buf, sizeof(buf)) > 0)
			found = strstr(buf, "[bfq]") != NULL;
	}
	closedir(dir);
	return found;
}

unsigned cg_io_weight_ways(const struct cg_host *h)
{
	const struct cg_hier *hi = h->where[CG_IO];
	unsigned ways = bfq_in_use(h) ? CG_IOW_BFQ : 0;
	if (hi && hi->version == 2) {
		char buf[4096];
		autofree char *path = str_fmt("%s/io.cost.qos", hi->path);
		if (path && cg_host_read(h, path, buf, sizeof(buf)) > 0 && strstr(buf, "enable=1"))
			ways |= CG_IOW_COST;
	}
	return ways;
}

static int check_io_weight(const struct cg_host *h, struct vps_err *err)
{
	if (cg_io_weight_ways(h))
		return 0;
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "io.weight has no effect here: no disk is under the bfq scheduler%s: "
			   "echo bfq >/sys/block/DISK/queue/scheduler, or use io.max",
			   h->where[CG_IO]->version == 2 ? " or io.cost" : "");
}

/* ---- numbers */

/* v1 has memory+swap only where swap is counted at all. */
static int check_v1_swap(const struct cg_host *h, struct vps_err *err)
{
	char buf[64];
	autofree char *path = str_fmt("%s/memory.memsw.limit_in_bytes", h->where[CG_MEMORY]->path);
	ssize_t r = path ? cg_host_read(h, path, buf, sizeof(buf)) : -ENOMEM;
	if (r == -ENOENT)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "swap.max: this kernel does not count swap "
				   "a group: boot with swapaccount=1");
	return r < 0 ? vps_err_sys(err, (int)r, "read %s", path ? path : "memsw") : 0;
}

/* Without the option a promise ends at the group itself, and its processes sit further down. */
static int check_promise(const struct cg_host *h, const struct cg_limit_row *row,
			 struct vps_err *err)
{
	if (h->recursive)
		return 0;
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "%s would not reach the processes: cgroup2 is mounted without "
			   "memory_recursiveprot: mount -o remount,nsdelegate,memory_recursiveprot %s",
			   row->name, h->v2->path);
}

static int check_row(const struct cg_host *h, const struct cg_limit_row *row, uint64_t v,
		     struct vps_err *err)
{
	if (v == CG_MAX ? !row->may_max : v < row->min || v > row->max)
		return bad_range(row, v, err);
	if (v == row->neutral)
		return 0;
	if (row->ctl == CG_N_CONTROLLERS)
		return 0;
	const struct cg_hier *hi = h->where[row->ctl];
	if (!hi)
		return no_controller(row->name, cg_controller_name(row->ctl), err);
	if (hi->version == 1 && !row->v1)
		return needs_v2(row->name, cg_controller_name(row->ctl), "use memory.max alone",
				err);
	if (row->offset == offsetof(struct cg_limits, memory_min) ||
	    row->offset == offsetof(struct cg_limits, memory_low))
		return check_promise(h, row, err);
	if (row->offset == offsetof(struct cg_limits, io_weight))
		return check_io_weight(h, err);
	if (row->offset == offsetof(struct cg_limits, swap_max) && hi->version == 1)
		return check_v1_swap(h, err);
	return 0;
}

static int check_memory_order(const struct cg_limits *l, struct vps_err *err)
{
	const struct {
		const char *name;
		uint64_t v;
	} below[] = { { "memory.min", l->memory_min },
		      { "memory.low", l->memory_low },
		      { "memory.high", l->memory_high } };
	if (l->memory_max == CG_UNSET || l->memory_max == CG_MAX)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(below); i++) {
		uint64_t v = below[i].v;
		if (v != CG_UNSET && v != CG_MAX && v > l->memory_max)
			return vps_err_set(err, VPS_EUSAGE, "%s %" PRIu64 " is above memory.max %"
					   PRIu64, below[i].name, v, l->memory_max);
	}
	return 0;
}

/* ---- cpuset */

/* "0-3,8" into bits. */
static int parse_cpulist(const char *s, uint8_t bits[CPUS_MAX / 8])
{
	memset(bits, 0, CPUS_MAX / 8);
	for (;;) {
		char *end;
		if (*s < '0' || *s > '9')
			return -EINVAL;
		unsigned long first = strtoul(s, &end, 10), last = first;
		if (*end == '-') {
			if (end[1] < '0' || end[1] > '9')
				return -EINVAL;
			last = strtoul(end + 1, &end, 10);
		}
		if (last < first)
			return -EINVAL;
		if (last >= CPUS_MAX)
			return -ERANGE;
		for (unsigned long i = first; i <= last; i++)
			bits[i / 8] |= (uint8_t)(1u << i % 8);
		if (!*end)
			return 0;
		if (*end != ',')
			return -EINVAL;
		s = end + 1;
	}
}

int cg_cpulist_within(const char *list, const char *have)
{
	uint8_t want[CPUS_MAX / 8], there[CPUS_MAX / 8];
	int r = parse_cpulist(list, want);
	if (r < 0)
		return r;
	r = parse_cpulist(have, there);
	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(want); i++)
		if (want[i] & ~there[i])
			return -ERANGE;
	return 0;
}

static int check_cpuset(const struct cg_host *h, const char *list, struct vps_err *err)
{
	char have[8192];
	if (!h->where[CG_CPUSET])
		return no_controller("cpuset", "cpuset", err);
	ssize_t len = cg_host_read(h, "/sys/devices/system/cpu/online", have, sizeof(have));
	if (len < 0)
		return vps_err_sys(err, (int)len, "read /sys/devices/system/cpu/online");
	int r = cg_cpulist_within(list, have);
	if (r == -ERANGE)
		return vps_err_set(err, VPS_EUSAGE, "cpuset %.200s: this host has the CPUs %.100s",
				   list, have);
	if (r < 0)
		return vps_err_set(err, VPS_EUSAGE, "cpuset '%.200s': a list of CPUs like 0-3,8 is "
				   "wanted", list);
	return 0;
}

/* ---- disks */

static int check_disk(const struct cg_host *h, const struct cg_io_max *io, struct vps_err *err)
{
	char path[96], whole[32] = "";
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", io->major, io->minor);
	autoclose int dir = cg_host_openat(h, path, O_PATH | O_DIRECTORY);
	if (dir == -ENOENT && io->major == 0)
		return vps_err_set(
			err, VPS_EUNSUPPORTED,
			"io.max: 0:%u is no disk but a file system without one of its own "
			"(btrfs, ZFS, overlay, NFS, tmpfs): name the disk below it",
			io->minor);
	if (dir == -ENOENT)
		return vps_err_set(err, VPS_EUSAGE, "io.max: this host has no disk %u:%u",
				   io->major, io->minor);
	if (dir < 0)
		return vps_err_sys(err, dir, "open %s", path);
	if (!fs_exists(dir, "partition"))
		return 0;
	fs_read_buf(dir, "../dev", whole, sizeof(whole));
	return vps_err_set(err, VPS_EUSAGE, "io.max: %u:%u is a partition, and the kernel limits "
			   "whole disks only: name %s", io->major, io->minor,
			   *whole ? whole : "its disk");
}

static int check_io_max(const struct cg_host *h, const struct cg_limits *l, struct vps_err *err)
{
	if (l->n_io_max && !h->where[CG_IO])
		return no_controller("io.max", "io", err);
	for (size_t i = 0; i < l->n_io_max; i++) {
		const struct cg_io_max *io = &l->io_max[i];
		if (!io->rbps || !io->wbps || !io->riops || !io->wiops)
			return vps_err_set(err, VPS_EUSAGE,
					   "io.max 0 for disk %u:%u: must be 1 or more, or max",
					   io->major, io->minor);
		int r = check_disk(h, io, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* "2MB" as in hugetlb.2MB.max, to the kilobytes of /sys/kernel/mm/hugepages. 0: malformed. */
static uint64_t hugepage_kib(const char *size)
{
	char *end;
	if (*size < '1' || *size > '9' || strlen(size) > 8)
		return 0;
	uint64_t n = strtoull(size, &end, 10);
	return str_eq(end, "KB")   ? n
	       : str_eq(end, "MB") ? n << 10
	       : str_eq(end, "GB") ? n << 20
				   : 0;
}

static int check_hugetlb(const struct cg_host *h, const struct cg_limits *l, struct vps_err *err)
{
	if (l->n_hugetlb && !h->where[CG_HUGETLB])
		return no_controller("hugetlb", "hugetlb", err);
	for (size_t i = 0; i < l->n_hugetlb; i++) {
		char path[96];
		uint64_t kib = hugepage_kib(l->hugetlb[i].size);
		snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB",
			 kib);
		autoclose int dir = kib ? cg_host_openat(h, path, O_PATH | O_DIRECTORY) : -ENOENT;
		if (dir < 0)
			return vps_err_set(
				err, VPS_EUSAGE,
				"hugetlb.%.15s: this host has no huge pages of that size: "
				"see /sys/kernel/mm/hugepages",
				l->hugetlb[i].size);
	}
	return 0;
}

static int check_oom_group(const struct cg_host *h, const struct cg_limits *l, struct vps_err *err)
{
	if (l->oom_group != 1)
		return 0;
	if (!h->where[CG_MEMORY])
		return no_controller("memory.oom.group", "memory", err);
	if (h->where[CG_MEMORY]->version == 1)
		return needs_v2("memory.oom.group", "memory", "leave it off", err);
	return 0;
}

int cg_limits_check_each(const struct cg_host *h, const struct cg_limits *l, struct vps_err *err)
{
	for (size_t i = 0; i < cg_n_limit_rows; i++) {
		uint64_t v = cg_limit_get(&cg_limit_rows[i], l);
		int r = v == CG_UNSET ? 0 : check_row(h, &cg_limit_rows[i], v, err);
		if (r < 0)
			return r;
	}
	int r = check_memory_order(l, err);
	if (r >= 0 && l->cpuset)
		r = check_cpuset(h, l->cpuset, err);
	if (r >= 0)
		r = check_io_max(h, l, err);
	if (r >= 0)
		r = check_hugetlb(h, l, err);
	if (r >= 0)
		r = check_oom_group(h, l, err);
	return r;
}

static bool is_limit(uint64_t v)
{
	return v != CG_UNSET && v != CG_MAX;
}

int cg_v1_swap_alone(uint64_t memory, uint64_t swap, struct vps_err *err)
{
	if (is_limit(memory) || !is_limit(swap))
		return 0;
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "swap.max without memory.max needs cgroup v2 (v1 limits only the "
			   "sum of both): set memory.max too, or swap.max to max");
}

int cg_limits_check(const struct cg_host *h, const struct cg_limits *l, struct vps_err *err)
{
	int r = cg_limits_check_each(h, l, err);
	if (r >= 0 && cg_host_version(h, CG_MEMORY) == 1)
		r = cg_v1_swap_alone(l->memory_max, l->swap_max, err);
	return r;
}

int cg_limits_caveats(const struct cg_host *h, const struct cg_limits *l, char ***ret)
{
	auto_strv words = NULL;
	bool writes = false;
	for (size_t i = 0; i < l->n_io_max; i++) {
		const struct cg_io_max *io = &l->io_max[i];
		writes |= (io->wbps != CG_UNSET && io->wbps != CG_MAX) ||
			  (io->wiops != CG_UNSET && io->wiops != CG_MAX);
	}
	/* cgroup-v1/blkio-controller.rst: writeback counts to the root group. */
	if (writes && h->where[CG_IO] && h->where[CG_IO]->version == 1) {
		int r = strv_add(&words, "io.max for writing holds direct and synchronous writes "
				 "only: io is on cgroup v1 here, where the kernel writes cached "
				 "data back in the host's name; " UNIFY);
		if (r < 0)
			return r;
	}
	*ret = take_ptr(words);
	return 0;
}
