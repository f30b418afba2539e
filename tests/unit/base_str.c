/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/base_util.h"

static void test_strbuf(void **state)
{
	auto_strbuf sb = STRBUF_INIT;

	assert_string_equal(sb_str(&sb), "");
	sb_add(&sb, NULL);
	sb_add(&sb, "ab");
	sb_addc(&sb, 'c');
	sb_addn(&sb, "d\0e", 3);
	assert_int_equal(sb.len, 6);
	assert_memory_equal(sb.s, "abcd\0e", 7);
	sb_reset(&sb);
	for (int i = 0; i < 1000; i++)
		sb_addf(&sb, "%d,", i);
	assert_int_equal(sb.len, 10 * 2 + 90 * 3 + 900 * 4);
	assert_int_equal(strlen(sb.s), sb.len);
	assert_string_equal(sb.s + sb.len - 4, "999,");
	assert_int_equal(sb_ok(&sb), 0);

	autofree char *s = sb_take(&sb);

	assert_int_equal(strlen(s), 3890);
	assert_null(sb.s);
	assert_int_equal(sb.len, 0);

	autofree char *empty = sb_take(&sb);

	assert_string_equal(empty, "");
}

static void test_strbuf_formats_longer_than_its_room(void **state)
{
	auto_strbuf sb = STRBUF_INIT;
	char big[5000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	sb_add(&sb, "a");
	sb_addf(&sb, "%s!", big);
	assert_int_equal(sb.len, 1 + 4999 + 1);
	assert_int_equal(sb.s[sb.len - 1], '!');
}

static void test_strbuf_out_of_memory_sticks(void **state)
{
	auto_strbuf sb = STRBUF_INIT;

	sb_add(&sb, "keep");
	sb_addn(&sb, "", SIZE_MAX - 4); /* len + n + NUL overflows */
	assert_int_equal(sb_ok(&sb), -ENOMEM);
	sb_add(&sb, "more");
	assert_string_equal(sb.s, "keep");
	assert_null(sb_take(&sb));
	assert_int_equal(sb_ok(&sb), 0);
}

static void test_small_helpers(void **state)
{
	char *s = NULL;
	char hex[7];

	assert_true(str_eq(NULL, NULL));
	assert_false(str_eq("a", NULL));
	assert_true(str_starts("sha256:ab", "sha256:"));
	assert_false(str_starts("sha", "sha256:"));
	assert_true(str_ends("a.tar.gz", ".gz"));
	assert_false(str_ends("gz", ".gz"));
	assert_false(str_ends(NULL, ""));
	assert_int_equal(str_set(&s, "one"), 0);
	assert_int_equal(str_set(&s, "two"), 0);
	assert_string_equal(s, "two");
	assert_int_equal(str_set(&s, NULL), 0);
	assert_null(s);
	assert_string_equal(fmt_hex("\x00\x9f\xff", 3, hex), "009fff");
}

static void test_strv(void **state)
{
	auto_strv v = NULL;
	auto_strv copy = NULL;

	assert_int_equal(strv_len(v), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(strv_addf(&v, "n%d", i), 0);
	assert_int_equal(strv_add(&v, "last"), 0);
	assert_int_equal(strv_take(&v, NULL), -ENOMEM);
	assert_int_equal(strv_len(v), 101);
	assert_string_equal(v[57], "n57");
	assert_true(strv_has(v, "last"));
	assert_false(strv_has(v, "las"));
	assert_false(strv_has(NULL, ""));
	assert_int_equal(strv_copy(&copy, v), 0);
	assert_int_equal(strv_len(copy), 101);
	assert_ptr_not_equal(copy[0], v[0]);
}

/* A vector that somebody else made exactly long enough. */
static void test_strv_add_to_a_foreign_vector(void **state)
{
	auto_strv v = calloc(3, sizeof(char *));

	v[0] = strdup("a");
	v[1] = strdup("b");
	assert_int_equal(strv_add(&v, "c"), 0);
	assert_int_equal(strv_len(v), 3);
}

static void test_split(void **state)
{
	static const struct {
		const char *s, *seps;
		const char *parts[5];
	} t[] = {
		{"a,b", ",", {"a", "b"}},
		{"", ",", {""}},
		{",a,,b,", ",", {"", "a", "", "b", ""}},
		{"a b:c", " :", {"a", "b", "c"}},
		{"abc", ",", {"abc"}},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		auto_strv v = NULL;
		size_t n = 0;

		assert_int_equal(strv_split(t[i].s, t[i].seps, &v), 0);
		for (; n < 5 && t[i].parts[n]; n++)
			assert_string_equal(v[n], t[i].parts[n]);
		assert_int_equal(strv_len(v), n);
	}
}

static void test_parse_u64(void **state)
{
	static const char *const junk[] = {"",   "-1", "+1",  " 1", "1 ", "0x10",
					   "1k", "1.0", "max", "\xd9\xa1"};
	uint64_t v = 77;

	for (size_t i = 0; i < ARRAY_LEN(junk); i++)
		assert_int_equal(parse_u64(junk[i], UINT64_MAX, &v), -EINVAL);
	assert_int_equal(parse_u64("18446744073709551616", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(parse_u64("99999999999999999999999", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(parse_u64("99999999999999999999999x", UINT64_MAX, &v), -EINVAL);
	assert_int_equal(parse_u64("256", 255, &v), -ERANGE);
	assert_int_equal(v, 77);
	assert_int_equal(parse_u64("18446744073709551615", UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(parse_u64("007", 7, &v), 0);
	assert_int_equal(v, 7);
}

struct parsed {
	const char *s;
	int r;
	uint64_t v;
};

static void check_parser(int (*parse)(const char *, uint64_t *), const struct parsed *t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v = 77;
		int r = parse(t[i].s, &v);

		if (r != t[i].r || v != (r ? 77 : t[i].v))
			fail_msg("'%s' gave %d, %llu", t[i].s, r, (unsigned long long)v);
	}
}

static void test_parse_size(void **state)
{
	static const struct parsed t[] = {
		{"0", 0, 0},
		{"512", 0, 512},
		{"512B", 0, 512},
		{"1k", 0, 1024},
		{"1K", 0, 1024},
		{"1Ki", 0, 1024},
		{"1KiB", 0, 1024},
		{"1kB", 0, 1000},
		{"1M", 0, 1 << 20},
		{"512m", 0, 512ull << 20},
		{"1MB", 0, 1000000},
		{"1.5G", 0, 3ull << 29},
		{"0.5KiB", 0, 512},
		{"1.0", 0, 1},
		{"2T", 0, 2ull << 40},
		{"2TB", 0, 2000000000000ull},
		{"16383P", 0, 16383ull << 50},
		{"max", 0, UINT64_MAX},
		{"unlimited", 0, UINT64_MAX},
		{"16384P", -ERANGE, 0},
		{"16383.99999P", 0, (16383ull << 50) + 1125888647843555ull},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0},
		{"18446744073709551615K", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"G", -EINVAL, 0},
		{".5G", -EINVAL, 0},
		{"1.G", -EINVAL, 0},
		{"1.5", -EINVAL, 0},
		{"1.5B", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1M", -EINVAL, 0},
		{" 1M", -EINVAL, 0},
		{"1 M", -EINVAL, 0},
		{"1M ", -EINVAL, 0},
		{"1Mib/s", -EINVAL, 0},
		{"1,5G", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1X", -EINVAL, 0},
		{"Max", -EINVAL, 0},
	};

	check_parser(parse_size, t, ARRAY_LEN(t));
}

static void test_parse_duration(void **state)
{
	static const struct parsed t[] = {
		{"90", 0, 90000},
		{"90s", 0, 90000},
		{"5m", 0, 300000},
		{"2h", 0, 7200000},
		{"7d", 0, 604800000},
		{"1.5s", 0, 1500},
		{"1.5", 0, 1500},
		{"250ms", 0, 250},
		{"0", 0, 0},
		{"0.5ms", -EINVAL, 0},
		{"1h30m", -EINVAL, 0},
		{"5y", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"99999999999999999d", -ERANGE, 0},
	};

	check_parser(parse_duration_ms, t, ARRAY_LEN(t));
}

static void test_parse_bitrate(void **state)
{
	static const struct parsed t[] = {
		{"9600", 0, 9600},	   {"10M", 0, 10000000}, {"10mbit", 0, 10000000},
		{"1G", 0, 1000000000},	   {"1.5k", 0, 1500},	 {"2.5Gbit", 0, 2500000000ull},
		{"10MB", -EINVAL, 0},	   {"10MiB", -EINVAL, 0}, {"0.5bit", -EINVAL, 0},
		{"99999999T", -ERANGE, 0},
	};

	check_parser(parse_bitrate, t, ARRAY_LEN(t));
}

static void test_fmt_size(void **state)
{
	static const struct {
		uint64_t v;
		const char *s;
	} t[] = {
		{0, "0B"},
		{1023, "1023B"},
		{1024, "1K"},
		{1536, "1.5K"},
		{1024 * 10 + 512, "10.5K"},
		{1024 * 100 + 512, "101K"},
		{1048575, "1M"}, /* not 1024K */
		{1023 * 1024, "1023K"},
		{1503238553, "1.4G"},
		{1ull << 40, "1T"},
		{UINT64_MAX - 1, "16E"},
		{UINT64_MAX, "max"},
	};
	char buf[16];

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_string_equal(fmt_size(t[i].v, buf, sizeof(buf)), t[i].s);
}

static void test_fmt_duration(void **state)
{
	static const struct {
		uint64_t v;
		const char *s;
	} t[] = {
		{0, "0s"},	  {45, "45s"},	    {60, "1m"},	       {90, "1m30s"},
		{720, "12m"},	  {3600, "1h"},	    {3605, "1h"},      {7500, "2h5m"},
		{273600, "3d4h"}, {259200, "3d"},   {259260, "3d"},    {86400000, "1000d"},
	};
	char buf[24];

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_string_equal(fmt_duration(t[i].v, buf, sizeof(buf)), t[i].s);
	/* Nothing is lost at the far end. */
	assert_string_equal(fmt_duration(UINT64_MAX, buf, sizeof(buf)), "213503982334601d7h");
}

static void test_escape(void **state)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{"plain text", "plain text"},
		{"a\nb\\c\td", "a\\nb\\\\c\\x09d"},
		{"\x1b[31mred\x7f", "\\x1b[31mred\\x7f"},
		{"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
		{"\xc2\x9b" "31m", "\\xc2\\x9b31m"},			    /* C1 CSI */
		{"\x9b" "31m", "\\x9b31m"},				    /* the raw byte */
		{"a\xe2\x80\xae" "b", "a\\xe2\\x80\\xaeb"},		    /* U+202E */
		{"\xe2\x81\xa6\xe2\x81\xa9", "\\xe2\\x81\\xa6\\xe2\\x81\\xa9"}, /* U+2066, 2069 */
		{"\xe2\x81\xaa", "\xe2\x81\xaa"},			    /* U+206A: behind */
		{"\xe2\x80\x8e\xd8\x9c", "\\xe2\\x80\\x8e\\xd8\\x9c"},	    /* U+200E, 061C */
		{"\xe2\x80\x8d", "\xe2\x80\x8d"},			    /* U+200D: emoji joiner */
		{"\xe2\x80\xa8", "\\xe2\\x80\\xa8"},			    /* U+2028 */
		{"\xc0\xaf", "\\xc0\\xaf"},				    /* overlong */
		{"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},			    /* overlong */
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},			    /* surrogate */
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},		    /* above U+10FFFF */
		{"\xe2\x82", "\\xe2\\x82"},				    /* cut */
		{"\xe2\x82(", "\\xe2\\x82("},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		autofree char *got = str_escape(t[i].in);

		assert_string_equal(got, t[i].out);
	}

	auto_strbuf sb = STRBUF_INIT;

	sb_add_escaped(&sb, "a\0b", 3);
	assert_string_equal(sb.s, "a\\x00b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strbuf),
		cmocka_unit_test(test_strbuf_formats_longer_than_its_room),
		cmocka_unit_test(test_strbuf_out_of_memory_sticks),
		cmocka_unit_test(test_small_helpers),
		cmocka_unit_test(test_strv),
		cmocka_unit_test(test_strv_add_to_a_foreign_vector),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_parse_size),
		cmocka_unit_test(test_parse_duration),
		cmocka_unit_test(test_parse_bitrate),
		cmocka_unit_test(test_fmt_size),
		cmocka_unit_test(test_fmt_duration),
		cmocka_unit_test(test_escape),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
