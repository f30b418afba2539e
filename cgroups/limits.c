/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of limits, and from limits to the files that hold them: a plan, which apply.c carries
 * out. Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the kernel. */
#include "cgroups/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The period of CPU bandwidth; the kernel's default in both versions. */
#define PERIOD_US 100000

/* ---- values as the kernel reads them */

static void format_num(uint64_t v, char *buf, size_t size)
{
	if (v == CG_MAX)
		snprintf(buf, size, "max");
	else
		snprintf(buf, size, "%" PRIu64, v);
}

static void format_v1(uint64_t v, char *buf, size_t size)
{
	if (v == CG_MAX)
		snprintf(buf, size, "-1");
	else
		snprintf(buf, size, "%" PRIu64, v);
}

static void format_cpu_max(uint64_t v, char *buf, size_t size)
{
	if (v == CG_MAX)
		snprintf(buf, size, "max %d", PERIOD_US);
	else
		snprintf(buf, size, "%" PRIu64 " %d", v * (PERIOD_US / 1000), PERIOD_US);
}

static void format_cfs_quota(uint64_t v, char *buf, size_t size)
{
	format_v1(v == CG_MAX ? v : v * (PERIOD_US / 1000), buf, size);
}

/* As the scheduler itself counts a weight: 100 is 1024 shares (sched_weight_from_cgroup). */
static void format_shares(uint64_t v, char *buf, size_t size)
{
	snprintf(buf, size, "%" PRIu64, (v * 1024 + 50) / 100);
}

static void format_io_weight(uint64_t v, char *buf, size_t size)
{
	snprintf(buf, size, "default %" PRIu64, v);
}

/* BFQ knows 1..1000 around the same default of 100: the upper part is squeezed. */
static uint64_t bfq_weight(uint64_t v)
{
	return v <= 100 ? v : 100 + (v - 100) * 900 / 9900;
}

static void format_bfq_weight(uint64_t v, char *buf, size_t size)
{
	snprintf(buf, size, "%" PRIu64, bfq_weight(v));
}

static void format_bfq_weight2(uint64_t v, char *buf, size_t size)
{
	snprintf(buf, size, "default %" PRIu64, bfq_weight(v));
}

#define BYTES_MAX (1ull << 62)

/* In the order of raising; lowering goes the other way round. */
const struct cg_limit_row cg_limit_rows[] = {
	{ "swap.max", offsetof(struct cg_limits, swap_max), CG_MEMORY, "memory.swap.max",
	  "memory.memsw.limit_in_bytes", 0, BYTES_MAX, CG_MAX, .may_max = true, .amount = true,
	  .format2 = format_num },
	{ "memory.max", offsetof(struct cg_limits, memory_max), CG_MEMORY, "memory.max",
	  "memory.limit_in_bytes", 4096, BYTES_MAX, CG_MAX, .may_max = true, .amount = true,
	  .shrinks = true, .format2 = format_num },
	{ "memory.high", offsetof(struct cg_limits, memory_high), CG_MEMORY, "memory.high", NULL,
	  4096, BYTES_MAX, CG_MAX, .may_max = true, .amount = true, .format2 = format_num },
	{ "memory.low", offsetof(struct cg_limits, memory_low), CG_MEMORY, "memory.low", NULL, 0,
	  BYTES_MAX, 0, .may_max = true, .amount = true, .format2 = format_num },
	{ "memory.min", offsetof(struct cg_limits, memory_min), CG_MEMORY, "memory.min", NULL, 0,
	  BYTES_MAX, 0, .may_max = true, .amount = true, .format2 = format_num },
	/* The smallest quota is 1 ms (min_cfs_quota_period): a hundredth of a CPU. */
	{ "cpu.max", offsetof(struct cg_limits, cpu_max), CG_CPU, "cpu.max", "cpu.cfs_quota_us", 10,
	  100000000, CG_MAX, .may_max = true, .format2 = format_cpu_max,
	  .format1 = format_cfs_quota },
	{ "cpu.weight", offsetof(struct cg_limits, cpu_weight), CG_CPU, "cpu.weight", "cpu.shares",
	  1, 10000, 100, .format2 = format_num, .format1 = format_shares },
	/* PID_MAX_LIMIT; more is "max". */
	{ "pids.max", offsetof(struct cg_limits, pids_max), CG_PIDS, "pids.max", "pids.max", 1,
	  4194304, CG_MAX, .may_max = true, .format2 = format_num, .format1 = format_num },
	{ "io.weight", offsetof(struct cg_limits, io_weight), CG_IO, "io.weight",
	  "blkio.bfq.weight", 1, 10000, 100, .format2 = format_io_weight,
	  .format1 = format_bfq_weight },
	{ "cgroup.max.descendants", offsetof(struct cg_limits, cgroups_max), CG_N_CONTROLLERS,
	  "cgroup.max.descendants", NULL, 1, 1000000, CG_MAX, .may_max = true,
	  .format2 = format_num },
};
const size_t cg_n_limit_rows = ARRAY_LEN(cg_limit_rows);

void cg_limits_init(struct cg_limits *l)
{
	*l = (struct cg_limits){ .oom_group = -1 };
	for (size_t i = 0; i < ARRAY_LEN(cg_limit_rows); i++)
		*(uint64_t *)((char *)l + cg_limit_rows[i].offset) = CG_UNSET;
}

void cg_limits_done(struct cg_limits *l)
{
	if (!l)
		return;
	free(l->cpuset);
	free(l->io_max);
	free(l->hugetlb);
	cg_limits_init(l);
}

/* ---- plan */

static void done_write(struct cg_write *w)
{
	free(w->old);
	close_fd(&w->fd);
}

void cg_plan_done(struct cg_plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		done_write(&p->w[i]);
	free(p->w);
	*p = (struct cg_plan){ 0 };
}

/* NULL when out of memory. Valid until the next add. */
static struct cg_write *add(struct cg_plan *p, const struct cg_hier *hi, enum cg_controller ctl,
			    const char *file)
{
	if (mem_grow(p->w, p->n, p->cap) < 0)
		return NULL;
	struct cg_write *w = &p->w[p->n++];
	*w = (struct cg_write){ .hi = hi, .ctl = ctl, .num = CG_UNSET, .fd = -1 };
	snprintf(w->file, sizeof(w->file), "%s", file);
	return w;
}

static void set_amount(struct cg_write *w, uint64_t v)
{
	w->num = v;
	(w->hi->version == 2 ? format_num : format_v1)(v, w->value, sizeof(w->value));
}

static int add_amount(struct cg_plan *p, const struct cg_hier *hi, const char *file, uint64_t v,
		      bool shrinks)
{
	struct cg_write *w = add(p, hi, CG_MEMORY, file);
	if (!w)
		return -ENOMEM;
	w->shrinks = shrinks;
	set_amount(w, v);
	return 0;
}

static const struct cg_hier *hier_of(const struct cg_host *h, enum cg_controller c)
{
	return c == CG_N_CONTROLLERS ? h->v2 : h->where[c];
}

static int plan_row(const struct cg_host *h, const struct cg_limit_row *row, uint64_t v,
		    struct cg_plan *p)
{
	const struct cg_hier *hi = hier_of(h, row->ctl);
	const char *file = !hi ? NULL : hi->version == 2 ? row->v2 : row->v1;
	if (!file)
		return 0; /* a neutral value: check.c refused all others */
	if (row->amount)
		return add_amount(p, hi, file, v, row->shrinks);
	struct cg_write *w = add(p, hi, row->ctl, file);
	if (!w)
		return -ENOMEM;
	(hi->version == 2 ? row->format2 : row->format1)(v, w->value, sizeof(w->value));
	return 0;
}

/* The old value of a file of v1 memory; CG_MAX and a dropped write where there is no such file. */
static int add_v1_memory(const struct cg *cg, const char *file, struct cg_plan *p, uint64_t *ret)
{
	struct cg_write *w = add(p, cg->h->where[CG_MEMORY], CG_MEMORY, file);
	if (!w)
		return -ENOMEM;
	w->shrinks = true;
	int r = cg_write_load(cg, w);
	*ret = r < 0 ? CG_MAX : w->old_num;
	if (r < 0)
		done_write(&p->w[--p->n]);
	return r;
}

/* v1 knows memory, and memory and swap together; we know memory, and swap. So the sum moves when
 * either does. */
static int plan_v1_memory(const struct cg *cg, const struct cg_limits *l, struct cg_plan *p,
			  struct vps_err *err)
{
	uint64_t mem, sum;
	int r = add_v1_memory(cg, "memory.memsw.limit_in_bytes", p, &sum);
	bool counted = r == 0; /* else the host does not count swap, and check.c refused limits */
	if (r == 0 || r == -ENOENT)
		r = add_v1_memory(cg, "memory.limit_in_bytes", p, &mem);
	if (r < 0)
		return vps_err_sys(err, r, "read the memory limits of '%s'", cg->name);
	uint64_t swap = mem == CG_MAX || sum == CG_MAX ? CG_MAX : sum - mem;
	if (l->swap_max != CG_UNSET)
		swap = l->swap_max;
	if (l->memory_max != CG_UNSET)
		mem = l->memory_max;
	r = cg_v1_swap_alone(mem, swap, err);
	if (r < 0)
		return r;
	if (counted)
		set_amount(&p->w[p->n - 2], swap == CG_MAX ? CG_MAX : mem + swap);
	set_amount(&p->w[p->n - 1], mem);
	return 0;
}

/* v2 has one file for BFQ's disks and one for those under io.cost; a host may have both kinds. */
static int plan_io_weight(const struct cg_host *h, uint64_t v, struct cg_plan *p)
{
	const struct cg_hier *hi = h->where[CG_IO];
	unsigned ways = cg_io_weight_ways(h);
	if (!hi)
		return 0;
	if (ways & CG_IOW_BFQ) {
		struct cg_write *w = add(p, hi, CG_IO,
					 hi->version == 2 ? "io.bfq.weight" : "blkio.bfq.weight");
		if (!w)
			return -ENOMEM;
		(hi->version == 2 ? format_bfq_weight2 : format_bfq_weight)(v, w->value,
									    sizeof(w->value));
	}
	if (ways & CG_IOW_COST) {
		struct cg_write *w = add(p, hi, CG_IO, "io.weight");
		if (!w)
			return -ENOMEM;
		format_io_weight(v, w->value, sizeof(w->value));
	}
	return 0;
}

static const struct {
	const char *v2, *v1;
	size_t offset;
} io_fields[] = {
	{ "rbps", "blkio.throttle.read_bps_device", offsetof(struct cg_io_max, rbps) },
	{ "wbps", "blkio.throttle.write_bps_device", offsetof(struct cg_io_max, wbps) },
	{ "riops", "blkio.throttle.read_iops_device", offsetof(struct cg_io_max, riops) },
	{ "wiops", "blkio.throttle.write_iops_device", offsetof(struct cg_io_max, wiops) },
};

static uint64_t io_field(const struct cg_io_max *io, size_t i)
{
	return *(const uint64_t *)((const char *)io + io_fields[i].offset);
}

static int plan_io_max_v2(const struct cg_hier *hi, const struct cg_io_max *io, struct cg_plan *p)
{
	struct cg_write *w = add(p, hi, CG_IO, "io.max");
	if (!w)
		return -ENOMEM;
	snprintf(w->key, sizeof(w->key), "%u:%u", io->major, io->minor);
	int len = snprintf(w->value, sizeof(w->value), "%s", w->key), bare = len;
	for (size_t i = 0; i < ARRAY_LEN(io_fields); i++) {
		char num[24];
		if (io_field(io, i) == CG_UNSET)
			continue;
		format_num(io_field(io, i), num, sizeof(num));
		len += snprintf(w->value + len, sizeof(w->value) - (size_t)len, " %s=%s",
				io_fields[i].v2, num);
	}
	if (len == bare)
		p->n--; /* nothing was asked for */
	return 0;
}

/* v1: a file a field, and 0 for no limit. */
static int plan_io_max_v1(const struct cg_hier *hi, const struct cg_io_max *io, struct cg_plan *p)
{
	for (size_t i = 0; i < ARRAY_LEN(io_fields); i++) {
		uint64_t v = io_field(io, i);
		if (v == CG_UNSET)
			continue;
		struct cg_write *w = add(p, hi, CG_IO, io_fields[i].v1);
		if (!w)
			return -ENOMEM;
		snprintf(w->key, sizeof(w->key), "%u:%u", io->major, io->minor);
		snprintf(w->value, sizeof(w->value), "%s %" PRIu64, w->key, v == CG_MAX ? 0 : v);
	}
	return 0;
}

static int plan_io_max(const struct cg_host *h, const struct cg_limits *l, struct cg_plan *p)
{
	const struct cg_hier *hi = h->where[CG_IO];
	for (size_t i = 0; hi && i < l->n_io_max; i++) {
		int r = hi->version == 2 ? plan_io_max_v2(hi, &l->io_max[i], p)
					 : plan_io_max_v1(hi, &l->io_max[i], p);
		if (r < 0)
			return r;
	}
	return 0;
}

static int plan_hugetlb(const struct cg_host *h, const struct cg_limits *l, struct cg_plan *p)
{
	const struct cg_hier *hi = h->where[CG_HUGETLB];
	for (size_t i = 0; hi && i < l->n_hugetlb; i++) {
		char file[64];
		snprintf(file, sizeof(file), "hugetlb.%s.%s", l->hugetlb[i].size,
			 hi->version == 2 ? "max" : "limit_in_bytes");
		struct cg_write *w = add(p, hi, CG_HUGETLB, file);
		if (!w)
			return -ENOMEM;
		(hi->version == 2 ? format_num : format_v1)(l->hugetlb[i].max, w->value,
							    sizeof(w->value));
	}
	return 0;
}

static int plan_words(const struct cg_host *h, const struct cg_limits *l, struct cg_plan *p)
{
	if (l->cpuset) {
		struct cg_write *w = add(p, h->where[CG_CPUSET], CG_CPUSET, "cpuset.cpus");
		if (!w)
			return -ENOMEM;
		w->long_value = l->cpuset;
	}
	const struct cg_hier *memory = h->where[CG_MEMORY];
	if (l->oom_group >= 0 && memory && memory->version == 2) {
		struct cg_write *w = add(p, memory, CG_MEMORY, "memory.oom.group");
		if (!w)
			return -ENOMEM;
		snprintf(w->value, sizeof(w->value), "%d", l->oom_group != 0);
	}
	return 0;
}

int cg_limits_plan(const struct cg *cg, const struct cg_limits *l, struct cg_plan *ret,
		   struct vps_err *err)
{
	const struct cg_host *h = cg->h;
	auto_done(cg_plan_done) struct cg_plan p = { 0 };
	bool v1_memory = h->where[CG_MEMORY] && h->where[CG_MEMORY]->version == 1;
	int r = 0;
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(cg_limit_rows); i++) {
		const struct cg_limit_row *row = &cg_limit_rows[i];
		uint64_t v = cg_limit_get(row, l);
		if (v == CG_UNSET || (v1_memory && row->ctl == CG_MEMORY))
			continue;
		r = row->ctl == CG_IO ? plan_io_weight(h, v, &p) : plan_row(h, row, v, &p);
	}
	if (r >= 0 && v1_memory && (l->memory_max != CG_UNSET || l->swap_max != CG_UNSET)) {
		r = plan_v1_memory(cg, l, &p, err);
		if (r < 0)
			return r;
	}
	if (r >= 0)
		r = plan_io_max(h, l, &p);
	if (r >= 0)
		r = plan_hugetlb(h, l, &p);
	if (r >= 0)
		r = plan_words(h, l, &p);
	if (r < 0)
		return vps_err_sys(err, r, "plan limits");
	*ret = p;
	p = (struct cg_plan){ 0 };
	return 0;
}
