/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/base_util.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"

static int parse(const char *text, struct json **ret, struct vps_err *err)
{
	return json_parse(text, strlen(text), ret, err);
}

static void assert_refused(const char *text, size_t len, const char *words)
{
	struct json *j = (void *)1;
	struct vps_err err = {0};

	if (json_parse(text, len, &j, &err) != -EINVAL)
		fail_msg("accepted: %.60s", text);
	assert_ptr_equal(j, (void *)1);
	assert_int_equal(err.code, EINVAL);
	if (!strstr(err.msg, words))
		fail_msg("'%.60s' gave: %s", text, err.msg);
}

static void test_typed_views(void **state)
{
	auto_json j = NULL;
	auto_strv v = NULL;

	assert_int_equal(parse("{\"s\":\"x\\u00e9\\n\",\"i\":-5,\"u\":18446744073709551615,"
			       "\"d\":1.5e3,\"t\":true,\"n\":null,\"a\":[\"p\",\"q\"],\"o\":{\"k\":1}}",
			       &j, NULL),
			 0);
	assert_int_equal(json_type(j), JSON_OBJECT);
	assert_int_equal(json_len(j), 8);
	assert_string_equal(json_str(json_get(j, "s"), NULL), "x\xc3\xa9\n");
	assert_int_equal(json_int(json_get(j, "i"), 0), -5);
	assert_int_equal(json_u64(json_get(j, "i"), 9), 9);
	assert_true(json_u64(json_get(j, "u"), 0) == UINT64_MAX);
	assert_int_equal(json_int(json_get(j, "u"), 7), 7);
	assert_true(json_num(json_get(j, "d"), 0) == 1500.0);
	assert_true(json_num(json_get(j, "i"), 0) == -5.0);
	assert_int_equal(json_int(json_get(j, "d"), 3), 3);
	assert_true(json_bool(json_get(j, "t"), false));
	assert_int_equal(json_type(json_get(j, "n")), JSON_NULL);
	assert_non_null(json_get(j, "n"));
	assert_null(json_get(j, "absent"));
	assert_null(json_get(json_get(j, "s"), "k"));
	assert_int_equal(json_int(json_get(json_get(j, "o"), "k"), 0), 1);
	assert_string_equal(json_key(j, 1), "i");
	assert_null(json_key(j, 8));
	assert_null(json_at(j, 8));
	assert_string_equal(json_str(json_at(json_get(j, "a"), 1), NULL), "q");
	assert_int_equal(json_strv(json_get(j, "a"), &v), 0);
	assert_int_equal(strv_len(v), 2);
	assert_int_equal(json_strv(j, &v), -EINVAL);
	assert_string_equal(json_str(NULL, "d"), "d");
	assert_int_equal(json_int(NULL, -1), -1);
}

static void test_strv_of_mixed_array_is_refused(void **state)
{
	auto_json j = NULL;
	char **v = (void *)1;

	assert_int_equal(parse("[\"a\",1]", &j, NULL), 0);
	assert_int_equal(json_strv(j, &v), -EINVAL);
	assert_ptr_equal(v, (void *)1);
	assert_int_equal(json_strv(NULL, &v), 0);
	assert_null(v);
}

static void test_scalars_are_documents(void **state)
{
	auto_json a = NULL;
	auto_json b = NULL;

	assert_int_equal(parse(" 42 ", &a, NULL), 0);
	assert_int_equal(json_int(a, 0), 42);
	assert_int_equal(parse("\"s\"", &b, NULL), 0);
	assert_string_equal(json_str(b, NULL), "s");
}

static void test_number_range(void **state)
{
	static const struct {
		const char *text;
		int64_t i;
	} t[] = {
		{"9223372036854775807", INT64_MAX},
		{"-9223372036854775808", INT64_MIN},
		{"-0", 0},
		{"0", 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		auto_json j = NULL;

		assert_int_equal(parse(t[i].text, &j, NULL), 0);
		assert_int_equal(json_type(j), JSON_INT);
		assert_true(json_int(j, 1) == t[i].i);
	}

	auto_json zero = NULL;

	assert_int_equal(parse("-0", &zero, NULL), 0);
	assert_int_equal(json_u64(zero, 5), 0);
}

static void test_hostile_text(void **state)
{
	static const struct {
		const char *text, *words;
	} t[] = {
		{"", "line 1"},
		{"  ", "line 1"},
		{"{", "line 1"},
		{"[1,]", "line 1"},
		{"{\"a\":1,}", "line 1"},
		{"{a:1}", "line 1"},
		{"[1] [2]", "line 1"},
		{"{}x", "line 1"},
		{"1 2", "line 1"},
		{"\n\n  nul", "line 3"},
		{"// no\n1", "line 1"},
		{"/* no */ 1", "line 1"},
		{"[01]", "line 1"},
		{"[+1]", "line 1"},
		{"[.5]", "line 1"},
		{"[1.]", "line 1"},
		{"[NaN]", "line 1"},
		{"[Infinity]", "line 1"},
		{"'a'", "line 1"},
		{"\"a\nb\"", "line 1"},
		{"\"\\x41\"", "line 1"},
		{"\xef\xbb\xbf{}", "line 1"},
		{"{\"a\":1,\n\"b\":2,\n\"a\":3}", "line 3: duplicate key \"a\""},
		{"{\"a\":1,\"\\u0061\":2}", "duplicate key \"a\""},
		{"{\"\\u001b\":1,\"\\u001b\":2}", "duplicate key \"\\x1b\""},
		{"18446744073709551616", "out of range"},
		{"-9223372036854775809", "out of range"},
		{"[1e999]", "out of range"},
		{"[-1e999]", "out of range"},
		{"\"a\\u0000b\"", "NUL"},
		{"{\"a\\u0000b\":1}", "NUL"},
		{"\"\xff\"", "line 1"},
		{"\"\xc0\xaf\"", "UTF-8"},
		{"\"\xed\xa0\x80\"", "UTF-8"},
		{"\"\\udc00\"", "UTF-8"},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_refused(t[i].text, strlen(t[i].text), t[i].words);
	assert_refused("[1]\0", 4, "line 1");
	assert_refused("\"a\0b\"", 5, "line 1");
}

static void test_depth_cap(void **state)
{
	char text[2 * (JSON_MAX_DEPTH + 1) + 1];
	auto_json j = NULL;

	memset(text, '[', JSON_MAX_DEPTH);
	memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
	assert_int_equal(json_parse(text, 2 * JSON_MAX_DEPTH, &j, NULL), 0);

	memset(text, '[', JSON_MAX_DEPTH + 1);
	memset(text + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
	assert_refused(text, 2 * (JSON_MAX_DEPTH + 1), "deep");

	/* Far deeper, and never closed. */
	autofree char *deep = malloc(1 << 20);

	memset(deep, '[', 1 << 20);
	assert_refused(deep, 1 << 20, "deep");
}

static void test_size_caps(void **state)
{
	size_t n = JSON_MAX_BYTES + 1;
	autofree char *text = malloc(n);

	memset(text, ' ', n);
	text[0] = '1';
	assert_refused(text, n, "larger than 8 MiB");

	/* Within the bytes but a tree of millions. */
	for (size_t i = 0; i + 1 < n; i += 2)
		memcpy(text + i, "1,", 2);
	text[0] = '[';
	text[1] = ' ';
	text[n - 2] = ']';
	assert_refused(text, n - 1, "too many values");
}

/* Comparing each key with each would take hours here. */
static void test_many_keys_are_quick(void **state)
{
	auto_strbuf sb = STRBUF_INIT;
	auto_json j = NULL;

	sb_addc(&sb, '{');
	for (unsigned i = 0; i < 400000; i++)
		sb_addf(&sb, "%s\"%u\":%u", i ? "," : "", i, i);
	sb_addc(&sb, '}');
	assert_int_equal(json_parse(sb.s, sb.len, &j, NULL), 0);
	assert_int_equal(json_len(j), 400000);
	assert_int_equal(json_int(json_get(j, "399999"), 0), 399999);
}

static void write_sample(struct json_out *o)
{
	static char *const names[] = {(char *)"a", (char *)"b", NULL};

	jo_object(o, NULL);
	jo_str(o, "name", "web \"1\"\\");
	jo_str(o, "none", NULL);
	jo_strv(o, "tags", names);
	jo_strv(o, "empty", NULL);
	jo_object(o, "limits");
	jo_u64(o, "memory", UINT64_MAX);
	jo_int(o, "nice", -5);
	jo_num(o, "cpus", 1.5);
	jo_num(o, "tenth", 0.1);
	jo_num(o, "third", 1.0 / 3);
	jo_num(o, "nan", 0.0 / 0.0);
	jo_bool(o, "swap", false);
	jo_end_object(o);
	jo_object(o, "x");
	jo_end_object(o);
	jo_array(o, "list");
	jo_object(o, NULL);
	jo_end_object(o);
	jo_int(o, NULL, 1);
	jo_end_array(o);
	jo_end_object(o);
}

static void test_golden_line(void **state)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);

	write_sample(&o);
	assert_string_equal(
		sb.s, "{\"name\": \"web \\\"1\\\"\\\\\", \"none\": null, \"tags\": [\"a\", \"b\"], "
		      "\"empty\": [], \"limits\": {\"memory\": 18446744073709551615, \"nice\": -5, "
		      "\"cpus\": 1.5, \"tenth\": 0.1, \"third\": 0.3333333333333333, "
		      "\"nan\": null, \"swap\": false}, \"x\": {}, \"list\": [{}, 1]}");
}

static void test_golden_pretty(void **state)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);

	jo_object(&o, NULL);
	jo_str(&o, "a", "b");
	jo_array(&o, "l");
	jo_int(&o, NULL, 1);
	jo_object(&o, NULL);
	jo_end_object(&o);
	jo_end_array(&o);
	jo_end_object(&o);
	assert_string_equal(sb.s, "{\n"
				  "  \"a\": \"b\",\n"
				  "  \"l\": [\n"
				  "    1,\n"
				  "    {}\n"
				  "  ]\n"
				  "}");
}

static void test_emitted_strings_are_safe(void **state)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""},
		{"\x01\x1b\x7f", "\"\\u0001\\u001b\\u007f\""},
		{"\xc2\x9b", "\"\\u009b\""},
		{"\xe2\x80\xae", "\"\\u202e\""},
		{"/\xc3\xa9\xf0\x9f\x98\x80", "\"/\xc3\xa9\xf0\x9f\x98\x80\""},
		{"a\xff" "b\xe2\x82", "\"a\xef\xbf\xbd" "b\xef\xbf\xbd\xef\xbf\xbd\""},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, false);
		auto_json j = NULL;

		jo_str(&o, NULL, t[i].in);
		assert_string_equal(sb.s, t[i].out);
		assert_int_equal(json_parse(sb.s, sb.len, &j, NULL), 0);
	}

	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);

	jo_strn(&o, NULL, "a\0b", 3);
	assert_string_equal(sb.s, "\"a\\u0000b\"");
}

static void test_copy_round_trip(void **state)
{
	static const char text[] = "{\"a\": [1, -2, 1.10, 1e2, \"x\", null, true, [], {}], "
				   "\"b\": {\"c\": 18446744073709551615, \"d\": -9223372036854775808}}";
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	auto_json j = NULL;

	assert_int_equal(parse(text, &j, NULL), 0);
	jo_json(&o, NULL, j);
	assert_string_equal(sb.s, text);
}

/* The machine's own, or one made for the test. */
static bool comma_locale(void)
{
	char dir[] = "/tmp/vps-unit-locale-XXXXXX", cmd[256];

	if (setlocale(LC_NUMERIC, "de_DE.UTF-8") || setlocale(LC_NUMERIC, "de_DE"))
		return true;
	if (!mkdtemp(dir))
		return false;
	snprintf(cmd, sizeof(cmd), "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", dir);
	bool made = system(cmd) == 0 && setenv("LOCPATH", dir, 1) == 0 &&
		    setlocale(LC_NUMERIC, "de_DE.UTF-8");
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	(void)!system(cmd);
	return made;
}

static void test_locale_does_not_matter(void **state)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	auto_json j = NULL;

	if (!comma_locale()) {
		print_message("# SKIP: no locale with a decimal comma (package locales)\n");
		skip();
	}
	jo_num(&o, NULL, 2.5);
	assert_int_equal(parse("2.5", &j, NULL), 0);
	setlocale(LC_NUMERIC, "C");
	assert_string_equal(sb.s, "2.5");
	assert_true(json_num(j, 0) == 2.5);
}

static void test_load(void **state)
{
	struct test_dir *t = *state;
	auto_json j = NULL;
	struct vps_err err = {0};

	put_file(t->fd, "good", "{\"a\": 1}\n");
	put_file(t->fd, "bad", "{\n\"a\": }\n");
	assert_int_equal(json_load(t->fd, "good", &j, &err), 0);
	assert_int_equal(json_int(json_get(j, "a"), 0), 1);
	assert_int_equal(json_load(t->fd, "bad", &j, &err), -EINVAL);
	assert_memory_equal(err.msg, "'bad': JSON line 2: ", 20);
	vps_err_clear(&err);
	assert_int_equal(json_load(t->fd, "none", &j, &err), -ENOENT);
	assert_string_equal(err.msg, "read 'none': No such file or directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_typed_views),
		cmocka_unit_test(test_strv_of_mixed_array_is_refused),
		cmocka_unit_test(test_scalars_are_documents),
		cmocka_unit_test(test_number_range),
		cmocka_unit_test(test_hostile_text),
		cmocka_unit_test(test_depth_cap),
		cmocka_unit_test(test_size_caps),
		cmocka_unit_test(test_many_keys_are_quick),
		cmocka_unit_test(test_golden_line),
		cmocka_unit_test(test_golden_pretty),
		cmocka_unit_test(test_emitted_strings_are_safe),
		cmocka_unit_test(test_copy_round_trip),
		cmocka_unit_test(test_locale_does_not_matter),
		dir_test(test_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
