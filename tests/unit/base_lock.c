/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Locks and digests. */
#include "tests/unit/base_util.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "base/digest.h"
#include "base/lock.h"
#include "base/sys.h"

#define MS 1000000u

/* flock(2) locks belong to the open file: one process can contend with itself. */
static void test_exclusive_and_shared(void **state)
{
	struct test_dir *t = *state;
	int a = lock_take(t->fd, "l", true, LOCK_TRY);
	struct stat st;

	assert_true(a >= 0);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fstat(a, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(lock_take(t->fd, "l", true, LOCK_TRY), -EWOULDBLOCK);
	assert_int_equal(lock_take(t->fd, "l", false, LOCK_TRY), -EWOULDBLOCK);
	close(a);

	autoclose int s1 = lock_take(t->fd, "l", false, LOCK_TRY);
	autoclose int s2 = lock_take(t->fd, "l", false, LOCK_TRY);

	assert_true(s1 >= 0 && s2 >= 0);
	assert_int_equal(lock_take(t->fd, "l", true, LOCK_TRY), -EWOULDBLOCK);

	/* Another name is another lock. */
	autoclose int other = lock_take(t->fd, "m", true, LOCK_TRY);

	assert_true(other >= 0);
}

static void test_failures_leak_nothing(void **state)
{
	struct test_dir *t = *state;
	autoclose int held = lock_take(t->fd, "l", true, LOCK_TRY);
	unsigned fds = count_fds();

	assert_int_equal(lock_take(t->fd, "l", true, 5), -EWOULDBLOCK);
	assert_int_equal(lock_take(t->fd, "none/l", true, LOCK_TRY), -ENOENT);
	assert_int_equal(symlinkat("elsewhere", t->fd, "link"), 0);
	assert_int_equal(lock_take(t->fd, "link", true, LOCK_TRY), -ELOOP);
	assert_false(fs_exists(t->fd, "elsewhere"));
	assert_int_equal(count_fds(), fds);
}

static void test_timeout_is_kept(void **state)
{
	struct test_dir *t = *state;
	autoclose int held = lock_take(t->fd, "l", true, LOCK_TRY);
	uint64_t start = sys_now_mono();

	assert_int_equal(lock_take(t->fd, "l", true, 120), -EWOULDBLOCK);
	assert_in_range(sys_now_mono() - start, 120 * MS, 5000 * MS);
}

enum at_end { LEAVE, REMOVE, REPLACE };

/* A child that takes the lock, says so, and holds it for some time. */
static pid_t holder(int dirfd, unsigned hold_ms, enum at_end at_end)
{
	int p[2];
	char c;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);

	pid_t pid = fork();

	if (pid == 0) {
		int fd = lock_take(dirfd, "l", true, LOCK_FOREVER);

		if (fd < 0 || write(p[1], "x", 1) != 1)
			_exit(1);
		usleep(hold_ms * 1000);
		if (at_end != LEAVE)
			unlinkat(dirfd, "l", 0);
		if (at_end == REPLACE)
			put_file(dirfd, "l", "");
		_exit(0);
	}
	close(p[1]);
	assert_int_equal(read(p[0], &c, 1), 1);
	close(p[0]);
	return pid;
}

static void test_waits_for_a_dying_holder(void **state)
{
	static const int timeouts[] = {5000, LOCK_FOREVER};
	struct test_dir *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(timeouts); i++) {
		pid_t pid = holder(t->fd, 60, LEAVE);
		autoclose int fd = lock_take(t->fd, "l", true, timeouts[i]);

		assert_true(fd >= 0);
		waitpid(pid, NULL, 0);
	}
}

/* The holder removes the file: who waited on it must not think it holds the lock. */
static void test_removed_lock_file(void **state)
{
	struct test_dir *t = *state;

	for (int i = 0; i < 4; i++) {
		pid_t pid = holder(t->fd, 60, i & 1 ? REMOVE : REPLACE);
		autoclose int fd = lock_take(t->fd, "l", true, i & 2 ? 5000 : LOCK_FOREVER);
		struct stat held, there;

		assert_true(fd >= 0);
		waitpid(pid, NULL, 0);
		assert_int_equal(fstat(fd, &held), 0);
		assert_int_equal(fstatat(t->fd, "l", &there, 0), 0);
		assert_int_equal(held.st_ino, there.st_ino);
		assert_int_equal(lock_take(t->fd, "l", true, LOCK_TRY), -EWOULDBLOCK);
	}
}

static void on_alarm(int sig)
{
}

static void test_a_signal_interrupts(void **state)
{
	static const int timeouts[] = {60000, LOCK_FOREVER};
	struct test_dir *t = *state;
	autoclose int held = lock_take(t->fd, "l", true, LOCK_TRY);
	struct sigaction sa = {.sa_handler = on_alarm}, old;
	/* again and again: one may come between two waits */
	struct itimerval soon = {{.tv_usec = 50000}, {.tv_usec = 50000}}, none = {0};

	sigaction(SIGALRM, &sa, &old);
	for (size_t i = 0; i < ARRAY_LEN(timeouts); i++) {
		setitimer(ITIMER_REAL, &soon, NULL);
		assert_int_equal(lock_take(t->fd, "l", true, timeouts[i]), -EINTR);
	}
	setitimer(ITIMER_REAL, &none, NULL);
	sigaction(SIGALRM, &old, NULL);
}

/* FIPS 180-4 examples. */
static const struct {
	const char *text, *digest;
} known[] = {
	{"", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{"abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	 "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void test_digest_known_answers(void **state)
{
	struct test_dir *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		const char *s = known[i].text;
		char whole[DIGEST_LEN], parts[DIGEST_LEN], file[DIGEST_LEN];
		struct digest_ctx *d = digest_new();
		uint64_t size = 0;

		digest_of(s, strlen(s), whole);
		assert_string_equal(whole, known[i].digest);
		for (const char *p = s; *p; p++)
			digest_add(d, p, 1);
		digest_end(d, parts);
		assert_string_equal(parts, known[i].digest);

		put_file(t->fd, "f", s);

		autoclose int fd = openat(t->fd, "f", O_RDONLY | O_CLOEXEC);

		lseek(fd, 0, SEEK_END); /* from offset 0 all the same */
		assert_int_equal(digest_of_fd(fd, file, &size), 0);
		assert_string_equal(file, known[i].digest);
		assert_int_equal(size, strlen(s));
	}
	digest_drop(NULL);
	digest_drop(digest_new());
}

static void test_digest_of_a_large_file(void **state)
{
	struct test_dir *t = *state;
	autofree char *data = malloc(1000001);
	char got[DIGEST_LEN];

	/* A million "a": FIPS 180-4's third example. */
	memset(data, 'a', 1000000);
	data[1000000] = '\0';
	put_file(t->fd, "f", data);

	autoclose int fd = openat(t->fd, "f", O_RDONLY | O_CLOEXEC);

	assert_int_equal(digest_of_fd(fd, got, NULL), 0);
	assert_string_equal(
		got, "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	strcpy(got, "untouched");
	assert_int_equal(digest_of_fd(t->fd, got, NULL), -EISDIR);
	assert_string_equal(got, "untouched");
}

static void test_digest_valid(void **state)
{
	static const char good[] =
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	char bad[128];

	assert_true(digest_valid(good));
	assert_false(digest_valid(NULL));
	assert_false(digest_valid(""));
	assert_false(digest_valid(good + 7));
	snprintf(bad, sizeof(bad), "%s0", good);
	assert_false(digest_valid(bad));
	snprintf(bad, sizeof(bad), "%.*s", (int)strlen(good) - 1, good);
	assert_false(digest_valid(bad));
	strcpy(bad, good);
	bad[20] = 'A';
	assert_false(digest_valid(bad));
	strcpy(bad, good);
	bad[70] = '/';
	assert_false(digest_valid(bad));
	strcpy(bad, good);
	memcpy(bad, "sha512", 6);
	assert_false(digest_valid(bad));
	strcpy(bad, good);
	memcpy(bad + 7, "../", 3);
	assert_false(digest_valid(bad));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_exclusive_and_shared),
		dir_test(test_failures_leak_nothing),
		dir_test(test_timeout_is_kept),
		dir_test(test_waits_for_a_dying_holder),
		dir_test(test_removed_lock_file),
		dir_test(test_a_signal_interrupts),
		dir_test(test_digest_known_answers),
		dir_test(test_digest_of_a_large_file),
		dir_test(test_digest_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
