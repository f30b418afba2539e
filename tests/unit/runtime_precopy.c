/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When rounds of memory end: by times and bytes that are made up. */
#include "tests/unit/base_util.h"

#include "runtime/migrate/precopy.h"
#include "runtime/vps.h"

#define MS 1000000ull
#define MB (1000ull * 1000)

/* A machine that writes and sends so many bytes a second, and needs something for each round besides. */
struct world {
	uint64_t now, write_rate, send_rate, fixed;
};

static struct precopy_round run_round(struct world *w, uint64_t bytes)
{
	struct precopy_round r = {.bytes = bytes, .began = w->now};

	w->now += w->fixed + bytes * 1000 / w->write_rate * MS;
	r.written = w->now;
	w->now += w->fixed + bytes * 1000 / w->send_rate * MS;
	r.sent = w->now;
	return r;
}

/* Rounds until it has enough, of a VPS that dirties so much a second, and never more than `most`. */
static unsigned converge(struct precopy *p, struct world *w, uint64_t size, uint64_t dirties, uint64_t most)
{
	struct precopy_round r = run_round(w, size);
	uint64_t since = r.began;

	while (precopy_go_on(p, &r)) {
		uint64_t bytes = (w->now - since) / MS * dirties / 1000;
		since = w->now;
		r = run_round(w, bytes < most ? bytes : most);
	}
	return p->n;
}

static void test_idle(void **state)
{
	struct world w = {.write_rate = 1000 * MB, .send_rate = 100 * MB};
	struct precopy p = {.downtime_us = 300000};

	/* 100 MB take a second: too long; nothing is left after one more */
	assert_int_equal(converge(&p, &w, 100 * MB, 0, 0), 2);
	/* it has to be read there all the same */
	assert_in_range(p.predicted_us, 100000, 110000);
	/* unless it is mapped */
	p = (struct precopy){.downtime_us = 300000, .mapped = true};
	assert_int_equal(converge(&p, &w, 100 * MB, 0, 0), 2);
	assert_in_range(p.predicted_us, 0, 10000);
	/* so little that the whole of it would do */
	p = (struct precopy){.downtime_us = 300000};
	assert_int_equal(converge(&p, &w, 10 * MB, 0, 0), 1);
}

static void test_converging(void **state)
{
	struct world w = {.write_rate = 1000 * MB, .send_rate = 100 * MB};
	struct precopy p = {.downtime_us = 650000};

	/* 500 MB, 20 MB/s: 5.5 s, then 110 MB, 24, 5 */
	assert_in_range(converge(&p, &w, 500 * MB, 20 * MB, 500 * MB), 3, 5);
	assert_true(p.predicted_us <= p.downtime_us);
	/* less than what the restore takes is not to be had: it ends where rounds make no difference */
	p = (struct precopy){.downtime_us = 100000};
	assert_in_range(converge(&p, &w, 500 * MB, 20 * MB, 500 * MB), 4, 8);
	assert_in_range(p.predicted_us, 500000, 600000);
}

static void test_not_converging(void **state)
{
	struct world w = {.write_rate = 1000 * MB, .send_rate = 100 * MB};
	struct precopy p = {.downtime_us = 100000};

	/* faster than the wire: the second round is like the first */
	assert_int_equal(converge(&p, &w, 500 * MB, 400 * MB, 500 * MB), 2);
	assert_true(p.predicted_us > 5000000);
	/* a part of it all the time */
	p = (struct precopy){.downtime_us = 100000};
	assert_int_equal(converge(&p, &w, 500 * MB, 400 * MB, 50 * MB), 3);
}

/* Rounds lie on both disks: a VPS that settles slowly does not fill them. */
static void test_disk(void **state)
{
	struct precopy p = {.downtime_us = 1};
	struct precopy_round r = {.bytes = 100 * MB};
	uint64_t all = 0;
	bool more;

	do {
		all += r.bytes;
		r.written = r.began + 100 * MS;
		r.sent = r.written + 900 * MS;
		more = precopy_go_on(&p, &r);
		r.began = r.sent;
		r.bytes -= r.bytes / 8;
	} while (more);
	assert_in_range(all, 150 * MB, 200 * MB);
}

/* What each round takes whatever it holds is in the prediction, and no reason for another round. */
static void test_fixed(void **state)
{
	struct world w = {.write_rate = 1000 * MB, .send_rate = 1000 * MB, .fixed = 200 * MS};
	struct precopy p = {.downtime_us = 100000};

	assert_in_range(converge(&p, &w, 100 * MB, MB, MB), 2, 3);
	assert_in_range(p.predicted_us, 300000, 800000);
}

static void test_odd(void **state)
{
	struct precopy p = {.downtime_us = 1};
	struct precopy_round r = {0};
	unsigned n;

	/* a clock that stands, nothing written, numbers beyond reason */
	for (n = 0; n < 100 && precopy_go_on(&p, &r); n++)
		;
	assert_true(n < 100);
	p = (struct precopy){.downtime_us = 1};
	r = (struct precopy_round){.bytes = 1ull << 45, .began = 1, .written = 2, .sent = 3};
	for (n = 0; n < 100 && precopy_go_on(&p, &r); n++)
		r.bytes -= r.bytes / 5;
	assert_true(n < VPS_MIGRATE_ROUNDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle), cmocka_unit_test(test_converging), cmocka_unit_test(test_not_converging),
		cmocka_unit_test(test_fixed), cmocka_unit_test(test_disk), cmocka_unit_test(test_odd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
