/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cgroups/ against fake trees of both layouts: no root needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "cgroups/internal.h"

#define TAG "vpstest"

static const char pure_mounts[] =
	"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
	"30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
static const char hybrid_mounts[] =
	"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
	"31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
	"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
	"34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
	"35 31 0:32 / /sys/fs/cgroup/memory\\040v1 rw shared:9 - cgroup cgroup rw,memory\n"
	"36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
	"37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
	"38 31 0:35 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n"
	"39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
	"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	"42 31 0:36 / /elsewhere/pids rw - cgroup cgroup rw,pids\n";

struct fake {
	char root[64];
	struct cg_host *h;
	struct cg *cg;
	struct vps_err err;
};

static void put(struct fake *f, const char *path, const char *text)
{
	char full[512];
	snprintf(full, sizeof(full), "%s%s", f->root, path);
	char *slash = strrchr(full, '/');
	*slash = 0;
	assert_int_equal(fs_mkdir_p(AT_FDCWD, full, 0755), 0);
	*slash = '/';
	FILE *out = fopen(full, "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

/* The text of a file, as far as want reaches: a fake file is not truncated by a write. */
static void assert_file(struct fake *f, const char *path, const char *want)
{
	char full[512], buf[256];
	snprintf(full, sizeof(full), "%s%s", f->root, path);
	ssize_t n = fs_read_buf(AT_FDCWD, full, buf, sizeof(buf));
	if (n < 0)
		fail_msg("%s: %s", path, strerror((int)-n));
	buf[strlen(want) < sizeof(buf) ? strlen(want) : sizeof(buf) - 1] = 0;
	assert_string_equal(buf, want);
}

static struct fake *new_fake(void)
{
	struct fake *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	strcpy(f->root, "/tmp/vps-cg-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	put(f, "/sys/devices/system/cpu/online", "0-3,6\n");
	put(f, "/sys/block/vda/queue/scheduler", "[none] mq-deadline kyber bfq\n");
	put(f, "/sys/block/loop0/queue/scheduler", "none [bfq]\n");
	put(f, "/sys/dev/block/254:0/dev", "254:0\n");
	put(f, "/sys/dev/block/254:0/vda1/partition", "1\n");
	char link[128];
	snprintf(link, sizeof(link), "%s/sys/dev/block/254:1", f->root);
	assert_int_equal(symlink("254:0/vda1", link), 0);
	put(f, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n");
	return f;
}

static void open_fake(struct fake *f, const char *mounts)
{
	int r = cg_host_open_at(f->root, mounts, TAG, &f->h, &f->err);
	if (r < 0)
		fail_msg("%s", f->err.msg);
	r = cg_open(f->h, "one", &f->cg, &f->err);
	if (r < 0)
		fail_msg("%s", f->err.msg);
}

#define P "/sys/fs/cgroup/" TAG "/"
#define G "/sys/fs/cgroup/" TAG "/one/"
#define M "/sys/fs/cgroup/memory v1/" TAG "/one/"
#define B "/sys/fs/cgroup/blkio/" TAG "/one/blkio.throttle."

static int setup_pure(void **state)
{
	struct fake *f = new_fake();
	put(f, "/sys/fs/cgroup/cgroup.controllers",
	    "cpuset cpu io memory hugetlb pids rdma misc\n");
	put(f, "/sys/fs/cgroup/" TAG "/cgroup.subtree_control",
	    "cpuset cpu io memory hugetlb pids\n");
	static const char *const files[][2] = {
		{ "memory.min", "0\n" }, { "memory.low", "0\n" }, { "memory.high", "max\n" },
		{ "memory.max", "max\n" }, { "memory.swap.max", "max\n" },
		{ "memory.oom.group", "0\n" }, { "memory.current", "4096\n" },
		{ "cpu.max", "max 100000\n" }, { "cpu.weight", "100\n" }, { "cpuset.cpus", "\n" },
		{ "pids.max", "max\n" }, { "io.weight", "default 100\n" },
		{ "io.max", "8:0 rbps=5 wbps=max riops=max wiops=max\n" },
		{ "hugetlb.2MB.max", "max\n" }, { "cgroup.max.descendants", "max\n" },
		{ "cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_throttled 2\n" },
		{ "memory.peak", "8192\n" }, { "memory.stat", "anon 10\nfile 20\nkernel 30\n" },
		{ "memory.events", "low 0\noom 1\noom_kill 3\n" }, { "pids.current", "5\n" },
		{ "pids.events", "max 9\n" },
		{ "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 \n"
			     "8:32 rbytes=10 wbytes=20 rios=30 wios=40 dbytes=0 dios=0\n" },
		{ "cpu.pressure", "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n" },
		{ "memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
				     "full avg10=2.00 avg60=3.00 avg300=0.00 total=88\n" },
		{ "io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
				 "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" },
	};
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char path[256];
		snprintf(path, sizeof(path), G "%s", files[i][0]);
		put(f, path, files[i][1]);
	}
	put(f, P "memory.min", "0\n");
	put(f, P "memory.low", "0\n");
	put(f, P "other/memory.min", "1048576\n");
	put(f, P "other/memory.low", "max\n");
	open_fake(f, pure_mounts);
	*state = f;
	return 0;
}

static int setup_hybrid(void **state)
{
	struct fake *f = new_fake();
	put(f, "/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n");
	put(f, "/sys/fs/cgroup/unified/cgroup.subtree_control", "\n");
	put(f, "/sys/fs/cgroup/unified/" TAG "/cgroup.subtree_control", "\n");
	put(f, "/sys/fs/cgroup/unified/" TAG "/one/hugetlb.2MB.max", "max\n");
	put(f, "/sys/fs/cgroup/memory v1/memory.memsw.limit_in_bytes", "9223372036854771712\n");
	put(f, M "memory.limit_in_bytes", "9223372036854771712\n");
	put(f, M "memory.memsw.limit_in_bytes", "9223372036854771712\n");
	put(f, "/sys/fs/cgroup/cpu,cpuacct/" TAG "/one/cpu.cfs_quota_us", "-1\n");
	put(f, "/sys/fs/cgroup/cpu,cpuacct/" TAG "/one/cpu.shares", "1024\n");
	put(f, "/sys/fs/cgroup/cpuset/" TAG "/one/cpuset.cpus", "0-3,6\n");
	put(f, "/sys/fs/cgroup/pids/" TAG "/one/pids.max", "max\n");
	put(f, B "read_bps_device", "");
	put(f, B "write_bps_device", "254:0 999\n");
	put(f, B "read_iops_device", "");
	put(f, B "write_iops_device", "");
	open_fake(f, hybrid_mounts);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fake *f = *state;
	cg_close(f->cg);
	cg_host_close(f->h);
	fs_remove_tree(AT_FDCWD, f->root);
	free(f);
	return 0;
}

static void ok(struct fake *f, int r)
{
	if (r < 0)
		fail_msg("%s", f->err.msg);
}

/* ---- discovery */

static void test_pure_versions(void **state)
{
	struct fake *f = *state;
	assert_true(cg_host_unified(f->h));
	for (int c = 0; c < CG_N_CONTROLLERS; c++)
		assert_int_equal(cg_host_version(f->h, c), 2);
}

static void test_hybrid_versions(void **state)
{
	struct fake *f = *state;
	static const int want[CG_N_CONTROLLERS] = {
		[CG_CPU] = 1, [CG_CPUACCT] = 2, [CG_CPUSET] = 1, [CG_MEMORY] = 1, [CG_IO] = 1,
		[CG_PIDS] = 1, [CG_HUGETLB] = 2, [CG_DEVICES] = 1, [CG_FREEZER] = 2,
	};
	assert_false(cg_host_unified(f->h));
	for (int c = 0; c < CG_N_CONTROLLERS; c++)
		assert_int_equal(cg_host_version(f->h, c), want[c]);
	/* The mount point's space is unescaped, the first mount of two counts, and freezer is left
	 * alone. */
	assert_string_equal(f->h->where[CG_MEMORY]->path, "/sys/fs/cgroup/memory v1");
	assert_string_equal(f->h->where[CG_PIDS]->path, "/sys/fs/cgroup/pids");
	assert_int_equal(f->h->n, 7);
}

static void test_open_missing(void **state)
{
	struct fake *f = *state;
	struct cg *cg = NULL;
	assert_int_equal(cg_open(f->h, "two", &cg, NULL), -ENOENT);
	assert_int_equal(cg_open(f->h, "../one", &cg, NULL), -VPS_EUSAGE);
	assert_int_equal(cg_destroy(f->h, "two", NULL), 0);
	assert_int_equal(cg_destroy(f->h, "one/..", NULL), -VPS_EUSAGE);
	assert_null(cg);
}

static void test_list(void **state)
{
	struct fake *f = *state;
	put(f, "/sys/fs/cgroup/pids/" TAG "/orphan/tasks", "");
	put(f, "/sys/fs/cgroup/unified/" TAG "/monitors/cgroup.procs", "");
	auto_strv names = NULL;
	ok(f, cg_list(f->h, &names, &f->err));
	assert_int_equal(strv_len(names), 2);
	assert_string_equal(names[0], "one");
	assert_string_equal(names[1], "orphan");
}

/* ---- limits */

static void fill(struct cg_limits *l)
{
	cg_limits_init(l);
	l->memory_max = 512 << 20;
	l->swap_max = 256 << 20;
	l->cpu_max = 1500;
	l->cpu_weight = 200;
	l->cpuset = strdup("1-2,6");
	l->pids_max = 1000;
	l->io_max = calloc(1, sizeof(*l->io_max));
	*l->io_max = (struct cg_io_max){ 254, 0, 1048576, CG_MAX, CG_UNSET, 100 };
	l->n_io_max = 1;
	l->hugetlb = calloc(1, sizeof(*l->hugetlb));
	*l->hugetlb = (struct cg_hugetlb){ "2MB", 4 << 20 };
	l->n_hugetlb = 1;
}

static void test_apply_pure(void **state)
{
	struct fake *f = *state;
	auto_done(cg_limits_done) struct cg_limits l;
	fill(&l);
	l.memory_high = 500 << 20;
	l.memory_low = 100 << 20;
	l.memory_min = 50 << 20;
	l.cgroups_max = 5000;
	l.oom_group = 1;
	ok(f, cg_limits_apply(f->cg, &l, &f->err));
	assert_file(f, G "memory.max", "536870912");
	assert_file(f, G "memory.high", "524288000");
	assert_file(f, G "memory.low", "104857600");
	assert_file(f, G "memory.min", "52428800");
	/* The parent is promised what its children are: nothing holds else. */
	assert_file(f, P "memory.min", "53477376");
	assert_file(f, P "memory.low", "max");
	assert_file(f, G "memory.swap.max", "268435456");
	assert_file(f, G "memory.oom.group", "1");
	assert_file(f, G "cpu.max", "150000 100000");
	assert_file(f, G "cpu.weight", "200");
	assert_file(f, G "cpuset.cpus", "1-2,6");
	assert_file(f, G "pids.max", "1000");
	assert_file(f, G "io.max", "254:0 rbps=1048576 wbps=max wiops=100");
	assert_file(f, G "hugetlb.2MB.max", "4194304");
	assert_file(f, G "cgroup.max.descendants", "5000");
}

static void test_apply_hybrid(void **state)
{
	struct fake *f = *state;
	auto_done(cg_limits_done) struct cg_limits l;
	fill(&l);
	ok(f, cg_limits_apply(f->cg, &l, &f->err));
	assert_file(f, M "memory.limit_in_bytes", "536870912");
	assert_file(f, M "memory.memsw.limit_in_bytes", "805306368");
	assert_file(f, "/sys/fs/cgroup/cpu,cpuacct/" TAG "/one/cpu.cfs_quota_us", "150000");
	assert_file(f, "/sys/fs/cgroup/cpu,cpuacct/" TAG "/one/cpu.shares", "2048");
	assert_file(f, "/sys/fs/cgroup/cpuset/" TAG "/one/cpuset.cpus", "1-2,6");
	assert_file(f, "/sys/fs/cgroup/pids/" TAG "/one/pids.max", "1000");
	assert_file(f, B "read_bps_device", "254:0 1048576");
	assert_file(f, B "write_bps_device", "254:0 0");
	assert_file(f, B "read_iops_device", "");
	assert_file(f, B "write_iops_device", "254:0 100");
	/* The only controller of v2 here, enabled when a limit wants it. */
	assert_file(f, "/sys/fs/cgroup/unified/cgroup.subtree_control", "+hugetlb");
	assert_file(f, "/sys/fs/cgroup/unified/" TAG "/one/hugetlb.2MB.max", "4194304");
}

/* Memory alone moves the sum along, so that the share of swap stays. */
static void test_v1_swap_sum(void **state)
{
	struct fake *f = *state;
	auto_done(cg_limits_done) struct cg_limits l;
	cg_limits_init(&l);
	l.swap_max = 1 << 20;
	assert_int_equal(cg_limits_apply(f->cg, &l, NULL), -VPS_EUNSUPPORTED);
	assert_int_equal(cg_limits_check(f->h, &l, NULL), -VPS_EUNSUPPORTED);
	put(f, M "memory.limit_in_bytes", "104857600\n");
	put(f, M "memory.memsw.limit_in_bytes", "209715200\n");
	cg_limits_init(&l);
	l.memory_max = 300 << 20;
	ok(f, cg_limits_apply(f->cg, &l, &f->err));
	assert_file(f, M "memory.limit_in_bytes", "314572800");
	assert_file(f, M "memory.memsw.limit_in_bytes", "419430400");
	cg_limits_init(&l);
	l.memory_max = CG_MAX;
	assert_int_equal(cg_limits_apply(f->cg, &l, NULL), -VPS_EUNSUPPORTED);
	l.swap_max = CG_MAX;
	ok(f, cg_limits_apply(f->cg, &l, &f->err));
	assert_file(f, M "memory.limit_in_bytes", "-1");
	assert_file(f, M "memory.memsw.limit_in_bytes", "-1");
}

static void test_bfq_weight(void **state)
{
	struct fake *f = *state;
	const char *file = cg_host_unified(f->h) ? G "io.bfq.weight"
						 : "/sys/fs/cgroup/blkio/" TAG
						   "/one/blkio.bfq.weight";
	auto_done(cg_limits_done) struct cg_limits l;
	cg_limits_init(&l);
	l.io_weight = 10000;
	/* A loop device under bfq is no disk; the default weight asks for nothing. */
	assert_int_equal(cg_limits_check(f->h, &l, &f->err), -VPS_EUNSUPPORTED);
	assert_non_null(strstr(f->err.msg, "echo bfq"));
	vps_err_clear(&f->err);
	l.io_weight = 100;
	ok(f, cg_limits_check(f->h, &l, &f->err));
	l.io_weight = 10000;
	put(f, "/sys/block/vda/queue/scheduler", "none mq-deadline [bfq]\n");
	put(f, file, "default 100\n");
	ok(f, cg_limits_apply(f->cg, &l, &f->err));
	assert_file(f, file, cg_host_unified(f->h) ? "default 1000" : "1000");
}

static void test_io_cost(void **state)
{
	struct fake *f = *state;
	auto_done(cg_limits_done) struct cg_limits l;
	cg_limits_init(&l);
	l.io_weight = 333;
	put(f, "/sys/fs/cgroup/io.cost.qos", "8:0 enable=0 ctrl=auto\n");
	assert_int_equal(cg_limits_check(f->h, &l, NULL), -VPS_EUNSUPPORTED);
	put(f, "/sys/fs/cgroup/io.cost.qos", "8:0 enable=0 ctrl=auto\n254:0 enable=1 ctrl=user\n");
	ok(f, cg_limits_apply(f->cg, &l, &f->err));
	assert_file(f, G "io.weight", "default 333");
}

static void refused(struct fake *f, const struct cg_limits *l, int code, const char *words)
{
	struct vps_err err = { 0 };
	assert_int_equal(cg_limits_check(f->h, l, &err), -code);
	if (!strstr(err.msg, words))
		fail_msg("'%s' not in: %s", words, err.msg);
}

static void test_ranges(void **state)
{
	struct fake *f = *state;
	static const struct {
		size_t offset;
		uint64_t v;
		const char *words;
	} bad[] = {
		{ offsetof(struct cg_limits, io_weight), 0, "1..10000" },
		{ offsetof(struct cg_limits, io_weight), 10001, "1..10000" },
		{ offsetof(struct cg_limits, cpu_weight), 0, "cpu.weight 0" },
		{ offsetof(struct cg_limits, cpu_weight), CG_MAX, "cpu.weight max" },
		{ offsetof(struct cg_limits, cpu_max), 9, "10.." },
		{ offsetof(struct cg_limits, pids_max), 0, "or max" },
		{ offsetof(struct cg_limits, memory_max), 0, "memory.max 0" },
		{ offsetof(struct cg_limits, memory_max), 1ull << 63, "memory.max" },
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct cg_limits l;
		cg_limits_init(&l);
		*(uint64_t *)((char *)&l + bad[i].offset) = bad[i].v;
		refused(f, &l, VPS_EUSAGE, bad[i].words);
	}
	struct cg_limits l;
	cg_limits_init(&l);
	ok(f, cg_limits_check(f->h, &l, &f->err));
	char lists[][12] = { "", "4", "0-6", "3-1", "0,", "0;1", "a", "0-", "99999999999" };
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		l.cpuset = lists[i];
		refused(f, &l, VPS_EUSAGE, "cpuset");
	}
	l.cpuset = NULL;
	struct cg_io_max io = { 254, 1, 1000, CG_UNSET, CG_UNSET, CG_UNSET };
	l.io_max = &io;
	l.n_io_max = 1;
	refused(f, &l, VPS_EUSAGE, "name 254:0");
	io.minor = 7;
	refused(f, &l, VPS_EUSAGE, "no disk 254:7");
	io.major = 0;
	refused(f, &l, VPS_EUNSUPPORTED, "btrfs");
	io = (struct cg_io_max){ 254, 0, 0, CG_UNSET, CG_UNSET, CG_UNSET };
	refused(f, &l, VPS_EUSAGE, "or max");
	l.n_io_max = 0;
	struct cg_hugetlb huge = { "1GB", CG_MAX };
	l.hugetlb = &huge;
	l.n_hugetlb = 1;
	refused(f, &l, VPS_EUSAGE, "hugetlb.1GB");
}

static void test_memory_order(void **state)
{
	struct fake *f = *state;
	struct cg_limits l;
	cg_limits_init(&l);
	l.memory_max = 100 << 20;
	l.memory_min = 101 << 20;
	refused(f, &l, VPS_EUSAGE, "memory.min");
	l.memory_min = CG_UNSET;
	l.memory_high = 101 << 20;
	refused(f, &l, VPS_EUSAGE, "memory.high");
	l.memory_high = CG_MAX;
	ok(f, cg_limits_check(f->h, &l, &f->err));
	l.memory_min = 1 << 20;
	ok(f, cg_limits_check(f->h, &l, &f->err));
	f->h->recursive = false;
	refused(f, &l, VPS_EUNSUPPORTED, "memory_recursiveprot");
}

/* What v1 cannot hold is refused with words; what asks for nothing is not. */
static void test_v1_refusals(void **state)
{
	struct fake *f = *state;
	struct cg_limits l;
	cg_limits_init(&l);
	l.memory_high = 1 << 20;
	refused(f, &l, VPS_EUNSUPPORTED, "memory.high needs cgroup v2");
	l.memory_high = CG_MAX;
	l.memory_low = 0;
	l.oom_group = 0;
	ok(f, cg_limits_apply(f->cg, &l, &f->err));
	l.memory_low = 4096;
	refused(f, &l, VPS_EUNSUPPORTED, "unified_cgroup_hierarchy=1");
	cg_limits_init(&l);
	l.oom_group = 1;
	refused(f, &l, VPS_EUNSUPPORTED, "memory.oom.group");
	cg_limits_init(&l);
	l.swap_max = 4096;
	char path[256];
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup/memory v1/memory.memsw.limit_in_bytes",
		 f->root);
	assert_int_equal(unlink(path), 0);
	refused(f, &l, VPS_EUNSUPPORTED, "swapaccount=1");
}

static void test_caveats(void **state)
{
	struct fake *f = *state;
	struct cg_io_max io = { 254, 0, 1000, CG_MAX, CG_UNSET, CG_UNSET };
	struct cg_limits l;
	cg_limits_init(&l);
	l.io_max = &io;
	l.n_io_max = 1;
	auto_strv words = NULL;
	assert_int_equal(cg_limits_caveats(f->h, &l, &words), 0);
	assert_null(words);
	io.wbps = 1000;
	assert_int_equal(cg_limits_caveats(f->h, &l, &words), 0);
	assert_int_equal(strv_len(words), cg_host_unified(f->h) ? 0 : 1);
}

/* A file that is missing fails the whole, before anything is written. */
static void test_missing_file(void **state)
{
	struct fake *f = *state;
	struct cg_limits l;
	cg_limits_init(&l);
	l.pids_max = 55;
	l.cpu_weight = 777;
	char path[256];
	snprintf(path, sizeof(path), "%s" G "cpu.weight", f->root);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(cg_limits_apply(f->cg, &l, &f->err), -VPS_EUNSUPPORTED);
	assert_file(f, G "pids.max", "max");
}

static void test_no_controller(void **state)
{
	struct fake *f = *state;
	struct cg_host *h = NULL;
	put(f, "/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
	assert_int_equal(cg_host_open_at(f->root, pure_mounts, TAG, &h, NULL), 0);
	assert_int_equal(cg_host_version(h, CG_PIDS), 0);
	struct cg_limits l;
	struct vps_err err = { 0 };
	cg_limits_init(&l);
	l.pids_max = 5;
	assert_int_equal(cg_limits_check(h, &l, &err), -VPS_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "cgroup_disable=pids"));
	cg_host_close(h);
}

static void test_stats_pure(void **state)
{
	struct fake *f = *state;
	struct cg_stats s;
	ok(f, cg_stats(f->cg, &s, &f->err));
	assert_int_equal(s.cpu_usage_us, 7);
	assert_int_equal(s.cpu_throttled, 2);
	assert_true(s.cpu_periods == CG_UNSET); /* not in the file: not known, and not 0 */
	assert_int_equal(s.memory_current, 4096);
	assert_true(s.memory_max == CG_MAX);
	assert_int_equal(s.memory_kernel, 30);
	assert_true(s.swap_current == CG_UNSET);
	assert_int_equal(s.oom_kills, 3);
	assert_int_equal(s.pids_denied, 9);
	assert_int_equal(s.io_rbytes, 11);
	assert_int_equal(s.io_wios, 44);
	assert_true(s.has_psi);
	assert_true(s.psi_cpu.some10 == 1.5 && s.psi_cpu.some_us == 77);
	assert_true(s.psi_memory.full60 == 3.0 && s.psi_memory.full_us == 88);
}

/* ---- trees: plain directories will do */

static void test_tree_remove(void **state)
{
	struct fake *f = *state;
	char path[4096];
	for (int i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "%s/wide/w%d/x", f->root, i);
		assert_int_equal(fs_mkdir_p(AT_FDCWD, path, 0755), 0);
	}
	autoclose int root = fs_open_dir(AT_FDCWD, f->root);
	assert_true(root >= 0);
	/* Deeper than PATH_MAX. */
	int fd = dup(root);
	for (int i = 0; i < 600; i++) {
		assert_int_equal(mkdirat(fd, "deep-deep", 0755), 0);
		int next = fs_open_dir(fd, "deep-deep");
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_int_equal(cg_tree_remove(root, "wide", 50), 0);
	assert_int_equal(cg_tree_remove(root, "deep-deep", 50), 0);
	assert_int_equal(cg_tree_remove(root, "deep-deep", 50), 0);
	assert_false(fs_exists(root, "wide"));
	assert_false(fs_exists(root, "deep-deep"));
}

#define PURE(t)	  cmocka_unit_test_setup_teardown(t, setup_pure, teardown)
#define HYBRID(t) cmocka_unit_test_setup_teardown(t, setup_hybrid, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PURE(test_pure_versions), HYBRID(test_hybrid_versions),
		PURE(test_open_missing), HYBRID(test_list),
		PURE(test_apply_pure), HYBRID(test_apply_hybrid), HYBRID(test_v1_swap_sum),
		PURE(test_bfq_weight), HYBRID(test_bfq_weight), PURE(test_io_cost),
		PURE(test_ranges), HYBRID(test_ranges), PURE(test_memory_order),
		HYBRID(test_v1_refusals), PURE(test_caveats), HYBRID(test_caveats),
		PURE(test_missing_file), PURE(test_no_controller),
		PURE(test_stats_pure),
		PURE(test_tree_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
