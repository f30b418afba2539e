/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a profile to BPF, libseccomp(3). The format is that of other runtimes (OCI runtime-spec's linux.seccomp and its
 * older cousin with archMap, includes and excludes); "features" in includes and excludes is our own.
 */
#include "runtime/container/seccomp.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/sys.h"

struct compiler {
	scmp_filter_ctx ctx;
	const struct filter_input *in;
	uint32_t dflt;
	uint32_t dflt_errno;
	int last;   /* the highest number that the profile names */
	bool i386;
	struct vps_err *err;
};

/* Younger than libseccomp 2.5.4 (Debian 12); one number on all machines (asm-generic/unistd.h). */
static const struct { const char *name; int nr; } young[] = {
	{"cachestat", 451}, {"fchmodat2", 452}, {"map_shadow_stack", 453}, {"futex_wake", 454},
	{"futex_wait", 455}, {"futex_requeue", 456}, {"statmount", 457}, {"listmount", 458},
	{"lsm_get_self_attr", 459}, {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461},
	{"mseal", 462}, {"setxattrat", 463}, {"getxattrat", 464}, {"listxattrat", 465},
	{"removexattrat", 466}, {"open_tree_attr", 467}, {"file_getattr", 468},
	{"file_setattr", 469},
};

static int bad(struct compiler *c, const char *what, const char *which)
{
	autofree char *shown = str_escape(which ? which : "");
	return vps_err_set(c->err, VPS_ECONF, "seccomp profile: %s '%s'", what, shown ? shown : "");
}

/* Errno of an action, else dflt. */
static uint32_t errno_of(const struct json *j, uint32_t dflt)
{
	uint64_t v = json_u64(j, dflt);
	return v < 4096 ? (uint32_t)v : dflt;
}

static int action_of(struct compiler *c, const char *name, uint32_t err, uint32_t *ret)
{
	static const struct { const char *name; uint32_t action; } plain[] = {
		{"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
		{"SCMP_ACT_KILL", SCMP_ACT_KILL},
		{"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
		{"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
		{"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
		{"SCMP_ACT_LOG", SCMP_ACT_LOG},
	};
	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		if (str_eq(name, plain[i].name)) {
			*ret = plain[i].action;
			return 0;
		}
	if (str_eq(name, "SCMP_ACT_ERRNO"))
		*ret = SCMP_ACT_ERRNO(err);
	else if (str_eq(name, "SCMP_ACT_TRACE"))
		*ret = SCMP_ACT_TRACE(err);
	else
		return bad(c, "no action", name);
	return 0;
}

static int op_of(struct compiler *c, const char *name, enum scmp_compare *ret)
{
	static const struct { const char *name; enum scmp_compare op; } ops[] = {
		{"SCMP_CMP_NE", SCMP_CMP_NE}, {"SCMP_CMP_LT", SCMP_CMP_LT},
		{"SCMP_CMP_LE", SCMP_CMP_LE}, {"SCMP_CMP_EQ", SCMP_CMP_EQ},
		{"SCMP_CMP_GE", SCMP_CMP_GE}, {"SCMP_CMP_GT", SCMP_CMP_GT},
		{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
	};
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		if (str_eq(name, ops[i].name)) {
			*ret = ops[i].op;
			return 0;
		}
	return bad(c, "no operator", name);
}

/* ---- includes, excludes ---------------------------------------------------------- */

static const char *native_arch(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__aarch64__)
	return "arm64";
#else
	return "";
#endif
}

static bool kernel_at_least(const char *want)
{
	struct utsname u;
	unsigned a, b, x, y;
	return uname(&u) == 0 && sscanf(want, "%u.%u", &a, &b) == 2 &&
	       sscanf(u.release, "%u.%u", &x, &y) == 2 && (x > a || (x == a && y >= b));
}

/* A VPS has every capability inside but those taken from it. */
static bool has_cap(const struct compiler *c, const char *cap)
{
	if (strv_has(c->in->cap_drop, CAPS_ALL) && !strv_has(c->in->cap_add, cap))
		return false;
	return !strv_has(c->in->cap_drop, cap);
}

static bool has_feature(const struct compiler *c, const char *f)
{
	return strv_has(c->in->features, f);
}

static bool is_arch(const struct compiler *c, const char *a)
{
	return str_eq(a, native_arch());
}

/* Of the list: all (want_all) or any. */
static bool match(const struct compiler *c, const struct json *list, bool want_all,
		  bool (*has)(const struct compiler *c, const char *v))
{
	for (size_t i = 0; i < json_len(list); i++) {
		const char *v = json_str(json_at(list, i), "");
		if (has(c, v) != want_all)
			return !want_all;
	}
	return want_all;
}

static bool applies(const struct compiler *c, const struct json *rule)
{
	const struct json *in = json_get(rule, "includes"), *ex = json_get(rule, "excludes");
	const struct json *arches = json_get(in, "arches");
	const char *kernel = json_str(json_get(in, "minKernel"), NULL);
	if (!match(c, json_get(in, "caps"), true, has_cap) ||
	    !match(c, json_get(in, "features"), true, has_feature) ||
	    (json_len(arches) && !match(c, arches, false, is_arch)) ||
	    (kernel && !kernel_at_least(kernel)))
		return false;
	kernel = json_str(json_get(ex, "minKernel"), NULL);
	return !match(c, json_get(ex, "caps"), false, has_cap) &&
	       !match(c, json_get(ex, "features"), false, has_feature) &&
	       !match(c, json_get(ex, "arches"), false, is_arch) &&
	       !(kernel && kernel_at_least(kernel));
}

/* ---- rules ------------------------------------------------------------------------- */

static int number_of(const struct compiler *c, const char *name)
{
	int nr = seccomp_syscall_resolve_name(name);
	if (nr != __NR_SCMP_ERROR)
		return nr;
	for (size_t i = 0; !c->i386 && i < ARRAY_LEN(young); i++)
		if (str_eq(name, young[i].name))
			return young[i].nr;
	return nr;
}

static int add_rule(struct compiler *c, const char *name, uint32_t action,
		    const struct scmp_arg_cmp *args, unsigned n)
{
	int nr = number_of(c, name);
	if (nr == __NR_SCMP_ERROR)
		return 0; /* of another machine or a newer kernel: beyond "last", so ENOSYS */
	if (nr > c->last)
		c->last = nr;
	if (nr < 0 && !c->i386)
		return 0; /* not of this machine */
	if (action == c->dflt)
		return 0;
	int r = seccomp_rule_add_array(c->ctx, action, nr, n, args);
	/* i386 cannot tell the arguments of some; those without a rule keep the default. */
	if (r < 0 && r != -EEXIST && r != -EDOM)
		return vps_err_sys(c->err, r, "seccomp profile: rule for '%s'", name);
	return 0;
}

static int read_args(struct compiler *c, const struct json *list, struct scmp_arg_cmp args[6],
		     unsigned *ret_n)
{
	size_t n = json_len(list);
	if (n > 6)
		return bad(c, "more than six", "args");
	for (size_t i = 0; i < n; i++) {
		const struct json *a = json_at(list, i);
		enum scmp_compare op = SCMP_CMP_EQ;
		uint64_t index = json_u64(json_get(a, "index"), 99);
		int r = op_of(c, json_str(json_get(a, "op"), ""), &op);
		if (r < 0)
			return r;
		if (index > 5)
			return bad(c, "no such", "index");
		args[i] = (struct scmp_arg_cmp){
			.arg = (unsigned)index, .op = op,
			.datum_a = json_u64(json_get(a, "value"), 0),
			.datum_b = json_u64(json_get(a, "valueTwo"), 0),
		};
	}
	*ret_n = (unsigned)n;
	return 0;
}

static int add_rules(struct compiler *c, const struct json *rule)
{
	struct scmp_arg_cmp args[6];
	unsigned n_args = 0;
	uint32_t action = 0;
	const struct json *names = json_get(rule, "names");
	const char *one = json_str(json_get(rule, "name"), NULL);
	if (!applies(c, rule))
		return 0;
	int r = action_of(c, json_str(json_get(rule, "action"), ""),
			  errno_of(json_get(rule, "errnoRet"), EPERM), &action);
	if (r >= 0)
		r = read_args(c, json_get(rule, "args"), args, &n_args);
	if (r >= 0 && one)
		r = add_rule(c, one, action, args, n_args);
	for (size_t i = 0; r >= 0 && i < json_len(names); i++)
		r = add_rule(c, json_str(json_at(names, i), ""), action, args, n_args);
	return r;
}

/* ---- program -------------------------------------------------------------------------- */

static int open_ctx(struct compiler *c, const struct json *j)
{
	int r = 0;
	c->dflt_errno = errno_of(json_get(j, "defaultErrnoRet"), EPERM);
	r = action_of(c, json_str(json_get(j, "defaultAction"), ""), c->dflt_errno, &c->dflt);
	if (r < 0)
		return r;
	c->ctx = seccomp_init(c->dflt);
	if (!c->ctx)
		return vps_err_sys(c->err, -ENOMEM, "seccomp");
	/* A binary tree instead of a list of 400 comparisons (2.5). */
	seccomp_attr_set(c->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	/* What a kernel without the other system call tables would say. */
	r = seccomp_attr_set(c->ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	if (r >= 0 && c->i386)
		r = seccomp_arch_add(c->ctx, SCMP_ARCH_X86);
	return r < 0 ? vps_err_sys(c->err, r, "seccomp") : 0;
}

/* A call that is newer than the profile: ENOSYS, so that a C library falls back, where EPERM would end the
 * program. x32's numbers, from 0x40000000 on, are among them. libseccomp cannot say this. */
static unsigned prologue(const struct compiler *c, struct sock_filter out[3])
{
	const struct sock_filter f[3] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)c->last, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};
	if (c->dflt == SCMP_ACT_ALLOW || c->dflt == SCMP_ACT_LOG)
		return 0;
	memcpy(out, f, sizeof(f));
	return 3;
}

static int export(struct compiler *c, struct filter_prog *ret)
{
	autofree char *bytes = NULL;
	size_t len;
	autoclose int fd = sys_memfd("seccomp", 0);
	int r = fd < 0 ? fd : seccomp_export_bpf(c->ctx, fd);
	if (r >= 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (r >= 0)
		r = fs_read_fd(fd, FILTER_MAX_BYTES, &bytes, &len);
	if (r < 0)
		return vps_err_sys(c->err, r, "seccomp: make the program");
	struct sock_filter first[3];
	unsigned n = prologue(c, first);
	size_t total = len + n * sizeof(*first);
	struct sock_filter *f = malloc(total);
	if (!f || total > FILTER_MAX_BYTES) {
		free(f);
		return vps_err_sys(c->err, f ? -E2BIG : -ENOMEM, "seccomp: make the program");
	}
	memcpy(f, first, n * sizeof(*first));
	memcpy(f + n, bytes, len);
	ret->filter = f;
	ret->len = (unsigned short)(total / sizeof(*f));
	return 0;
}

int filter_compile(const struct filter_input *in, struct filter_prog *ret, struct vps_err *err)
{
	auto_json j = NULL;
	struct compiler c = {.in = in, .last = -1, .err = err};
	int r = json_parse(in->json, in->len, &j, err);
	if (r < 0)
		return vps_err_wrap(err, r, "seccomp profile");
#if defined(__x86_64__)
	c.i386 = strv_has(in->features, "i386");
#endif
	if (json_len(json_get(j, "listenerPath")) || json_str(json_get(j, "listenerPath"), NULL))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "seccomp profile: listenerPath (user notification)");
	/* The format of docker calls it linux.seccomp's members; a whole config.json is no profile. */
	const struct json *rules = json_get(j, "syscalls");
	r = open_ctx(&c, j);
	for (size_t i = 0; r >= 0 && i < json_len(rules); i++)
		r = add_rules(&c, json_at(rules, i));
	if (r >= 0)
		r = export(&c, ret);
	if (c.ctx)
		seccomp_release(c.ctx);
	return r;
}

const char *filter_library(char *buf, size_t size)
{
	const struct scmp_version *v = seccomp_version();
	snprintf(buf, size, "%u.%u.%u", v->major, v->minor, v->micro);
	return buf;
}
