/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Carry out a plan of limits on a group that may be running: each old value is kept, what is raised
 * goes before what is lowered, and a failure puts everything back. */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"

/* As often as the kernel itself tries (MAX_RECLAIM_RETRIES). */
#define RECLAIM_TRIES 16

static const char *value_of(const struct cg_write *w)
{
	return w->long_value ? w->long_value : w->value;
}

/* ---- old values */

/* The line of a device, or what clears it when it has none. */
static char *device_line(const struct cg_write *w, const char *text)
{
	size_t len = strlen(w->key);
	for (const char *at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (strncmp(at, w->key, len) == 0 && at[len] == ' ')
			return strndup(at, strcspn(at, "\n"));
	}
	return str_fmt(w->hi->version == 2 ? "%s rbps=max wbps=max riops=max wiops=max" : "%s 0",
		       w->key);
}

/* One open serves reading and writing. */
int cg_write_load(const struct cg *cg, struct cg_write *w)
{
	char buf[16384];
	if (w->old)
		return 0;
	if (w->fd < 0)
		w->fd = cg_file_open(cg, w->hi, w->file, O_RDWR);
	if (w->fd < 0)
		return w->fd;
	ssize_t len = fs_read_full(w->fd, buf, sizeof(buf) - 1);
	if (len < 0)
		return (int)len;
	if (len && buf[len - 1] == '\n')
		len--;
	buf[len] = 0;
	if (w->key[0])
		w->old = device_line(w, buf);
	else if (!len)
		w->old = strdup("\n"); /* an empty cpuset.cpus; writing no byte would do nothing */
	else
		w->old = strndup(buf, strcspn(buf, "\n"));
	if (!w->old)
		return -ENOMEM;
	w->old_num = cg_parse_u64(w->old);
	return 0;
}

static int put(const struct cg_write *w, const char *value)
{
	size_t len = strlen(value);
	ssize_t n;
	do {
		n = pwrite(w->fd, value, len, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

/* ---- failing */

static int write_failed(const struct cg *cg, const struct cg_write *w, int r, struct vps_err *err)
{
	const char *file = w->file, *value = value_of(w);
	switch (r) {
	case -ENOENT:
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "set %s of '%s': this kernel does not have "
				   "it (cgroup v%d): a newer kernel, or one with that controller "
				   "built in and on, is needed",
				   file, cg->name, w->hi->version);
	case -EOPNOTSUPP:
		return vps_err_set(err, VPS_EUNSUPPORTED, "set %s of '%s' to %s: the device or the "
				   "kernel does not support it", file, cg->name, value);
	case -EINVAL:
	case -ERANGE:
		return vps_err_set(err, VPS_EUSAGE,
				   "set %s of '%s' to %s: the kernel does not take "
				   "this value",
				   file, cg->name, value);
	case -ENODEV:
	case -ENXIO:
		return vps_err_set(err, VPS_EUSAGE, "set %s of '%s' to %s: no such disk", file,
				   cg->name, value);
	default:
		return vps_err_sys(err, r, "set %s of '%s' to %s", file, cg->name, value);
	}
}

static int in_use(const struct cg *cg, const struct cg_write *w, uint64_t used, struct vps_err *err)
{
	char have[16] = "more", want[16];
	if (used != CG_UNSET)
		fmt_size(used, have, sizeof(have));
	return vps_err_set(err, VPS_ERESOURCE, "set %s of '%s' to %s: %s is in use and cannot be "
			   "reclaimed; stop something inside, or allow more swap. The old limit "
			   "stays", w->file, cg->name, fmt_size(w->num, want, sizeof(want)), have);
}

/* ---- lowering memory below what is used */

/* v1 reclaims by itself when the limit is written, and says EBUSY when that was not enough.
 * force_empty then drops all cache, also what is above the new limit (so it comes last). */
static int shrink_v1(struct cg *cg, const struct cg_write *w, struct vps_err *err)
{
	int r = -EBUSY;
	for (int i = 0; i < 3 && r == -EBUSY; i++) {
		r = put(w, w->value);
		if (r == -EBUSY && i)
			cg_file_write(cg, w->hi, "memory.force_empty", "0");
	}
	if (r == -EBUSY) {
		uint64_t used = CG_UNSET;
		cg_file_u64(cg, w->hi, "memory.usage_in_bytes", &used);
		return in_use(cg, w, used, err);
	}
	return r < 0 ? write_failed(cg, w, r, err) : 0;
}

static uint64_t memory_current(struct cg *cg, const struct cg_hier *hi)
{
	uint64_t v = CG_UNSET;
	return cg_file_u64(cg, hi, "memory.current", &v) < 0 ? CG_UNSET : v;
}

/* Reclaim until the group is at or below target. The amount left. */
static uint64_t reclaim_to(struct cg *cg, const struct cg_hier *hi, uint64_t target)
{
	uint64_t used = memory_current(cg, hi);
	for (int i = 0; i < RECLAIM_TRIES && used != CG_UNSET && used > target; i++) {
		char amount[24];
		snprintf(amount, sizeof(amount), "%" PRIu64, used - target);
		/* memory.reclaim is of 5.19; EAGAIN: less than asked for. Before that, and also
		 * beyond, writing memory.high reclaims. */
		int r = cg_file_write(cg, hi, "memory.reclaim", amount);
		if (r == -ENOENT) {
			snprintf(amount, sizeof(amount), "%" PRIu64, target);
			cg_file_write(cg, hi, "memory.high", amount);
		}
		used = memory_current(cg, hi);
	}
	return used;
}

/* v2 would start killing inside the group. So memory.high first: it reclaims and holds the group's
 * growth back meanwhile; and only when that is enough, memory.max. */
static int shrink_v2(struct cg *cg, const struct cg_write *w, struct vps_err *err)
{
	char old_high[32] = "";
	uint64_t high = CG_MAX;
	if (memory_current(cg, w->hi) > w->num &&
	    cg_file_read(cg, w->hi, "memory.high", old_high, sizeof(old_high)) > 0) {
		high = cg_parse_u64(old_high);
		if (high > w->num)
			cg_file_write(cg, w->hi, "memory.high", w->value);
		uint64_t used = reclaim_to(cg, w->hi, w->num);
		if (used > w->num) {
			cg_file_write(cg, w->hi, "memory.high", old_high);
			return in_use(cg, w, used, err);
		}
	}
	int r = put(w, w->value);
	if (*old_high && high > w->num)
		cg_file_write(cg, w->hi, "memory.high", old_high);
	return r < 0 ? write_failed(cg, w, r, err) : 0;
}

/* ---- writing */

static bool lowers(const struct cg_write *w)
{
	return w->num != CG_UNSET && w->num < w->old_num;
}

static bool same(const struct cg_write *w)
{
	if (w->num != CG_UNSET)
		return w->num == w->old_num;
	return str_eq(w->old, value_of(w));
}

static int write_one(struct cg *cg, const struct cg_write *w, struct vps_err *err)
{
	if (w->shrinks && lowers(w))
		return w->hi->version == 2 ? shrink_v2(cg, w, err) : shrink_v1(cg, w, err);
	int r = put(w, value_of(w));
	/* v1 cpuset: a CPU that was away for a while is still missing in <tag>. */
	if (r == -EACCES && w->ctl == CG_CPUSET && w->hi->version == 1 &&
	    cg_cpuset_widen(cg->h) == 0)
		r = put(w, value_of(w));
	return r < 0 ? write_failed(cg, w, r, err) : 0;
}

static void undo(struct cg_write *const *done, size_t n)
{
	while (n--)
		put(done[n], done[n]->old);
}

size_t cg_plan_order(const struct cg_plan *p, struct cg_write **ret)
{
	size_t n = 0;
	for (size_t i = 0; i < p->n; i++)
		if (!same(&p->w[i]) && !lowers(&p->w[i]))
			ret[n++] = &p->w[i];
	for (size_t i = p->n; i-- > 0;)
		if (!same(&p->w[i]) && lowers(&p->w[i]))
			ret[n++] = &p->w[i];
	return n;
}

static int carry_out(struct cg *cg, const struct cg_plan *p, struct vps_err *err)
{
	for (size_t i = 0; i < p->n; i++) {
		int r = cg_write_load(cg, &p->w[i]);
		if (r < 0)
			return write_failed(cg, &p->w[i], r, err);
	}
	autofree struct cg_write **todo = calloc(p->n ? p->n : 1, sizeof(*todo));
	if (!todo)
		return vps_err_sys(err, -ENOMEM, "set limits of '%s'", cg->name);
	size_t n = cg_plan_order(p, todo);
	for (size_t i = 0; i < n; i++) {
		int r = write_one(cg, todo[i], err);
		if (r < 0) {
			undo(todo, i);
			return r;
		}
	}
	return 0;
}

static unsigned v2_controllers_of(const struct cg_plan *p)
{
	unsigned mask = 0;
	for (size_t i = 0; i < p->n; i++)
		if (p->w[i].hi->version == 2 && p->w[i].ctl < CG_N_CONTROLLERS)
			mask |= CG_BIT(p->w[i].ctl);
	return mask;
}

int cg_limits_apply(struct cg *cg, const struct cg_limits *l, struct vps_err *err)
{
	int r = cg_limits_check_each(cg->h, l, err);
	if (r < 0)
		return r;
	auto_done(cg_plan_done) struct cg_plan plan = { 0 };
	r = cg_limits_plan(cg, l, &plan, err);
	if (r < 0)
		return r;
	r = cg_v2_enable(cg->h, v2_controllers_of(&plan), err);
	if (r < 0)
		return r;
	r = carry_out(cg, &plan, err);
	if (r < 0 || (l->memory_min == CG_UNSET && l->memory_low == CG_UNSET))
		return r;
	r = cg_protect_tag(cg->h);
	return r < 0 ? vps_err_sys(err, r, "promise memory to cgroup %s", cg->h->tag) : 0;
}
