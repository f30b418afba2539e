/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of cgroups/ that touch nothing: names, lists of CPUs, the order of writing, and device
 * rules with the program that they become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/bpf.h>
#include <string.h>

#include "cgroups/internal.h"

static void test_no_cgroup2(void **state)
{
	struct cg_host *h = NULL;
	struct vps_err err = { 0 };
	int r = cg_host_open_at("", "32 31 0:29 / /c rw - cgroup cgroup rw,cpu\n", "vpstest", &h,
				&err);
	assert_int_equal(r, -VPS_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "systemd.unified_cgroup_hierarchy=1"));
	assert_null(h);
}

static void test_names(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/a", "-a", ".a", "a b", "a\nb",
					   "monitors", "tasks", "cpu.stat", "cgroup.procs",
					   "memory.max", "ä" };
	static const char *const good[] = { "1001", "web-1", "cpu", "a.b_c", "cpustat", "cpux.y" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(cg_name_valid(bad[i]));
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(cg_name_valid(good[i]));
	assert_false(cg_name_valid(NULL));
	char name[CG_NAME_MAX + 2];
	memset(name, 'a', sizeof(name));
	name[CG_NAME_MAX + 1] = 0;
	assert_false(cg_name_valid(name));
	name[CG_NAME_MAX] = 0;
	assert_true(cg_name_valid(name));
}

/* Raise max before high, lower low before max; both at once: raises first. */
static void test_order(void **state)
{
	struct cg_write w[] = {
		{ .file = "swap", .num = 10, .old_num = 20 },
		{ .file = "max", .num = 300, .old_num = 200 },
		{ .file = "high", .num = 250, .old_num = 100 },
		{ .file = "low", .num = 50, .old_num = 60 },
		{ .file = "min", .num = 40, .old_num = 40 },
		{ .file = "weight", .value = "7", .old = (char *)"8", .num = CG_UNSET,
		  .old_num = CG_UNSET },
	};
	struct cg_plan p = { w, ARRAY_LEN(w), ARRAY_LEN(w) };
	struct cg_write *out[ARRAY_LEN(w)];
	static const char *const want[] = { "max", "high", "weight", "low", "swap" };
	assert_int_equal(cg_plan_order(&p, out), ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_string_equal(out[i]->file, want[i]);
}

static void test_cpulist(void **state)
{
	assert_int_equal(cg_cpulist_within("0-3,8", "0-15"), 0);
	assert_int_equal(cg_cpulist_within("0-3,16", "0-15"), -ERANGE);
	assert_int_equal(cg_cpulist_within("8191", "0-8191"), 0);
	assert_int_equal(cg_cpulist_within("8192", "0-8191"), -ERANGE);
	assert_int_equal(cg_cpulist_within("0-18446744073709551616", "0"), -ERANGE);
	assert_int_equal(cg_cpulist_within("-1", "0"), -EINVAL);
}

/* ---- devices */

/* Just the instructions that devbpf.c uses. */
static int run_program(const struct bpf_insn *p, size_t n, unsigned type, unsigned access,
		       unsigned major, unsigned minor)
{
	const uint32_t ctx[] = { access << 16 | type, major, minor };
	uint64_t r[11] = { 0 };
	for (size_t i = 0; i < n; i++) {
		const struct bpf_insn *in = &p[i];
		switch (in->code) {
		case BPF_LDX | BPF_MEM | BPF_W:
			assert_int_equal(in->src_reg, 1);
			r[in->dst_reg] = ctx[in->off / 4];
			break;
		case BPF_ALU64 | BPF_X | BPF_MOV:
			r[in->dst_reg] = r[in->src_reg];
			break;
		case BPF_ALU64 | BPF_K | BPF_MOV:
			r[in->dst_reg] = (uint64_t)in->imm;
			break;
		case BPF_ALU64 | BPF_K | BPF_AND:
			r[in->dst_reg] &= (uint64_t)in->imm;
			break;
		case BPF_ALU64 | BPF_K | BPF_RSH:
			r[in->dst_reg] >>= in->imm;
			break;
		case BPF_JMP | BPF_K | BPF_JNE:
			if (r[in->dst_reg] != (uint64_t)in->imm)
				i += (size_t)in->off;
			break;
		case BPF_JMP | BPF_EXIT:
			return (int)r[0];
		default:
			fail_msg("instruction %zu: code %#x", i, in->code);
		}
	}
	fail_msg("ran off the end");
	return -1;
}

enum { CHR = BPF_DEVCG_DEV_CHAR, BLK = BPF_DEVCG_DEV_BLOCK, RD = BPF_DEVCG_ACC_READ,
       WR = BPF_DEVCG_ACC_WRITE, MK = BPF_DEVCG_ACC_MKNOD };

static void build(const struct cg_device *rules, size_t n, struct bpf_insn **ret, size_t *ret_n)
{
	struct cg_devrule *merged = NULL;
	size_t n_merged;
	assert_int_equal(cg_devices_merge(rules, n, &merged, &n_merged, NULL), 0);
	assert_int_equal(cg_devbpf_build(merged, n_merged, ret, ret_n), 0);
	free(merged);
}

static void test_device_program(void **state)
{
	static const struct cg_device rules[] = {
		{ 'c', 1, 3, "rw" }, { 'c', 1, 3, "m" },  { 'c', 136, -1, "rwm" },
		{ 'b', 8, 0, "r" },  { 'c', -1, -1, "m" }, { 'a', 10, 229, "rw" },
	};
	static const struct {
		unsigned type, access, major, minor;
		int want;
	} cases[] = {
		{ CHR, RD | WR | MK, 1, 3, 1 }, { CHR, RD, 1, 3, 1 }, { BLK, RD, 1, 3, 0 },
		{ CHR, RD, 1, 5, 0 }, { CHR, MK, 1, 5, 1 }, { CHR, MK | RD, 1, 5, 0 },
		{ CHR, RD | WR, 136, 77, 1 }, { CHR, RD, 137, 77, 0 }, { BLK, RD, 8, 0, 1 },
		{ BLK, WR, 8, 0, 0 }, { BLK, RD | WR, 8, 0, 0 }, { BLK, MK, 8, 0, 0 },
		{ BLK, RD | WR, 10, 229, 1 }, { CHR, RD | WR, 10, 229, 1 }, { BLK, MK, 10, 229, 0 },
	};
	autofree struct bpf_insn *p = NULL;
	size_t n;
	build(rules, ARRAY_LEN(rules), &p, &n);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (run_program(p, n, cases[i].type, cases[i].access, cases[i].major,
				cases[i].minor) != cases[i].want)
			fail_msg("case %zu", i);
}

static void test_device_extremes(void **state)
{
	autofree struct bpf_insn *p = NULL, *q = NULL;
	size_t n;
	build(NULL, 0, &p, &n);
	assert_int_equal(run_program(p, n, CHR, RD, 1, 3), 0);
	static const struct cg_device all[] = { { 'c', 1, 3, "r" }, { 'a', -1, -1, "rwm" },
						{ 'b', 8, 0, "r" } };
	build(all, ARRAY_LEN(all), &q, &n);
	assert_int_equal(run_program(q, n, BLK, RD | WR | MK, 253, 9), 1);
}

static void test_device_usage(void **state)
{
	static const struct cg_device bad[] = {
		{ 'x', 1, 3, "r" }, { 0, 1, 3, "r" }, { 'c', -2, 3, "r" }, { 'c', 4096, 0, "r" },
		{ 'c', 1, 1 << 20, "r" }, { 'c', 1, 3, "" }, { 'c', 1, 3, "rx" },
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct cg_devrule *v = NULL;
		size_t n;
		assert_int_equal(cg_devices_merge(&bad[i], 1, &v, &n, NULL), -VPS_EUSAGE);
		assert_null(v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_cgroup2),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_cpulist),
		cmocka_unit_test(test_device_program),
		cmocka_unit_test(test_device_extremes),
		cmocka_unit_test(test_device_usage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
