/* SPDX-License-Identifier: GPL-2.0-or-later */
/* runtime/container/caps.c and payload.c: what a payload has after the last step, asked of the kernel. */
#include "tests/unit/base_util.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/container/container.h"

struct sets { unsigned long long inh, prm, eff, bnd, amb; };

#define CAP(n) (1ULL << (n))
/* linux/capability.h: sys_module 16, sys_rawio 17, sys_time 25, mac_override 32, mac_admin 33, wake_alarm 35,
 * block_suspend 36, perfmon 38, bpf 39; the last is checkpoint_restore, 40. */
#define VAIN (CAP(16) | CAP(17) | CAP(25) | CAP(32) | CAP(33) | CAP(35) | CAP(36) | CAP(38) | CAP(39))
#define ALL  (CAP(41) - 1)

static void read_sets(struct sets *s)
{
	char buf[4096];

	assert_true(fs_read_buf(AT_FDCWD, "/proc/self/status", buf, sizeof(buf)) > 0);
	s->inh = strtoull(strstr(buf, "CapInh:") + 7, NULL, 16);
	s->prm = strtoull(strstr(buf, "CapPrm:") + 7, NULL, 16);
	s->eff = strtoull(strstr(buf, "CapEff:") + 7, NULL, 16);
	s->bnd = strtoull(strstr(buf, "CapBnd:") + 7, NULL, 16);
	s->amb = strtoull(strstr(buf, "CapAmb:") + 7, NULL, 16);
}

/* The steps of payload_drop in a user namespace of its own; the sets come back by a pipe. */
static int after_drop(uid_t uid, struct vps_spec *spec, struct sets *ret)
{
	int p[2], status;

	assert_int_equal(pipe(p), 0);
	pid_t pid = fork();

	if (pid == 0) {
		struct payload pl = {.spec = spec, .exe = -1, .user = {.uid = uid, .gid = uid}};
		struct sets s;
		struct vps_err err = {0};

		/* Ids 0 and 1000 are there only as ours: map none, and check capabilities alone. */
		if (caps_begin(spec->cap_add, spec->cap_drop, &err) < 0 ||
		    (uid && setresuid(uid, uid, uid) < 0) || caps_regain(&err) < 0 ||
		    caps_finish(pl.user.uid, spec->cap_add, spec->cap_drop, &err) < 0)
			_exit(1);
		read_sets(&s);
		_exit(write(p[1], &s, sizeof(s)) != sizeof(s));
	}
	assert_true(pid > 0);
	close(p[1]);
	ssize_t n = read(p[0], ret, sizeof(*ret));

	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return n == sizeof(*ret) && status == 0 ? 0 : -1;
}

static unsigned long long ours(void)
{
	struct sets s;

	read_sets(&s);
	return s.prm & s.bnd & ALL;
}

#define need_root()                                          \
	do {                                                 \
		if (geteuid() != 0) {                        \
			print_message("skipped: wants root\n"); \
			skip();                              \
		}                                            \
	} while (0)

static void test_root(void **state)
{
	struct vps_spec s;
	struct sets c;

	need_root();
	spec_init(&s);
	assert_int_equal(after_drop(0, &s, &c), 0);
	assert_int_equal(c.inh, 0);
	assert_int_equal(c.amb, 0);
	assert_int_equal(c.bnd & ALL, ours() & ~VAIN);
	assert_int_equal(c.prm & ALL, ours() & ~VAIN);
	assert_int_equal(c.eff, c.prm);
}

static void test_drop_and_add(void **state)
{
	struct vps_spec s;
	struct sets c;

	need_root();
	spec_init(&s);
	assert_int_equal(strv_add(&s.cap_drop, "CAP_NET_RAW"), 0);  /* 13 */
	assert_int_equal(strv_add(&s.cap_drop, "CAP_SYS_ADMIN"), 0); /* 21 */
	assert_int_equal(strv_add(&s.cap_add, "CAP_SYS_TIME"), 0);
	assert_int_equal(after_drop(0, &s, &c), 0);
	assert_int_equal(c.bnd & ALL, ours() & ~((VAIN & ~CAP(25)) | CAP(13) | CAP(21)));
	assert_int_equal(c.eff & ALL, c.bnd & ALL);
	assert_int_equal(c.inh, 0);
	spec_done(&s);
}

static void test_user(void **state)
{
	struct vps_spec s;
	struct sets c;

	need_root();
	spec_init(&s);
	assert_int_equal(after_drop(1000, &s, &c), 0);
	assert_int_equal(c.prm | c.eff | c.inh | c.amb, 0);
	assert_int_equal(c.bnd & ALL, ours() & ~VAIN);
	/* Ambient: all that is left to a user who is not root. */
	assert_int_equal(strv_add(&s.cap_add, "CAP_NET_BIND_SERVICE"), 0); /* 10 */
	assert_int_equal(after_drop(1000, &s, &c), 0);
	assert_int_equal(c.prm, CAP(10));
	assert_int_equal(c.eff, CAP(10));
	assert_int_equal(c.inh, CAP(10));
	assert_int_equal(c.amb, CAP(10));
	spec_done(&s);
}

/* docker's meaning: all but the named others. */
static void test_all(void **state)
{
	struct vps_spec s;
	struct sets c;

	need_root();
	spec_init(&s);
	assert_int_equal(strv_add(&s.cap_drop, CAPS_ALL), 0);
	assert_int_equal(after_drop(0, &s, &c), 0);
	assert_int_equal(c.bnd | c.prm | c.eff | c.inh | c.amb, 0);
	assert_int_equal(strv_add(&s.cap_add, "CAP_CHOWN"), 0); /* 0 */
	assert_int_equal(after_drop(0, &s, &c), 0);
	assert_int_equal(c.bnd, CAP(0));
	assert_int_equal(c.eff, CAP(0));
	assert_int_equal(after_drop(1000, &s, &c), 0);
	assert_int_equal(c.prm, CAP(0));
	assert_int_equal(c.amb, CAP(0));
	spec_done(&s);

	spec_init(&s);
	assert_int_equal(strv_add(&s.cap_add, CAPS_ALL), 0);
	assert_int_equal(after_drop(0, &s, &c), 0);
	assert_int_equal(c.eff & ALL, ours());
	assert_int_equal(strv_add(&s.cap_drop, "CAP_NET_RAW"), 0);
	assert_int_equal(after_drop(0, &s, &c), 0);
	assert_int_equal(c.eff & ALL, ours() & ~CAP(13));
	assert_int_equal(after_drop(1000, &s, &c), 0);
	assert_int_equal(c.amb & ALL, ours() & ~CAP(13));
	assert_int_equal(c.bnd & ALL, ours() & ~CAP(13));
	spec_done(&s);
}

static void test_names(void **state)
{
	assert_true(caps_known(CAPS_ALL));
	assert_false(caps_known("CAP_NO_SUCH,CAP_ALL"));
	assert_true(caps_known("CAP_SYS_TIME"));
	assert_true(caps_known("sys_time"));
	assert_false(caps_known("CAP_NO_SUCH"));
	assert_false(caps_known(""));
	assert_false(caps_known("CAP_SYS_TIME,CAP_CHOWN"));
}

/* The gap-closer behind "exactly fds 0-2". */
static void test_fds_keep_only(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int keep[2];

		for (int i = 0; i < 20; i++)
			if (dup(0) < 0)
				_exit(1);
		keep[0] = fcntl(0, F_DUPFD, 40);
		keep[1] = fcntl(0, F_DUPFD, 17);
		if (fds_keep_only(keep, 2) < 0)
			_exit(2);
		for (int fd = 3; fd < 100; fd++)
			if ((fcntl(fd, F_GETFD) >= 0) != (fd == keep[0] || fd == keep[1]))
				_exit(3);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root),  cmocka_unit_test(test_drop_and_add),
		cmocka_unit_test(test_user),  cmocka_unit_test(test_names),
		cmocka_unit_test(test_fds_keep_only), cmocka_unit_test(test_all),
	};

	return cmocka_run_group_tests_name("container/caps", tests, NULL, NULL);
}
