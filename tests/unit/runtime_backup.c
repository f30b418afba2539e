/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Schedules; sets of chunks; reading backups that are none. */
#include "base_util.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/migrate/backup.h"

/* ---- schedules ------------------------------------------------------------------------------- */

static uint64_t at(const char *when)
{
	struct tm tm = {.tm_isdst = -1};

	assert_non_null(strptime(when, "%Y-%m-%d %H:%M", &tm));
	return (uint64_t)mktime(&tm);
}

static void expect_last(const char *cron, const char *after, const char *until, const char *want)
{
	struct cron c;
	struct vps_err err = {0};
	uint64_t got;

	if (cron_parse(cron, &c, &err) < 0)
		fail_msg("%s", err.msg);
	got = cron_last(&c, at(after), at(until));
	if (got != (want ? at(want) : 0))
		fail_msg("'%s' from %s to %s: %llu, not %s", cron, after, until, (unsigned long long)got,
			 want ? want : "none");
}

static void schedules(void **state)
{
	setenv("TZ", "UTC", 1);
	tzset();
	expect_last("* * * * *", "2026-01-01 10:00", "2026-01-01 10:05", "2026-01-01 10:05");
	expect_last("* * * * *", "2026-01-01 10:05", "2026-01-01 10:05", NULL);
	expect_last("0 3 * * *", "2026-01-01 03:00", "2026-01-02 02:59", NULL);
	expect_last("0 3 * * *", "2026-01-01 03:00", "2026-01-02 03:00", "2026-01-02 03:00");
	expect_last("0 3 * * *", "2025-12-01 03:00", "2026-01-02 02:59", "2026-01-01 03:00"); /* once, after a long rest */
	expect_last("*/15 8-10 * * *", "2026-01-01 00:00", "2026-01-01 10:59", "2026-01-01 10:45");
	expect_last("5,50 * * * *", "2026-01-01 00:00", "2026-01-01 10:49", "2026-01-01 10:05");
	expect_last("0 0 1 jan,Jul *", "2025-01-02 00:00", "2025-12-31 00:00", "2025-07-01 00:00");
	expect_last("0 0 * * 7", "2026-01-01 00:00", "2026-01-10 00:00", "2026-01-04 00:00"); /* Sunday */
	expect_last("0 0 * * sun", "2026-01-01 00:00", "2026-01-10 00:00", "2026-01-04 00:00");
	expect_last("0 0 13 * 5", "2026-01-01 00:00", "2026-01-15 00:00", "2026-01-13 00:00"); /* either day will do */
	expect_last("0 0 13 * 5", "2026-01-01 00:00", "2026-01-12 00:00", "2026-01-09 00:00");
	expect_last("0 0 29 2 *", "2026-01-01 00:00", "2026-12-31 00:00", NULL);
	expect_last("10-20/5 1 * * *", "2026-01-01 00:00", "2026-01-01 01:18", "2026-01-01 01:15");
	expect_last("3/20 * * * *", "2026-01-01 00:00", "2026-01-01 00:59", "2026-01-01 00:43");
	expect_last("@daily", "2026-01-01 12:00", "2026-01-02 12:00", "2026-01-02 00:00");
	expect_last("@weekly", "2026-01-01 12:00", "2026-01-20 12:00", "2026-01-18 00:00");
	expect_last("@yearly", "2025-06-01 12:00", "2026-03-20 12:00", "2026-01-01 00:00");
	expect_last("@hourly", "2026-01-01 12:01", "2026-01-01 12:59", NULL);
	/* clocks that change: nothing of the day before is passed over */
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	expect_last("30 23 * * *", "2026-03-20 00:00", "2026-03-29 12:00", "2026-03-28 23:30");
	expect_last("30 23 * * *", "2026-10-20 00:00", "2026-10-25 12:00", "2026-10-24 23:30");
	setenv("TZ", "UTC", 1);
	tzset();
}

static void no_schedules(void **state)
{
	static const char *const bad[] = {
		"",		"* * * *",    "* * * * * *", "60 * * * *", "* 24 * * *",  "* * 0 * *",	"* * 32 * *",
		"* * * 13 *",	"* * * * 8",  "a * * * *",   "5-1 * * * *", "*/0 * * * *", "1- * * * *", "-1 * * * *",
		"1,,2 * * * *", "@never",     "* * * foo *", "1/ * * * *", "1-2-3 * * * *", "999999999999 * * * *",
		"*/61 * * * *",
	};
	struct cron c;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (cron_parse(bad[i], &c, NULL) != -VPS_EUSAGE)
			fail_msg("'%s' was taken", bad[i]);
}

static void names(void **state)
{
	const struct tm tm = {.tm_year = 126, .tm_mon = 4, .tm_mday = 6, .tm_hour = 7, .tm_min = 8};
	char name[SPEC_NAME_MAX + 1];

	assert_int_equal(pattern_name("auto-%Y%m%d-%H%M", &tm, name), 0);
	assert_string_equal(name, "auto-20260506-0708");
	assert_int_equal(pattern_name("%A", &tm, name), -EINVAL); /* upper case */
	assert_int_equal(pattern_name("%Y%m%d", &tm, name), -EINVAL); /* a number is an id */
	assert_int_equal(pattern_name("", &tm, name), -EINVAL);
	assert_int_equal(pattern_name("a/%Y", &tm, name), -EINVAL);
	assert_int_equal(pattern_name("%c%c%c%c%c%c%c%c%c", &tm, name), -EINVAL);
}

/* ---- chunks -------------------------------------------------------------------------------------- */

static void chunk_sets(void **state)
{
	struct chunk_set s = {0};
	uint8_t h[DIGEST_RAW_LEN] = {0};

	assert_null(chunk_set_find(&s, h));
	for (uint32_t i = 0; i < 5000; i++) {
		stream_put_le(h, 0x1234, 8); /* alike in front */
		stream_put_le(h + 24, i, 8);
		assert_int_equal(chunk_set_add(&s, h, 1, UINT64_MAX), 0);
	}
	assert_int_equal(s.n, 5000);
	assert_int_equal(chunk_set_add(&s, h, 2, 77), 0); /* bytes instead of a reference */
	assert_int_equal(chunk_set_add(&s, h, 3, 88), 0); /* the first ones stay */
	assert_int_equal(s.n, 5000);
	assert_int_equal(chunk_set_find(&s, h)->file, 2);
	assert_int_equal(chunk_set_find(&s, h)->at, 77);
	h[31] = 1;
	assert_null(chunk_set_find(&s, h));
	chunk_set_done(&s);
}

/* ---- hostile backups: what integration/backup.sh forges whole ones for --------------------------- */

static void put(struct stream_out *s, uint16_t type, const char *text)
{
	assert_int_equal(stream_put(s, type, text, strlen(text), NULL), 0);
}

static void chunk(struct stream_out *s, uint64_t offset, size_t len)
{
	static uint8_t data[STREAM_CHUNK];
	uint8_t head[STREAM_FILE_HEAD];

	stream_put_le(head, offset, 8);
	assert_int_equal(stream_put2(s, B_CHUNK, head, sizeof(head), data, len, NULL), 0);
}

static void partend(struct stream_out *s, uint64_t len)
{
	uint8_t rec[B_PARTEND_LEN];

	stream_put_le(rec, len, 8);
	assert_int_equal(stream_put(s, B_PARTEND, rec, sizeof(rec), NULL), 0);
}

#define SPEC                                                                                                     \
	"{\"version\":1,\"id\":5,\"name\":\"a\",\"uuid\":\"01234567-89ab-4cde-8f01-23456789abcd\","                \
	"\"isolation\":\"container\",\"image\":\"x\",\"image_digest\":"                                         \
	"\"sha256:0000000000000000000000000000000000000000000000000000000000000000\",\"disk_backend\":\"loop\"}"
#define BLOCKS "{\"part\":\"disk\",\"as\":\"blocks\",\"size\":100000}"
#define TREE   "{\"part\":\"disk\",\"as\":\"tree\"}"

/* Write by fn, scan; the error's code, 0: taken. */
static int scanned(void (*fn)(struct stream_out *s), const char *meta, struct vps_err *err)
{
	autoclose int fd = sys_memfd("backup", 0);
	struct stream_out *s = NULL;
	struct chunk_set set = {0};
	struct backup_in in;
	int r;

	assert_int_equal(stream_out_begin(fd, BACKUP_KIND, backup_types, backup_n_types, NULL, &s, NULL), 0);
	put(s, B_META, meta);
	fn(s);
	assert_int_equal(stream_out_end(s, NULL, NULL), 0);
	stream_out_free(s);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	backup_in_init(&in);
	r = backup_scan(fd, 0, NULL, &set, &in, err);
	backup_in_done(&in);
	chunk_set_done(&set);
	return r;
}
#define META   "{\"version\":1}"
#define MEMORY "{\"version\":1,\"memory\":true}"

static void good_blocks(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
	put(s, B_PART, BLOCKS);
	chunk(s, 0, 4096);
	chunk(s, 8192, 8192);
	chunk(s, 99000, 1000);
	partend(s, 100000);
}
static void good_tree(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
	put(s, B_PART, "{\"part\":\"image\",\"as\":\"oci\"}");
	chunk(s, 0, 10);
	partend(s, 10);
	put(s, B_PART, TREE);
	chunk(s, 0, STREAM_CHUNK);
	chunk(s, STREAM_CHUNK, 17);
	partend(s, STREAM_CHUNK + 17);
}
static void overlapping(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
	put(s, B_PART, BLOCKS);
	chunk(s, 0, 8192);
	chunk(s, 4096, 8192);
}
static void beyond(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
	put(s, B_PART, BLOCKS);
	chunk(s, 96000, 4096);
}
static void gap(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
	put(s, B_PART, TREE);
	chunk(s, 0, 4096);
	chunk(s, 4097, 4096);
}
static void crumbs(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
	put(s, B_PART, TREE);
	chunk(s, 0, 1);
	chunk(s, 1, 1);
}
static void image_last(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
	put(s, B_PART, TREE);
	partend(s, 0);
	put(s, B_PART, "{\"part\":\"image\",\"as\":\"oci\"}");
	partend(s, 0);
}
static void memory_part(struct stream_out *s)
{
	put(s, B_PART, "{\"part\":\"memory\",\"as\":\"tar\"}");
	chunk(s, 0, 10240);
	partend(s, 10240);
}
static void with_memory(struct stream_out *s)
{
	good_blocks(s);
	memory_part(s);
}
static void memory_twice(struct stream_out *s)
{
	with_memory(s);
	memory_part(s);
}
static void memory_first(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
	memory_part(s);
	put(s, B_PART, TREE);
	partend(s, 0);
}
static void no_disk(struct stream_out *s)
{
	put(s, B_SPEC, SPEC);
}
static void no_spec(struct stream_out *s)
{
	put(s, B_PART, TREE);
	partend(s, 0);
}
static void reference(struct stream_out *s)
{
	uint8_t ref[B_REF_LEN] = {0};

	put(s, B_SPEC, SPEC);
	put(s, B_PART, TREE);
	stream_put_le(ref + 8, 5000, 4);
	assert_int_equal(stream_put(s, B_REF, ref, sizeof(ref), NULL), 0);
	partend(s, 5000);
}

static void hostile(void **state)
{
	static const struct {
		void (*fn)(struct stream_out *s);
		const char *meta;
		bool good;
	} tries[] = {
		{good_blocks, META, true},
		{good_tree, META, true},
		{reference, META, false},
		{reference, "{\"version\":1,\"base\":\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"}",
		 true}, /* known later, or not */
		{reference, "{\"version\":1,\"base\":\"sha256:0\"}", false},
		{good_tree, "{\"version\":2}", false},
		{good_tree, "[]", false},
		{good_tree, "{", false},
		{overlapping, META, false},
		{beyond, META, false},
		{gap, META, false},
		{crumbs, META, false},
		{image_last, META, false},
		{with_memory, MEMORY, true},
		{with_memory, META, false},
		{good_tree, MEMORY, false},
		{memory_twice, MEMORY, false},
		{memory_first, MEMORY, false},
		{no_disk, META, false},
		{no_spec, META, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
		struct vps_err err = {0};
		int r = scanned(tries[i].fn, tries[i].meta, &err);

		if (r != (tries[i].good ? 0 : -VPS_EBADIMAGE))
			fail_msg("%zu: %d %s", i, r, err.msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(schedules), cmocka_unit_test(no_schedules), cmocka_unit_test(names),
		cmocka_unit_test(chunk_sets), cmocka_unit_test(hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
