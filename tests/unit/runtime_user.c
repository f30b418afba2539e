/* SPDX-License-Identifier: GPL-2.0-or-later */
/* runtime/container/user.c: passwd and group files of a tenant. */
#include "tests/unit/base_util.h"

#include <sys/stat.h>
#include <unistd.h>

#include "runtime/container/container.h"

static const char passwd[] =
	"# a comment\n"
	"root:x:0:0:root:/root:/bin/bash\n"
	"bad line\n"
	"short:x:5\n"
	"minus:x:-1:0::/:/bin/sh\n"
	"big:x:65536:0::/:/bin/sh\n"
	"huge:x:18446744073709551616:0::/:/bin/sh\n"
	"hex:x:0x10:0::/:/bin/sh\n"
	"web:x:1000:1001:Web,,,:/home/web:/bin/sh\n"
	"relative:x:1002:1002::home:/bin/sh\n"
	"1003:x:1003:7::/home/number:/bin/sh\n"
	":x:1004:1004::/:/bin/sh\n"
	"last:x:65535:65534::/last:/bin/sh"; /* no newline */

static const char group[] =
	"root:x:0:\n"
	"audio:x:29:web,other\n"
	"video:x:44:notweb,webnot\n"
	"many:x:45:a,b,,web\n"
	"toobig:x:70000:web\n"
	"cut:x:46\n"
	"web:x:1001:\n"
	"dup:x:29:web\n";

static int write_files(struct test_dir *t, const char *p, size_t p_len, const char *g, size_t g_len)
{
	mkdirat(t->fd, "etc", 0755);
	int r = p ? fs_write_rename(t->fd, "etc/passwd", p, p_len, 0644) : 0;

	return r < 0 || !g ? r : fs_write_rename(t->fd, "etc/group", g, g_len, 0644);
}

static void usual(struct test_dir *t)
{
	assert_int_equal(write_files(t, passwd, sizeof(passwd) - 1, group, sizeof(group) - 1), 0);
}

static void test_by_name(void **state)
{
	struct test_dir *t = *state;
	struct vps_user u;

	usual(t);
	assert_int_equal(user_lookup(t->fd, "web", &u, NULL), 0);
	assert_int_equal(u.uid, 1000);
	assert_int_equal(u.gid, 1001);
	assert_string_equal(u.home, "/home/web");
	assert_string_equal(u.shell, "/bin/sh");
	assert_int_equal(u.n_groups, 3);
	assert_int_equal(u.groups[0], 1001);
	assert_int_equal(u.groups[1], 29);
	assert_int_equal(u.groups[2], 45);

	assert_int_equal(user_lookup(t->fd, "last", &u, NULL), 0);
	assert_int_equal(u.uid, 65535);
	assert_int_equal(user_lookup(t->fd, "relative", &u, NULL), 0);
	assert_string_equal(u.home, "/");
}

static void test_root(void **state)
{
	struct test_dir *t = *state;
	struct vps_user u;

	/* No passwd at all: a rescue needs root all the same. */
	assert_int_equal(user_lookup(t->fd, NULL, &u, NULL), 0);
	assert_int_equal(u.uid, 0);
	assert_string_equal(u.home, "/root");
	usual(t);
	assert_int_equal(user_lookup(t->fd, "", &u, NULL), 0);
	assert_string_equal(u.shell, "/bin/bash");
	assert_string_equal(u.name, "root");
}

static void test_numbers(void **state)
{
	struct test_dir *t = *state;
	struct vps_user u;

	usual(t);
	assert_int_equal(user_lookup(t->fd, "1000", &u, NULL), 0);
	assert_string_equal(u.name, "web");
	assert_int_equal(user_lookup(t->fd, "4711", &u, NULL), 0);
	assert_int_equal(u.uid, 4711);
	assert_int_equal(u.gid, 0);
	assert_int_equal(user_lookup(t->fd, "1000:44", &u, NULL), 0);
	assert_int_equal(u.gid, 44);
	assert_int_equal(u.n_groups, 1); /* a group that was asked for is the only one */
	assert_int_equal(user_lookup(t->fd, "web:audio", &u, NULL), 0);
	assert_int_equal(u.gid, 29);
	/* A name of digits is a number, as for chown(1) where there is no such name. */
	assert_int_equal(user_lookup(t->fd, "1003", &u, NULL), 0);
	assert_int_equal(u.gid, 7);
}

static void test_refused(void **state)
{
	static const char *const no[] = {
		"minus", "big", "huge", "hex", "short", "nobody", "65536", "-1", "0x10",
		"web:nogroup", "web:toobig", "web:70000", "web:", ":0", "99999999999999999999",
		"web\nroot", "bad line", "# a comment",
	};
	struct test_dir *t = *state;

	usual(t);
	for (size_t i = 0; i < ARRAY_LEN(no); i++) {
		struct vps_user u;
		struct vps_err err = {0};

		if (user_lookup(t->fd, no[i], &u, &err) != -VPS_EEXEC)
			fail_msg("'%s' was found", no[i]);
		assert_null(strchr(err.msg, '\n'));
	}
}

static void test_hostile_bytes(void **state)
{
	static const char nul[] = "web:x:1000:1000::/ho\0me:/bin/sh\nok:x:1:1::/ok:/bin/sh\n";
	struct test_dir *t = *state;
	struct vps_user u;

	assert_int_equal(write_files(t, nul, sizeof(nul) - 1, NULL, 0), 0);
	assert_int_equal(user_lookup(t->fd, "web", &u, NULL), 0);
	assert_string_equal(u.home, "/");
	assert_int_equal(user_lookup(t->fd, "ok", &u, NULL), 0);

	/* One line of 3 MiB, colons only, members only. */
	size_t n = 3u << 20;
	autofree char *big = malloc(n + 64);

	assert_non_null(big);
	memset(big, ':', n);
	strcpy(big + n, "\nok:x:1:1::/ok:/bin/sh\n");
	assert_int_equal(write_files(t, big, strlen(big), NULL, 0), 0);
	assert_int_equal(user_lookup(t->fd, "ok", &u, NULL), 0);
	memset(big, ',', n);
	memcpy(big, "g:x:9:", 6);
	strcpy(big + n, "ok\n");
	assert_int_equal(write_files(t, NULL, 0, big, strlen(big)), 0);
	assert_int_equal(write_files(t, "ok:x:1:1::/ok:/bin/sh\n", 22, NULL, 0), 0);
	assert_int_equal(user_lookup(t->fd, "ok", &u, NULL), 0);
	assert_int_equal(u.n_groups, 2);
	/* A home too long for us is no home, rather than another one. */
	memset(big, 'a', n);
	memcpy(big, "ok:x:1:1::/", 11);
	strcpy(big + 5000, ":/bin/sh\n");
	assert_int_equal(write_files(t, big, strlen(big), NULL, 0), 0);
	assert_int_equal(user_lookup(t->fd, "ok", &u, NULL), 0);
	assert_string_equal(u.home, "/");
}

static void test_too_many_groups(void **state)
{
	struct test_dir *t = *state;
	struct vps_user u;
	auto_strbuf sb = STRBUF_INIT;

	for (int i = 1; i < 5000; i++)
		sb_addf(&sb, "g%d:x:%d:web\n", i, i);
	assert_int_equal(write_files(t, passwd, sizeof(passwd) - 1, sb.s, sb.len), 0);
	assert_int_equal(user_lookup(t->fd, "web", &u, NULL), 0);
	assert_int_equal(u.n_groups, USER_GROUPS_MAX);
}

/* Links lead inside the root only; a fifo is not opened. */
static void test_files_of_another_kind(void **state)
{
	struct test_dir *t = *state;
	struct vps_user u;

	mkdirat(t->fd, "etc", 0755);
	assert_int_equal(symlinkat("/etc/passwd", t->fd, "etc/passwd"), 0);
	assert_true(user_lookup(t->fd, "root", &u, NULL) < 0);
	unlinkat(t->fd, "etc/passwd", 0);
	assert_int_equal(symlinkat("../../../../../../../../etc/passwd", t->fd, "etc/passwd"), 0);
	assert_true(user_lookup(t->fd, "root", &u, NULL) < 0);
	unlinkat(t->fd, "etc/passwd", 0);
	assert_int_equal(mkfifoat(t->fd, "etc/passwd", 0644), 0);
	assert_true(user_lookup(t->fd, "root", &u, NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_by_name),	      dir_test(test_root),
		dir_test(test_numbers),	      dir_test(test_refused),
		dir_test(test_hostile_bytes), dir_test(test_too_many_groups),
		dir_test(test_files_of_another_kind),
	};

	return cmocka_run_group_tests_name("container/user", tests, NULL, NULL);
}
