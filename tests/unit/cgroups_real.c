/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cgroups/ on this machine, whatever its layout: real groups with real children in them. */
#include "tests/unit/cgroups_real.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/sys.h"

#define OWNER 1234567

struct cg_host *host;
char tag[32];
struct vps_err err;

void ok(int r)
{
	if (r < 0)
		fail_msg("%d: %s", r, err.msg);
}

int setup(void **state)
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

int teardown(void **state)
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

pid_t start_at(struct cg *cg, int v2_fd, void (*fn)(struct fix *f), struct fix *f)
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

pid_t start(struct fix *f, void (*fn)(struct fix *f))
{
	return start_at(f->cg, cg_clone_fd(f->cg), fn, f);
}

/* No teardown would kill this one. */
pid_t start_outside(void)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_forever(NULL);
	}
	assert_true(pid > 0);
	return pid;
}

int wait_for(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

int run(struct fix *f, void (*fn)(struct fix *f))
{
	int status = wait_for(start(f, fn));
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

void sleep_ms(int ms)
{
	poll(NULL, 0, ms);
}

void count_up(struct fix *f)
{
	for (;;)
		f->shared[0]++;
}

void wait_forever(struct fix *f)
{
	for (;;)
		pause();
}

void fork_sleepers(struct fix *f)
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

void wait_flag(struct fix *f)
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
	/* One that runs is not taken over and not removed, and keeps its empty groups. */
	struct cg *other = NULL;
	assert_int_equal(mkdirat(cg_clone_fd(f->cg), "empty", 0755), 0);
	assert_int_equal(cg_create(host, "t", OWNER, &other, &err), -VPS_ESTATE);
	assert_null(other);
	assert_int_equal(cg_destroy(host, "t", NULL), -EBUSY);
	assert_true(fs_exists(cg_clone_fd(f->cg), "empty"));
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
	pid_t pid = start_outside();
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
		T(test_exec_fd), T(test_monitor), T(test_freeze), T(test_freeze_timeout),
		T(test_kill_by_hand), cmocka_unit_test(time_create),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	failed += run_limits_tests();
	failed += run_device_tests();
	vps_err_clear(&err);
	if (cg_host_purge(host, &err) < 0) {
		printf("left behind: %s\n", err.msg);
		failed++;
	}
	restore_root(strstr(buf, "hugetlb") != NULL);
	host = cg_host_close(host);
	return failed != 0;
}
