/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cgroups/ on this machine, whatever its layout: real groups with real children in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fs.h"
#include "base/sys.h"
#include "cgroups/internal.h"

#define MIB (1ull << 20)
#define OWNER 1234567
#define WAIT_MS 10000

static struct cg_host *host;
static char tag[32];
static struct vps_err err;

static void ok(int r)
{
	if (r < 0)
		fail_msg("%d: %s", r, err.msg);
}

struct fix {
	struct cg *cg;
	volatile uint64_t *shared; /* a page that children write to */
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	vps_err_clear(&err);
	f->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(f->shared != MAP_FAILED);
	ok(cg_create(host, "t", OWNER, &f->cg, &err));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	vps_err_clear(&err);
	int r = f->cg ? cg_kill(f->cg, WAIT_MS, &err) : 0;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	f->cg = cg_close(f->cg);
	if (r == 0)
		r = cg_destroy(host, "t", &err);
	munmap((void *)f->shared, 4096);
	free(f);
	if (r < 0)
		print_error("teardown: %s\n", err.msg);
	return r;
}

/* ---- children */

static pid_t start_at(struct cg *cg, int v2_fd, void (*fn)(struct fix *f), struct fix *f)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
				   .cgroup = (uint64_t)v2_fd };
	assert_true(v2_fd >= 0);
	fflush(NULL);
	pid_t pid = sys_clone3(&args, sizeof(args));
	if (pid == 0) {
		if (cg_enter_v1(cg) < 0)
			_exit(99);
		fn(f);
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static pid_t start(struct fix *f, void (*fn)(struct fix *f))
{
	return start_at(f->cg, cg_clone_fd(f->cg), fn, f);
}

static int wait_for(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int run(struct fix *f, void (*fn)(struct fix *f))
{
	int status = wait_for(start(f, fn));
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void sleep_ms(int ms)
{
	poll(NULL, 0, ms);
}

static void count_up(struct fix *f)
{
	for (;;)
		f->shared[0]++;
}

static void wait_forever(struct fix *f)
{
	for (;;)
		pause();
}

static void fork_sleepers(struct fix *f)
{
	for (int i = 0; i < 200; i++) {
		pid_t pid = fork();
		if (pid == 0)
			wait_forever(f);
		if (pid < 0) {
			f->shared[1] = (uint64_t)errno;
			break;
		}
		f->shared[0]++;
	}
}

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

static void wait_flag(struct fix *f)
{
	for (int i = 0; i < WAIT_MS && !f->shared[0]; i++)
		sleep_ms(1);
	assert_true(f->shared[0] != 0);
}

static char *groups_of(pid_t pid)
{
	char path[64];
	char *text = NULL;
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	assert_int_equal(fs_read(AT_FDCWD, path, 65536, &text, NULL), 0);
	return text;
}

/* ---- making and entering */

static void test_enter(void **state)
{
	struct fix *f = *state;
	assert_int_equal(cg_populated(f->cg), 0);
	pid_t pid = start(f, count_up);
	wait_flag(f);
	assert_int_equal(cg_populated(f->cg), 1);
	autofree char *text = groups_of(pid);
	char want[128];
	snprintf(want, sizeof(want), "0::/%s/t/ns\n", tag);
	assert_non_null(strstr(text, want));
	/* Every v1 hierarchy that we use. */
	size_t n = 0, v1 = 0;
	snprintf(want, sizeof(want), ":/%s/t\n", tag);
	for (const char *at = text; (at = strstr(at, want)); at++)
		n++;
	for (size_t i = 0; i < host->n; i++)
		v1 += host->hier[i].version == 1;
	assert_int_equal(n, v1);
	/* One that runs is not taken over, and not removed. */
	struct cg *other = NULL;
	assert_int_equal(cg_create(host, "t", OWNER, &other, &err), -VPS_ESTATE);
	assert_null(other);
	assert_int_equal(cg_destroy(host, "t", NULL), -EBUSY);
	assert_int_equal(cg_populated(f->cg), 1);
	vps_err_clear(&err);
	ok(cg_kill(f->cg, WAIT_MS, &err));
	assert_int_equal(cg_populated(f->cg), 0);
	int status = wait_for(pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static bool anything_left(const char *name)
{
	for (size_t i = 0; i < host->n; i++)
		if (fs_exists(host->hier[i].tag_fd, name))
			return true;
	return false;
}

static void test_destroy(void **state)
{
	struct fix *f = *state;
	/* What a tenant may leave: deep and wide. */
	int fd = dup(cg_clone_fd(f->cg));
	for (int i = 0; i < 40; i++) {
		char wide[16];
		snprintf(wide, sizeof(wide), "w%d", i);
		assert_int_equal(mkdirat(fd, wide, 0755), 0);
		int next = fs_open_dir(fd, wide);
		close(fd);
		fd = next;
		assert_true(fd >= 0);
		assert_int_equal(mkdirat(fd, "beside", 0755), 0);
	}
	pid_t pid = start_at(f->cg, fd, wait_forever, f);
	close(fd);
	ok(cg_kill(f->cg, WAIT_MS, &err));
	wait_for(pid);
	f->cg = cg_close(f->cg);
	auto_strv names = NULL;
	ok(cg_list(host, &names, &err));
	assert_true(strv_has(names, "t"));
	ok(cg_destroy(host, "t", &err));
	assert_false(anything_left("t"));
	ok(cg_destroy(host, "t", &err));
	struct cg *gone = NULL;
	assert_int_equal(cg_open(host, "t", &gone, NULL), -ENOENT);
}

/* The v1 half of a group, as a crash in the middle leaves it, is listed and goes. */
static void test_half(void **state)
{
	struct cg_hier *hi = host->where[CG_MEMORY];
	assert_int_equal(mkdirat(hi->tag_fd, "half", 0755), 0);
	auto_strv names = NULL;
	ok(cg_list(host, &names, &err));
	assert_true(strv_has(names, "half"));
	ok(cg_destroy(host, "half", &err));
	assert_false(anything_left("half"));
}

static void test_take_over(void **state)
{
	struct fix *f = *state;
	struct cg_limits l;
	struct cg_stats s;
	cg_limits_init(&l);
	l.pids_max = 7;
	ok(cg_limits_apply(f->cg, &l, &err));
	ok(cg_stats(f->cg, &s, &err));
	assert_int_equal(s.pids_max, 7);
	f->cg = cg_close(f->cg);
	ok(cg_create(host, "t", OWNER, &f->cg, &err));
	ok(cg_stats(f->cg, &s, &err));
	assert_true(s.pids_max == CG_MAX);
}

static void as_tenant(struct fix *f)
{
	int ns = f->cg->ns_fd;
	if (setgroups(0, NULL) < 0 || setgid(OWNER) < 0 || setuid(OWNER) < 0)
		_exit(1);
	if (mkdirat(ns, "sub", 0755) < 0)
		_exit(2);
	if (fs_write(ns, "sub/cgroup.procs", "0") < 0)
		_exit(3);
	if (faccessat(ns, "cgroup.subtree_control", W_OK, 0) < 0)
		_exit(4);
	/* Hand controllers on, now that ns/ itself has no process. */
	if (host->unified && fs_write(ns, "cgroup.subtree_control", "+memory +pids") < 0)
		_exit(5);
	if (host->unified && fs_write(ns, "sub/memory.max", "1000000000") < 0)
		_exit(6);
	/* What is the host's stays the host's. */
	if (fs_write(ns, "../cgroup.freeze", "1") != -EACCES ||
	    fs_write(ns, "../cgroup.subtree_control", "+pids") != -EACCES ||
	    fs_write(ns, "../cgroup.procs", "0") != -EACCES ||
	    fs_write(ns, "cgroup.max.depth", "5") != -EACCES)
		_exit(7);
	if (host->unified && (fs_write(ns, "memory.max", "max") != -EACCES ||
			      fs_write(ns, "../memory.max", "max") != -EACCES))
		_exit(8);
	if (mkdirat(ns, "../beside", 0755) == 0)
		_exit(9);
}

static void test_delegation(void **state)
{
	struct fix *f = *state;
	assert_int_equal(run(f, as_tenant), 0);
}

/* As systemd does: init moves to a leaf of its own, and exec follows it there. */
static void test_exec_fd(void **state)
{
	struct fix *f = *state;
	int ns = cg_clone_fd(f->cg);
	pid_t init = start(f, wait_forever);
	autoclose int first = cg_exec_fd(f->cg, init);
	assert_true(first >= 0);
	assert_int_equal(mkdirat(ns, "init.scope", 0755), 0);
	char pid[16];
	snprintf(pid, sizeof(pid), "%d", (int)init);
	assert_int_equal(fs_write(ns, "init.scope/cgroup.procs", pid), 0);
	if (host->unified)
		assert_int_equal(fs_write(ns, "cgroup.subtree_control", "+memory +pids"), 0);
	autoclose int fd = cg_exec_fd(f->cg, init);
	pid_t child = start_at(f->cg, fd, wait_forever, f);
	autofree char *text = groups_of(child);
	char want[128];
	snprintf(want, sizeof(want), "0::/%s/t/ns/init.scope\n", tag);
	assert_non_null(strstr(text, want));
	assert_int_equal(cg_exec_fd(f->cg, getpid()), -EXDEV);
	ok(cg_kill(f->cg, WAIT_MS, &err));
	wait_for(child);
	wait_for(init);
	assert_int_equal(cg_exec_fd(f->cg, init), -ESRCH);
}

static void test_monitor(void **state)
{
	struct fix *f = *state;
	pid_t pid = fork();
	if (pid == 0)
		wait_forever(f);
	ok(cg_move_monitor(host, pid, &err));
	autofree char *text = groups_of(pid);
	char want[128];
	snprintf(want, sizeof(want), "0::/%s/monitors\n", tag);
	assert_non_null(strstr(text, want));
	auto_strv names = NULL;
	ok(cg_list(host, &names, &err));
	assert_int_equal(strv_len(names), 1);
	kill(pid, SIGKILL);
	wait_for(pid);
}

/* ---- limits */

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
	pid_t innocent = fork();
	if (innocent == 0)
		wait_forever(f);
	int status = wait_for(start(f, take_100m));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(poll(&p, 1, 2000), 1);
	assert_true(p.revents & event);
	assert_int_equal(cg_oom_count(f->cg, fd, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(poll(&p, 1, 100), 0); /* re-armed */
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

/* ---- devices */

static int try_device(const char *path, int flags)
{
	autoclose int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? errno : 0;
}

/* Bits: what is allowed. */
static void try_devices(struct fix *f)
{
	int mask = 0;
	mask |= try_device("/dev/null", O_RDWR) == 0 ? 1 : 0;
	mask |= try_device("/dev/zero", O_RDONLY) == 0 ? 2 : 0;
	mask |= try_device("/dev/zero", O_RDWR) == 0 ? 4 : 0;
	mask |= try_device("/dev/full", O_RDONLY) == 0 ? 8 : 0;
	char path[64];
	snprintf(path, sizeof(path), "/tmp/%s-node", tag);
	if (mknod(path, S_IFCHR | 0600, makedev(1, 7)) == 0) {
		mask |= 16;
		unlink(path);
	}
	_exit(mask);
}

static const struct cg_device null_zero[] = { { 'c', 1, 3, "rwm" }, { 'c', 1, 5, "r" },
					      { 'c', 1, 5, "m" } };
static const struct cg_device full[] = { { 'c', 1, 7, "rm" }, { 'c', 1, 3, "rw" } };
static const struct cg_device everything[] = { { 'a', -1, -1, "rwm" } };

static void test_devices(void **state)
{
	struct fix *f = *state;
	assert_int_equal(run(f, try_devices), 31);
	ok(cg_devices_set(f->cg, null_zero, ARRAY_LEN(null_zero), &err));
	assert_int_equal(run(f, try_devices), 1 | 2);
	ok(cg_devices_set(f->cg, full, ARRAY_LEN(full), &err));
	assert_int_equal(run(f, try_devices), 1 | 8 | 16);
	ok(cg_devices_set(f->cg, NULL, 0, &err));
	assert_int_equal(run(f, try_devices), 0);
	ok(cg_devices_set(f->cg, everything, 1, &err));
	assert_int_equal(run(f, try_devices), 31);
}

static int attached(int fd)
{
	uint32_t ids[8];
	union bpf_attr attr = { 0 };
	attr.query.target_fd = (uint32_t)fd;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.prog_ids = (uintptr_t)ids;
	attr.query.prog_cnt = ARRAY_LEN(ids);
	return syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)) < 0 ? -errno
									  : (int)attr.query.prog_cnt;
}

static void set_bpf(struct fix *f, const struct cg_device *rules, size_t n)
{
	struct cg_devrule *merged = NULL;
	size_t n_merged;
	ok(cg_devices_merge(rules, n, &merged, &n_merged, &err));
	int r = cg_devbpf_attach(f->cg->v2_fd, merged, n_merged, &err);
	free(merged);
	ok(r);
}

/* BPF works on any v2 group, so also where v1 holds the controllers. */
static void test_device_bpf(void **state)
{
	struct fix *f = *state;
	if (attached(f->cg->v2_fd) < 0) {
		print_message("skipped: no BPF for cgroups here\n");
		skip();
	}
	set_bpf(f, null_zero, ARRAY_LEN(null_zero));
	assert_int_equal(run(f, try_devices), 1 | 2);
	set_bpf(f, full, ARRAY_LEN(full));
	assert_int_equal(run(f, try_devices), 1 | 8 | 16);
	assert_int_equal(attached(f->cg->v2_fd), 1);
	set_bpf(f, everything, 1);
	assert_int_equal(run(f, try_devices), 31);
	assert_int_equal(attached(f->cg->v2_fd), 1);
	struct cg_device many[CG_DEVICES_MAX];
	for (int i = 0; i < CG_DEVICES_MAX; i++)
		many[i] = (struct cg_device){ 'b', 8, i, "r" };
	set_bpf(f, many, ARRAY_LEN(many)); /* the verifier takes the longest too */
	assert_int_equal(run(f, try_devices), 0);
}

/* ---- freeze and kill */

static void test_freeze(void **state)
{
	struct fix *f = *state;
	assert_int_equal(cg_is_frozen(f->cg), 0);
	start(f, count_up);
	wait_flag(f);
	ok(cg_freeze(f->cg, true, WAIT_MS, &err));
	assert_int_equal(cg_is_frozen(f->cg), 1);
	uint64_t before = f->shared[0];
	sleep_ms(50);
	assert_int_equal(f->shared[0], before);
	ok(cg_freeze(f->cg, false, WAIT_MS, &err));
	assert_int_equal(cg_is_frozen(f->cg), 0);
	for (int i = 0; i < WAIT_MS && f->shared[0] == before; i++)
		sleep_ms(1);
	assert_true(f->shared[0] > before);
	/* The frozen die as well. */
	ok(cg_freeze(f->cg, true, WAIT_MS, &err));
	ok(cg_kill(f->cg, WAIT_MS, &err));
	assert_int_equal(cg_populated(f->cg), 0);
}

/* A frozen VPS cannot be thawed from inside, and a timeout of 0 thaws again. */
static void test_freeze_timeout(void **state)
{
	struct fix *f = *state;
	start(f, fork_sleepers);
	sleep_ms(20);
	int r = cg_freeze(f->cg, true, 0, &err);
	if (r == 0)
		r = cg_freeze(f->cg, false, WAIT_MS, &err);
	else
		assert_int_equal(r, -ETIMEDOUT);
	for (int i = 0; i < WAIT_MS && cg_is_frozen(f->cg); i++)
		sleep_ms(1);
	assert_int_equal(cg_is_frozen(f->cg), 0);
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

static void test_kill_by_hand(void **state)
{
	struct fix *f = *state;
	int ns = cg_clone_fd(f->cg);
	assert_int_equal(mkdirat(ns, "a", 0755), 0);
	assert_int_equal(mkdirat(ns, "a/b", 0755), 0);
	autoclose int fd = fs_open_dir(ns, "a/b");
	start_at(f->cg, fd, wait_forever, f);
	start(f, wait_forever);
	assert_int_equal(cg_tree_kill(f->cg->v2_fd), 2);
	assert_int_equal(cg_events_wait(f->cg->v2_fd, "populated", 0, WAIT_MS), 0);
}

static void time_create(void **state)
{
	uint64_t spent[2] = { 0 };
	for (int i = 0; i < 20; i++) {
		struct cg *cg = NULL;
		uint64_t t0 = sys_now_mono();
		ok(cg_create(host, "speed", OWNER, &cg, &err));
		uint64_t t1 = sys_now_mono();
		cg_close(cg);
		ok(cg_destroy(host, "speed", &err));
		spent[0] += t1 - t0;
		spent[1] += sys_now_mono() - t1;
	}
	print_message("create %llu us, destroy %llu us (mean of 20)\n",
		      (unsigned long long)spent[0] / 20000, (unsigned long long)spent[1] / 20000);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

static bool may_run(void)
{
	if (geteuid() != 0) {
		printf("skipped: needs root\n");
		return false;
	}
	snprintf(tag, sizeof(tag), "vt-cg-%d", (int)getpid());
	int r = cg_host_open(tag, &host, &err);
	struct cg *cg = NULL;
	if (r >= 0)
		r = cg_create(host, "probe", 0, &cg, &err);
	cg_close(cg);
	if (r >= 0)
		r = cg_destroy(host, "probe", &err);
	if (r < 0)
		printf("skipped: no cgroups to make here: %s\n", err.msg);
	return r >= 0;
}

/* A controller of v2 that only a test switched on in the root goes off again. */
static void restore_root(unsigned before)
{
	autoclose int root = cg_host_openat(host, host->v2->path, O_PATH | O_DIRECTORY);
	char buf[256] = "";
	if (host->unified || before || root < 0 ||
	    fs_read_buf(root, "cgroup.subtree_control", buf, sizeof(buf)) <= 0)
		return;
	if (strstr(buf, "hugetlb"))
		fs_write(root, "cgroup.subtree_control", "-hugetlb");
}

int main(void)
{
	if (!may_run())
		return 77;
	char buf[256] = "";
	autofree char *control = str_fmt("%s/cgroup.subtree_control", host->v2->path);
	cg_host_read(host, control, buf, sizeof(buf));
	printf("cgroups here: %s\n", host->unified ? "pure v2" : "hybrid");
	const struct CMUnitTest tests[] = {
		T(test_enter), T(test_destroy), T(test_half), T(test_take_over), T(test_delegation),
		T(test_exec_fd), T(test_monitor), T(test_pids), T(test_oom), T(test_shrink_refused),
		T(test_shrink_reclaims), T(test_cpu), T(test_cpuset), T(test_io_max),
		T(test_hugetlb), T(test_devices), T(test_device_bpf), T(test_freeze),
		T(test_freeze_timeout), T(test_kill_bomb), T(test_kill_by_hand),
		cmocka_unit_test(time_create),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	vps_err_clear(&err);
	if (cg_host_purge(host, &err) < 0) {
		printf("left behind: %s\n", err.msg);
		failed++;
	}
	restore_root(strstr(buf, "hugetlb") != NULL);
	host = cg_host_close(host);
	return failed != 0;
}
