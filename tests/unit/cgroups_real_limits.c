/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Limits on this machine: each is seen to hold. */
#include "tests/unit/cgroups_real.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/sys.h"

static void take_memory(size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		_exit(98);
	for (size_t i = 0; i < size; i += 4096)
		p[i] = 1;
}

static void take_100m(struct fix *f)
{
	take_memory(100 * MIB);
}

static void hold_40m(struct fix *f)
{
	take_memory(40 * MIB);
	f->shared[0] = 1;
	wait_forever(f);
}

static void test_pids(void **state)
{
	struct fix *f = *state;
	struct cg_limits l;
	cg_limits_init(&l);
	l.pids_max = 10;
	ok(cg_limits_apply(f->cg, &l, &err));
	assert_int_equal(run(f, fork_sleepers), 0);
	assert_int_equal(f->shared[0], 9);
	assert_int_equal(f->shared[1], EAGAIN);
	struct cg_stats s;
	ok(cg_stats(f->cg, &s, &err));
	assert_int_equal(s.pids_current, 9);
	assert_int_equal(s.pids_max, 10);
	assert_true(s.pids_denied >= 1 && s.pids_denied != CG_UNSET);
}

static void test_oom(void **state)
{
	struct fix *f = *state;
	struct cg_limits l;
	cg_limits_init(&l);
	l.memory_max = 32 * MIB;
	l.swap_max = 0;
	ok(cg_limits_apply(f->cg, &l, &err));
	autoclose int fd = cg_oom_fd(f->cg);
	assert_true(fd >= 0);
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLPRI };
	uint64_t count = 9;
	assert_int_equal(cg_oom_count(f->cg, fd, &count), 0);
	assert_int_equal(count, 0);
	/* memory.events is always readable: POLLPRI is what tells of a change. */
	short event = host->where[CG_MEMORY]->version == 2 ? POLLPRI : POLLIN;
	p.events = event;
	assert_int_equal(poll(&p, 1, 0), 0);
	pid_t innocent = start_outside();
	int status = wait_for(start(f, take_100m));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(poll(&p, 1, 2000), 1);
	assert_true(p.revents & event);
	/* Re-armed by each look. v2 tells of other events of memory too, some of them late. */
	int looks = 0;
	do {
		assert_int_equal(cg_oom_count(f->cg, fd, &count), 0);
		assert_true(++looks < 20);
	} while (poll(&p, 1, 100) == 1);
	assert_int_equal(count, 1);
	assert_int_equal(waitpid(innocent, &status, WNOHANG), 0);
	kill(innocent, SIGKILL);
	wait_for(innocent);
	struct cg_stats s;
	ok(cg_stats(f->cg, &s, &err));
	assert_int_equal(s.oom_kills, 1);
	assert_int_equal(s.memory_max, 32 * MIB);
	assert_true(s.memory_peak > 16 * MIB && s.memory_peak <= 32 * MIB);
}

/* Lowering below what cannot be reclaimed: refused, nothing killed, and all as it was. */
static void test_shrink_refused(void **state)
{
	struct fix *f = *state;
	struct cg_limits l;
	cg_limits_init(&l);
	l.memory_max = 100 * MIB;
	l.swap_max = 0;
	l.pids_max = 50;
	ok(cg_limits_apply(f->cg, &l, &err));
	pid_t pid = start(f, hold_40m);
	wait_flag(f);
	l.memory_max = 20 * MIB;
	l.pids_max = 60;
	assert_int_equal(cg_limits_apply(f->cg, &l, &err), -VPS_ERESOURCE);
	assert_non_null(strstr(err.msg, "in use"));
	vps_err_clear(&err);
	struct cg_stats s;
	ok(cg_stats(f->cg, &s, &err));
	assert_int_equal(s.memory_max, 100 * MIB);
	assert_int_equal(s.pids_max, 50);
	assert_true(s.memory_current > 40 * MIB && s.memory_anon >= 40 * MIB);
	assert_int_equal(s.oom_kills, 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	if (host->where[CG_MEMORY]->version == 2) {
		uint64_t high = 0;
		assert_int_equal(cg_file_u64(f->cg, host->v2, "memory.high", &high), 0);
		assert_true(high == CG_MAX);
	}
	/* Down to what is free, and up again, live. */
	l.memory_max = 60 * MIB;
	ok(cg_limits_apply(f->cg, &l, &err));
	l.memory_max = 200 * MIB;
	ok(cg_limits_apply(f->cg, &l, &err));
	ok(cg_stats(f->cg, &s, &err));
	assert_int_equal(s.memory_max, 200 * MIB);
}

static void fill_cache(struct fix *f)
{
	autoclose int fd = open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
	static char buf[1 << 20];
	for (int i = 0; i < 40; i++)
		if (fs_write_all(fd, buf, sizeof(buf)) < 0)
			_exit(1);
	if (fsync(fd) < 0)
		_exit(2);
	f->shared[0] = 1;
	wait_forever(f);
}

/* Cache goes to make room. */
static void test_shrink_reclaims(void **state)
{
	struct fix *f = *state;
	struct statfs st;
	if (statfs("/var/tmp", &st) < 0 || st.f_type == 0x01021994 || st.f_type == 0x858458f6) {
		print_message("skipped: /var/tmp is in memory\n");
		skip();
	}
	struct cg_limits l;
	cg_limits_init(&l);
	l.memory_max = 100 * MIB;
	ok(cg_limits_apply(f->cg, &l, &err));
	start(f, fill_cache);
	wait_flag(f);
	struct cg_stats s;
	ok(cg_stats(f->cg, &s, &err));
	assert_true(s.memory_file > 30 * MIB && s.memory_file < CG_UNSET);
	l.memory_max = 16 * MIB;
	ok(cg_limits_apply(f->cg, &l, &err));
	ok(cg_stats(f->cg, &s, &err));
	assert_true(s.memory_current <= 16 * MIB);
	assert_int_equal(s.memory_max, 16 * MIB);
}

static void test_cpu(void **state)
{
	struct fix *f = *state;
	struct cg_limits l;
	cg_limits_init(&l);
	l.cpu_max = 200; /* a fifth of one */
	l.cpu_weight = 50;
	ok(cg_limits_apply(f->cg, &l, &err));
	start(f, count_up);
	sleep_ms(1000);
	ok(cg_kill(f->cg, WAIT_MS, &err));
	struct cg_stats s;
	ok(cg_stats(f->cg, &s, &err));
	print_message("cpu: %llu us used, %llu us throttled in 1 s\n",
		      (unsigned long long)s.cpu_usage_us, (unsigned long long)s.cpu_throttled_us);
	assert_true(s.cpu_usage_us > 50000 && s.cpu_usage_us < 350000);
	assert_true(s.cpu_throttled > 2 && s.cpu_throttled <= s.cpu_periods);
	assert_true(s.cpu_periods < CG_UNSET);
	assert_true(s.cpu_throttled_us > 100000 && s.cpu_throttled_us < 30000000);
	if (s.has_psi)
		assert_true(s.psi_cpu.some_us < 30000000);
}

static void see_cpus(struct fix *f)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		_exit(98);
	_exit(CPU_COUNT(&set));
}

static void test_cpuset(void **state)
{
	struct fix *f = *state;
	int before = run(f, see_cpus);
	assert_true(before >= 1 && before < 98);
	struct cg_limits l;
	cg_limits_init(&l);
	l.cpuset = (char *)"0";
	ok(cg_limits_apply(f->cg, &l, &err));
	assert_int_equal(run(f, see_cpus), 1);
	l.cpuset = (char *)"0,8000";
	assert_int_equal(cg_limits_apply(f->cg, &l, &err), -VPS_EUSAGE);
}

static dev_t disk_below_root(void)
{
	DIR *dir = opendir("/sys/block");
	dev_t found = 0;
	for (struct dirent *d = dir ? readdir(dir) : NULL; d && !found; d = readdir(dir)) {
		char path[300], buf[32];
		unsigned major, minor;
		snprintf(path, sizeof(path), "/sys/block/%s/dev", d->d_name);
		if (fs_read_buf(AT_FDCWD, path, buf, sizeof(buf)) > 0 &&
		    sscanf(buf, "%u:%u", &major, &minor) == 2)
			found = makedev(major, minor);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void test_io_max(void **state)
{
	struct fix *f = *state;
	dev_t disk = disk_below_root();
	if (!disk || !host->where[CG_IO]) {
		print_message("skipped: no disk or no io controller\n");
		skip();
	}
	const struct cg_hier *hi = host->where[CG_IO];
	const char *file = hi->version == 2 ? "io.max" : "blkio.throttle.read_bps_device";
	struct cg_io_max io = { major(disk), minor(disk), 1 << 20, CG_MAX, 100, CG_UNSET };
	struct cg_limits l;
	cg_limits_init(&l);
	l.io_max = &io;
	l.n_io_max = 1;
	ok(cg_limits_apply(f->cg, &l, &err));
	char buf[256], key[32];
	snprintf(key, sizeof(key), "%u:%u ", io.major, io.minor);
	assert_true(cg_file_read(f->cg, hi, file, buf, sizeof(buf)) > 0);
	assert_non_null(strstr(buf, key));
	assert_non_null(strstr(buf, "1048576"));
	io.rbps = io.riops = CG_MAX;
	ok(cg_limits_apply(f->cg, &l, &err));
	assert_int_equal(cg_file_read(f->cg, hi, file, buf, sizeof(buf)), 0);
}

/* On hybrid hosts this is the controller that v2 carries, off until wanted. */
static void test_hugetlb(void **state)
{
	struct fix *f = *state;
	if (!host->where[CG_HUGETLB] || access("/sys/kernel/mm/hugepages/hugepages-2048kB", F_OK)) {
		print_message("skipped: no hugetlb controller or no 2 MB pages\n");
		skip();
	}
	struct cg_hugetlb huge = { "2MB", 4 * MIB };
	struct cg_limits l;
	cg_limits_init(&l);
	l.hugetlb = &huge;
	l.n_hugetlb = 1;
	l.cgroups_max = 3; /* ns/ and two more */
	ok(cg_limits_apply(f->cg, &l, &err));
	const struct cg_hier *hi = host->where[CG_HUGETLB];
	uint64_t v = 0;
	assert_int_equal(cg_file_u64(f->cg, hi, hi->version == 2 ? "hugetlb.2MB.max"
						 : "hugetlb.2MB.limit_in_bytes", &v), 0);
	assert_int_equal(v, 4 * MIB);
	int ns = cg_clone_fd(f->cg);
	assert_int_equal(mkdirat(ns, "a", 0755), 0);
	assert_int_equal(mkdirat(ns, "b", 0755), 0);
	assert_int_equal(mkdirat(ns, "c", 0755), -1);
	assert_int_equal(errno, EAGAIN);
}

static void fork_bomb(struct fix *f)
{
	for (;;)
		if (fork() < 0)
			sched_yield();
}

static void test_kill_bomb(void **state)
{
	struct fix *f = *state;
	struct cg_limits l;
	cg_limits_init(&l);
	l.pids_max = 300;
	ok(cg_limits_apply(f->cg, &l, &err));
	start(f, fork_bomb);
	sleep_ms(200);
	uint64_t from = sys_now_mono();
	ok(cg_kill(f->cg, WAIT_MS, &err));
	print_message("fork bomb of 300 gone in %llu ms\n",
		      (unsigned long long)((sys_now_mono() - from) / 1000000));
	assert_int_equal(cg_populated(f->cg), 0);
}

int run_limits_tests(void)
{
	const struct CMUnitTest tests[] = {
		T(test_pids), T(test_oom), T(test_shrink_refused), T(test_shrink_reclaims),
		T(test_cpu), T(test_cpuset), T(test_io_max), T(test_hugetlb), T(test_kill_bomb),
	};
	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
