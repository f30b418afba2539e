/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * runtime/container/seccomp*.c. The program is run here, by an interpreter of classic BPF, for each number and each table;
 * tests/unit/runtime_seccomp.golden has the verdicts of the built-in profile. With an argument the test writes
 * that file anew to its stdout.
 */
#include "tests/unit/base_util.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/container/seccomp.h"

#define LAST 520
#define X32 0x40000000u

static uint32_t jump(const struct sock_filter *f, uint32_t a)
{
	switch (BPF_OP(f->code)) {
	case BPF_JA:
		return f->k;
	case BPF_JEQ:
		return a == f->k ? f->jt : f->jf;
	case BPF_JGT:
		return a > f->k ? f->jt : f->jf;
	case BPF_JGE:
		return a >= f->k ? f->jt : f->jf;
	case BPF_JSET:
		return a & f->k ? f->jt : f->jf;
	}
	fail_msg("jump %x", f->code);
	return 0;
}

static uint32_t run(const struct filter_prog *p, const struct seccomp_data *d)
{
	uint32_t a = 0, mem[BPF_MEMWORDS] = {0};

	for (unsigned pc = 0; pc < p->len; pc++) {
		const struct sock_filter *f = &p->filter[pc];

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(f->k + 4 <= sizeof(*d));
			memcpy(&a, (const char *)d + f->k, 4);
			break;
		case BPF_LD | BPF_MEM:
			a = mem[f->k];
			break;
		case BPF_ST:
			mem[f->k] = a;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= f->k;
			break;
		case BPF_RET | BPF_K:
			return f->k;
		default:
			if (BPF_CLASS(f->code) != BPF_JMP)
				fail_msg("instruction %x", f->code);
			pc += jump(f, a);
		}
	}
	fail_msg("ran off the end");
	return 0;
}

static uint32_t ask(const struct filter_prog *p, uint32_t arch, uint32_t nr, uint64_t arg0)
{
	const struct seccomp_data d = {.nr = (int)nr, .arch = arch, .args = {arg0}};

	return run(p, &d);
}

#define ERR(e) (SECCOMP_RET_ERRNO | (e))

static const char *word(uint32_t verdict)
{
	return verdict == SECCOMP_RET_ALLOW ? "allow"
	       : verdict == ERR(EPERM)	    ? "EPERM"
	       : verdict == ERR(ENOSYS)	    ? "ENOSYS"
					    : "?";
}

static void built_in(char *const *features, struct filter_prog *p)
{
	struct filter_input in = {.features = features};
	struct vps_err err = {0};

	in.json = filter_builtin(&in.len);
	if (filter_compile(&in, p, &err) < 0)
		fail_msg("%s", err.msg);
}

static void write_golden(FILE *f)
{
	auto_done(filter_done) struct filter_prog p = {0};

	built_in(NULL, &p);
	for (unsigned nr = 0; nr < LAST; nr++) {
		autofree char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, (int)nr);

		fprintf(f, "%u %s %s\n", nr, name ? name : "-",
			word(ask(&p, AUDIT_ARCH_X86_64, nr, 0)));
	}
}

#if defined(__x86_64__)

static void test_golden(void **state)
{
	auto_done(filter_done) struct filter_prog p = {0};
	char path[512], name[64], verdict[16], line[128];
	const char *src = getenv("srcdir");
	unsigned nr, seen = 0;

	snprintf(path, sizeof(path), "%s/tests/unit/runtime_seccomp.golden", src ? src : ".");
	FILE *f = fopen(path, "re");

	if (!f)
		fail_msg("no %s", path);
	built_in(NULL, &p);
	while (fgets(line, sizeof(line), f)) {
		assert_int_equal(sscanf(line, "%u %63s %15s", &nr, name, verdict), 3);
		assert_int_equal(nr, seen++);
		if (!str_eq(word(ask(&p, AUDIT_ARCH_X86_64, nr, 0)), verdict))
			fail_msg("%u (%s) is %s, not %s", nr, name,
				 word(ask(&p, AUDIT_ARCH_X86_64, nr, 0)), verdict);
	}
	fclose(f);
	assert_int_equal(seen, LAST);
}

static void test_other_tables(void **state)
{
	auto_done(filter_done) struct filter_prog p = {0};

	built_in(NULL, &p);
	for (unsigned nr = 0; nr < LAST; nr++) {
		assert_int_equal(ask(&p, AUDIT_ARCH_I386, nr, 0), ERR(ENOSYS));
		assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr | X32, 0), ERR(ENOSYS));
	}
	assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, ~0u, 0), ERR(ENOSYS));
	assert_int_equal(ask(&p, AUDIT_ARCH_AARCH64, 0, 0), ERR(ENOSYS));
}

static int nr_of(const char *name)
{
	int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);

	assert_true(nr >= 0);
	return nr;
}

/* The kernel looks at 32 bits of a family. */
static void test_socket_families(void **state)
{
	static const unsigned allowed[] = {0, 1, 2, 10, 16, 17};
	auto_done(filter_done) struct filter_prog p = {0};
	unsigned nr = (unsigned)nr_of("socket");

	built_in(NULL, &p);
	for (unsigned f = 0; f < 64; f++) {
		uint32_t want = ERR(EPERM);

		for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
			if (allowed[i] == f)
				want = SECCOMP_RET_ALLOW;
		assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr, f), want);
		assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr, f | 1ULL << 32), want);
		assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr, f | 0xffffffffULL << 32), want);
	}
	nr = (unsigned)nr_of("socketpair");
	for (unsigned f = 0; f < 64; f++)
		assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr, f),
				 f == 1 ? SECCOMP_RET_ALLOW : ERR(EPERM));
}

static void test_features(void **state)
{
	static const char *const keys[] = {"keyctl", "add_key", "request_key"};
	char *const keyctl[] = {(char *)"keyctl", NULL}, *const nest[] = {(char *)"nesting", NULL};
	char *const both[] = {(char *)"nesting", (char *)"keyctl", NULL};
	char *const i386[] = {(char *)"i386", NULL};
	auto_done(filter_done) struct filter_prog p0 = {0}, p1 = {0}, p2 = {0}, p3 = {0}, p4 = {0};

	built_in(NULL, &p0);
	built_in(keyctl, &p1);
	built_in(nest, &p2);
	built_in(both, &p3);
	built_in(i386, &p4);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		unsigned nr = (unsigned)nr_of(keys[i]);

		assert_int_equal(ask(&p0, AUDIT_ARCH_X86_64, nr, 0), ERR(ENOSYS));
		assert_int_equal(ask(&p1, AUDIT_ARCH_X86_64, nr, 0), SECCOMP_RET_ALLOW);
		assert_int_equal(ask(&p2, AUDIT_ARCH_X86_64, nr, 0), SECCOMP_RET_ALLOW);
		assert_int_equal(ask(&p3, AUDIT_ARCH_X86_64, nr, 0), SECCOMP_RET_ALLOW);
	}
	assert_int_equal(ask(&p4, AUDIT_ARCH_I386, 3 /* read */, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&p4, AUDIT_ARCH_I386, 87 /* swapon */, 0), ERR(EPERM));
	assert_int_equal(ask(&p4, AUDIT_ARCH_X86_64, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&p4, AUDIT_ARCH_X86_64, 0 | X32, 0), ERR(ENOSYS));
}

static void test_personality(void **state)
{
	auto_done(filter_done) struct filter_prog p = {0};
	unsigned nr = (unsigned)nr_of("personality");

	built_in(NULL, &p);
	assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr, 0xffffffff), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr, 8), SECCOMP_RET_ALLOW);
	/* READ_IMPLIES_EXEC, MMAP_PAGE_ZERO */
	assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr, 0x0400000), ERR(EPERM));
	assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, nr, 0x0100000), ERR(EPERM));
}

static int compile(const char *json, char *const *add, char *const *drop, struct filter_prog *p)
{
	const struct filter_input in = {
		.json = json, .len = strlen(json), .cap_add = add, .cap_drop = drop};
	struct vps_err err = {0};

	return filter_compile(&in, p, &err);
}

/* An operator's profile in the older format: includes, excludes, masked arguments, errnoRet. */
static void test_own_profile(void **state)
{
	static const char json[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"archMap\":[{\"architecture\":\"SCMP_ARCH_X86_64\"}],"
		"\"syscalls\":["
		"{\"names\":[\"read\",\"nosuchcall\",\"futex_waitv\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[]},"
		"{\"name\":\"write\",\"action\":\"SCMP_ACT_ALLOW\",\"args\":null},"
		"{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
		"{\"names\":[\"umount2\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":95,"
		"\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
		"{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"s390x\"]}},"
		"{\"names\":[\"bpf\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"99.1\"}},"
		"{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,"
		"\"value\":2114060288,\"valueTwo\":0,\"op\":\"SCMP_CMP_MASKED_EQ\"}]}]}";
	char *const drop[] = {(char *)"CAP_SYS_ADMIN", NULL};
	char *const all[] = {(char *)CAPS_ALL, NULL};
	auto_done(filter_done) struct filter_prog p = {0}, q = {0}, none = {0}, one = {0};
	uint32_t arch = AUDIT_ARCH_X86_64;

	assert_int_equal(compile(json, NULL, NULL, &p), 0);
	assert_int_equal(compile(json, NULL, drop, &q), 0);
	assert_int_equal(compile(json, NULL, all, &none), 0);
	assert_int_equal(compile(json, drop, all, &one), 0);
	assert_int_equal(ask(&none, arch, (unsigned)nr_of("mount"), 0), ERR(EPERM));
	assert_int_equal(ask(&one, arch, (unsigned)nr_of("mount"), 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("read"), 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("write"), 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("open"), 0), ERR(EPERM));
	assert_int_equal(ask(&p, arch, 451, 0), ERR(ENOSYS)); /* behind futex_waitv, 449 */
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("mount"), 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&q, arch, (unsigned)nr_of("mount"), 0), ERR(EPERM));
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("umount2"), 0), ERR(EPERM));
	assert_int_equal(ask(&q, arch, (unsigned)nr_of("umount2"), 0), ERR(95));
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("chroot"), 0), ERR(EPERM));
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("bpf"), 0), ERR(EPERM));
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("clone"), 17), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&p, arch, (unsigned)nr_of("clone"), 0x10000000), ERR(EPERM));
}

static void test_bad_profiles(void **state)
{
	static const char *const bad[] = {
		"", "{", "[]", "{}", "{\"defaultAction\":\"ALLOW\"}", "{\"defaultAction\":7}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"listenerPath\":\"/run/x\"}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"]}]}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],"
		"\"action\":\"SCMP_ACT_NOTIFY\"}]}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],"
		"\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":6,\"value\":0,\"op\":\"SCMP_CMP_EQ\"}]}]}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],"
		"\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":0,\"op\":\"==\"}]}]}",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		auto_done(filter_done) struct filter_prog p = {0};

		if (compile(bad[i], NULL, NULL, &p) >= 0)
			fail_msg("taken: %s", bad[i]);
	}
}

static char *one_file(struct test_dir *t)
{
	auto_strv names = NULL;

	assert_int_equal(fs_list(t->fd, "cache/seccomp", &names), 0);
	assert_int_equal(strv_len(names), 1);
	return str_fmt("cache/seccomp/%s", names[0]);
}

/* The second time comes from the cache; a cache that somebody else could write is not believed. */
static void test_cache(void **state)
{
	struct test_dir *t = *state;
	struct vps_spec s;
	auto_done(filter_done) struct filter_prog a = {0}, b = {0}, c = {0}, d = {0};
	const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);

	spec_init(&s);
	assert_int_equal(filter_for(&s, t->path, -1, &a, NULL), 0);
	autofree char *file = one_file(t);
	struct stat st;

	assert_int_equal(fstatat(t->fd, file, &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, a.len * sizeof(allow));
	assert_int_equal(fs_write_atomic(t->fd, file, &allow, sizeof(allow), 0600), 0);
	assert_int_equal(filter_for(&s, t->path, -1, &b, NULL), 0);
	assert_int_equal(b.len, 1);
	assert_int_equal(fchmodat(t->fd, file, 0666, 0), 0);
	assert_int_equal(filter_for(&s, t->path, -1, &c, NULL), 0);
	assert_int_equal(c.len, a.len);
	assert_int_equal(fs_write_atomic(t->fd, file, "123", 3, 0600), 0);
	assert_int_equal(filter_for(&s, t->path, -1, &d, NULL), 0);
	assert_int_equal(d.len, a.len);
	spec_done(&s);
}

static void test_cache_key(void **state)
{
	struct test_dir *t = *state;
	struct vps_spec s;
	auto_done(filter_done) struct filter_prog a = {0}, b = {0}, c = {0};
	auto_strv names = NULL;

	spec_init(&s);
	assert_int_equal(filter_for(&s, t->path, -1, &a, NULL), 0);
	assert_int_equal(strv_add(&s.features, "keyctl"), 0);
	assert_int_equal(filter_for(&s, t->path, -1, &b, NULL), 0);
	assert_int_equal(str_set(&s.seccomp, "unconfined"), 0);
	assert_int_equal(filter_for(&s, t->path, -1, &c, NULL), 0);
	assert_int_equal(c.len, 0);
	assert_int_equal(fs_list(t->fd, "cache/seccomp", &names), 0);
	assert_int_equal(strv_len(names), 2);
	spec_done(&s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),	   cmocka_unit_test(test_other_tables),
		cmocka_unit_test(test_socket_families), cmocka_unit_test(test_features),
		cmocka_unit_test(test_personality), cmocka_unit_test(test_own_profile),
		cmocka_unit_test(test_bad_profiles), dir_test(test_cache),
		dir_test(test_cache_key),
	};

	if (argc > 1) {
		write_golden(stdout);
		return 0;
	}
	return cmocka_run_group_tests_name("container/seccomp", tests, NULL, NULL);
}

#else
int main(int argc, char **argv)
{
	if (argc > 1)
		write_golden(stdout);
	puts("# SKIP: the golden file is of x86-64");
	return 77;
}
#endif
