/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/base_util.h"

#include "base/err.h"

static void test_set_returns_and_fills(void **state)
{
	struct vps_err err = {0};

	assert_int_equal(vps_err_set(&err, EINVAL, "mount '%s': no type", "/x"), -EINVAL);
	assert_int_equal(err.code, EINVAL);
	assert_string_equal(err.msg, "mount '/x': no type");
}

static void test_null_is_fine(void **state)
{
	assert_int_equal(vps_err_set(NULL, VPS_ENOVPS, "x"), -VPS_ENOVPS);
	assert_int_equal(vps_err_sys(NULL, -EPERM, "x"), -EPERM);
	assert_int_equal(vps_err_wrap(NULL, -EPERM, "x"), -EPERM);
	vps_err_clear(NULL);
}

static void test_first_error_wins(void **state)
{
	struct vps_err err = {0};

	vps_err_set(&err, ENOSPC, "first");
	assert_int_equal(vps_err_set(&err, EIO, "second"), -ENOSPC);
	assert_int_equal(vps_err_sys(&err, -EPERM, "third"), -ENOSPC);
	assert_int_equal(err.code, ENOSPC);
	assert_string_equal(err.msg, "first");
	vps_err_clear(&err);
	assert_int_equal(err.code, 0);
	assert_int_equal(vps_err_set(&err, EIO, "fresh"), -EIO);
	assert_string_equal(err.msg, "fresh");
}

static void test_sys_adds_words(void **state)
{
	struct vps_err err = {0};

	assert_int_equal(vps_err_sys(&err, -ENOENT, "open '%s'", "a"), -ENOENT);
	assert_int_equal(err.code, ENOENT);
	assert_string_equal(err.msg, "open 'a': No such file or directory");
}

static void test_wrap(void **state)
{
	struct vps_err err = {0};

	vps_err_set(&err, VPS_ENET, "no route");
	assert_int_equal(vps_err_wrap(&err, -VPS_ENET, "pull '%s'", "deb"), -VPS_ENET);
	assert_int_equal(err.code, VPS_ENET);
	assert_string_equal(err.msg, "pull 'deb': no route");

	vps_err_clear(&err);
	assert_int_equal(vps_err_wrap(&err, -VPS_ENOIMAGE, "run"), -VPS_ENOIMAGE);
	assert_int_equal(err.code, VPS_ENOIMAGE);
	assert_string_equal(err.msg, "run: no such image");
}

static void test_long_messages_are_cut_whole(void **state)
{
	struct vps_err err = {0};
	char text[600];

	/* The two bytes of an e with acute at 506 and 507: there is room for one only. */
	memset(text, 'a', sizeof(text));
	memcpy(text + 506, "\xc3\xa9", 2);
	text[599] = '\0';
	vps_err_set(&err, EIO, "%s", text);
	assert_int_equal(strlen(err.msg), 506);

	vps_err_clear(&err);
	text[505] = '\xc3';
	text[506] = '\xa9';
	text[507] = 'a';
	vps_err_set(&err, EIO, "%s", text);
	assert_int_equal(strlen(err.msg), 507);

	vps_err_clear(&err);
	memset(text, 'a', 504);
	memcpy(text + 504, "\xf0\x9f\x98\x80", 4);
	text[508] = '\0';
	vps_err_set(&err, EIO, "%s", text);
	assert_int_equal(strlen(err.msg), 504);

	/* Wrapping a full message keeps the front and the fixed size. */
	vps_err_wrap(&err, -EIO, "wrapped");
	assert_int_equal(strlen(err.msg), 507);
	assert_memory_equal(err.msg, "wrapped: aaa", 12);
}

static void test_code_words(void **state)
{
	assert_string_equal(vps_code_str(-EPERM), "Operation not permitted");
	assert_string_equal(vps_code_str(EPERM), "Operation not permitted");
	for (int c = VPS_ENOVPS; c <= VPS_EINTERRUPTED; c++)
		assert_string_not_equal(vps_code_str(-c), "unknown error");
	assert_string_equal(vps_code_str(VPS_EINTERRUPTED + 1), "unknown error");
	assert_string_equal(vps_code_str(999), "unknown error");
	assert_string_equal(vps_code_str(INT32_MIN), "unknown error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_returns_and_fills),
		cmocka_unit_test(test_null_is_fine),
		cmocka_unit_test(test_first_error_wins),
		cmocka_unit_test(test_sys_adds_words),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_long_messages_are_cut_whole),
		cmocka_unit_test(test_code_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
