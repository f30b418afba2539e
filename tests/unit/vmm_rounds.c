/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A memory in rounds: written, read, damaged, of another machine. */
#include "tests/unit/base_util.h"

#include <errno.h>
#include <sys/mman.h>

#include "vmm/rounds.h"
#include "vmm/snapshot.h"

#define MEMORY (8ull << 20)
#define PAGES  (MEMORY / GMEM_PAGE)
#define N      4

static uint64_t in[PAGES / 64], data[PAGES / 64];
static uint8_t buf[ROUND_BUF], memory[MEMORY];

static unsigned seed = 1;

static unsigned chance(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

static int write_round(uint32_t number, uint64_t session, const uint8_t *changed)
{
	struct round_out o = {.fd = memfd_create("round", MFD_CLOEXEC), .in = in, .data = data, .buf = buf};

	assert_true(o.fd >= 0);
	round_begin(&o, number, session, MEMORY);
	for (uint64_t p = 0; p < PAGES; p++)
		if (number == 1 || changed[p])
			assert_int_equal(round_page(&o, p, memory + p * GMEM_PAGE), 0);
	assert_int_equal(round_end(&o), 0);
	return o.fd;
}

/* Runs of pages that get something, or nothing. */
static void change(uint8_t *changed)
{
	memset(changed, 0, PAGES);
	for (int i = 0; i < 20; i++) {
		uint64_t at = chance(PAGES), n = 1 + chance(i % 4 ? 5 : 200);
		uint8_t with = (uint8_t)(i % 2 ? 0 : 1 + chance(255));

		for (uint64_t p = at; p < at + n && p < PAGES; p++) {
			memset(memory + p * GMEM_PAGE, with, GMEM_PAGE);
			changed[p] = 1;
		}
	}
}

static void write_all(int fds[N], uint64_t session)
{
	uint8_t changed[PAGES];

	memset(memory, 0, MEMORY);
	change(changed);
	for (uint32_t i = 0; i < N; i++) {
		fds[i] = write_round(i + 1, session, changed);
		if (i + 1 < N)
			change(changed);
	}
}

static void close_all(const int fds[N])
{
	for (int i = 0; i < N; i++)
		close(fds[i]);
}

static int check(const int *fds, size_t n, bool verify)
{
	uint64_t sum;

	return rounds_check(fds, n, MEMORY, verify, &sum, NULL);
}

static void test_there_and_back(void **state)
{
	struct vps_err err = {0};
	struct gmem g;
	int fds[N];

	for (int i = 0; i < 50; i++) {
		write_all(fds, 7);
		assert_int_equal(check(fds, N, true), 0);
		if (gmem_map(&g, MEMORY, fds[0], &err) < 0 || rounds_load(&g, fds, N, &err) < 0)
			fail_msg("%s", err.msg);
		assert_memory_equal(g.base, memory, MEMORY);
		gmem_done(&g);
		close_all(fds);
	}
}

static void test_of_others(void **state)
{
	uint64_t a = 0, b = 0;
	int fds[N], other[N], mixed[N];

	write_all(fds, 7);
	write_all(other, 8);
	assert_int_equal(rounds_check(fds, N, MEMORY, false, &a, NULL), 0);
	assert_int_equal(rounds_check(other, N, MEMORY, false, &b, NULL), 0);
	assert_true(a != b);
	assert_int_equal(rounds_check(fds, N - 1, MEMORY, false, &b, NULL), 0);
	assert_true(a != b); /* a snapshot is bound to all of them */
	assert_int_equal(rounds_check(fds, N, MEMORY * 2, false, &b, NULL), -VPS_EUSAGE);
	memcpy(mixed, fds, sizeof(mixed));
	mixed[2] = other[2];
	assert_int_equal(check(mixed, N, false), -VPS_EUSAGE);
	memcpy(mixed, fds, sizeof(mixed));
	mixed[1] = fds[2];
	mixed[2] = fds[1];
	assert_int_equal(check(mixed, N, false), -VPS_EUSAGE);
	assert_int_equal(check(fds + 1, N - 1, false), -VPS_EUSAGE);
	close_all(fds);
	close_all(other);
}

static void flip(int fd, off_t at)
{
	uint8_t c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x40;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
}

static void test_damaged(void **state)
{
	int fds[N];

	write_all(fds, 7);
	for (int i = 0; i < N; i++) {
		off_t size = lseek(fds[i], 0, SEEK_END), index = 2 * (off_t)sizeof(in),
		      from = size - (off_t)sizeof(struct round_trailer) - (i ? index : 0);

		for (off_t at = from; at < size; at++) {
			flip(fds[i], at);
			if (check(fds, N, false) >= 0)
				fail_msg("byte %ld of the end of round %d may be wrong", (long)(at - from), i + 1);
			flip(fds[i], at);
		}
		for (off_t at = 0; at < from; at += 40009) {
			flip(fds[i], at);
			assert_int_equal(check(fds, N, true), -EBADMSG);
			flip(fds[i], at);
		}
		assert_int_equal(ftruncate(fds[i], size + 1), 0);
		assert_int_equal(check(fds, N, false), -EBADMSG);
		assert_int_equal(ftruncate(fds[i], size), 0);
		assert_int_equal(check(fds, N, true), 0);
	}
	assert_int_equal(ftruncate(fds[1], 10), 0);
	assert_int_equal(check(fds, N, false), -EBADMSG);
	close_all(fds);
}

/* The sums are right, what they are of is not. */
static void seal(int fd, const struct round_trailer *like)
{
	off_t size = lseek(fd, 0, SEEK_END), end = size - (off_t)sizeof(*like), len = (off_t)sizeof(in);
	uint64_t a[PAGES / 64], b[PAGES / 64];
	struct round_trailer t = *like;

	assert_int_equal(pread(fd, a, sizeof(a), end - 2 * len), len);
	assert_int_equal(pread(fd, b, sizeof(b), end - len), len);
	t.index_sum = snap_sum(3, a, sizeof(a)) ^ snap_sum(4, b, sizeof(b));
	t.sum = snap_sum(5, &t, offsetof(struct round_trailer, sum));
	assert_int_equal(pwrite(fd, &t, sizeof(t), end), sizeof(t));
}

static void test_forged(void **state)
{
	struct round_trailer was, t;
	unsigned refused = 0;
	int fds[N];
	off_t end;

	write_all(fds, 7);
	end = lseek(fds[2], 0, SEEK_END) - (off_t)sizeof(was);
	assert_int_equal(pread(fds[2], &was, sizeof(was), end), sizeof(was));
	for (off_t at = end - 2 * (off_t)sizeof(in); at < end; at++) {
		flip(fds[2], at);
		seal(fds[2], &was);
		refused += check(fds, N, false) == -EBADMSG;
		flip(fds[2], at);
	}
	/* a page more that is zero can be true; one more or less in the file cannot */
	assert_true(refused >= sizeof(in));
	for (int i = 0; i < 4; i++) {
		t = was;
		t.pages = (uint64_t[]){0, was.pages + 1, UINT64_MAX, UINT64_MAX / GMEM_PAGE + 1}[i];
		seal(fds[2], &t);
		assert_int_equal(check(fds, N, false), -EBADMSG);
	}
	t = was;
	t.version++;
	seal(fds[2], &t);
	assert_int_equal(check(fds, N, false), -VPS_EUNSUPPORTED);
	seal(fds[2], &was);
	assert_int_equal(check(fds, N, true), 0);
	close_all(fds);
}

static void test_no_room(void **state)
{
	struct round_out o = {.fd = open("/dev/full", O_WRONLY | O_CLOEXEC), .in = in, .data = data, .buf = buf};
	int r = 0;

	round_begin(&o, 2, 7, MEMORY);
	memset(memory, 1, MEMORY);
	for (uint64_t p = 0; r == 0 && p < PAGES; p++)
		r = round_page(&o, p, memory + p * GMEM_PAGE);
	assert_true(r < 0);
	close(o.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_of_others), cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_forged),	       cmocka_unit_test(test_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
