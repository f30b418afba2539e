/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compiled seccomp programs, <root>/cache/seccomp/<hash>.bpf: compiling a profile takes some ms, longer than all the
 * rest of a start. The hash is of everything that the program depends on.
 */
#include "runtime/container/seccomp.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "base/digest.h"
#include "base/fs.h"

#define CACHE_FORMAT "vps-seccomp-1" /* bump when the compiler changes what it makes of a profile */
#define PROFILE_MAX  (1u << 20)

static const char builtin[] =
#include "runtime/container/seccomp-default.inc"
	;

const char *filter_builtin(size_t *ret_len)
{
	*ret_len = sizeof(builtin) - 1;
	return builtin;
}

void filter_done(struct filter_prog *p)
{
	free(p->filter);
	*p = (struct filter_prog){0};
}

static void add_words(struct digest_ctx *d, const char *what, char *const *words)
{
	digest_add(d, what, strlen(what) + 1);
	for (; words && *words; words++)
		digest_add(d, *words, strlen(*words) + 1);
}

/* "<64 hex>.bpf" */
static int cache_name(const struct filter_input *in, char *buf, size_t size)
{
	char digest[DIGEST_LEN], lib[24];
	struct utsname u;
	struct digest_ctx *d = digest_new();
	if (!d)
		return -ENOMEM;
	if (uname(&u) < 0)
		u.release[0] = 0;
	filter_library(lib, sizeof(lib));
	char *const fixed[] = {(char *)CACHE_FORMAT, lib, u.release, u.machine, NULL};
	add_words(d, "fixed", fixed);
	add_words(d, "features", in->features);
	add_words(d, "drop", in->cap_drop);
	if (strv_has(in->cap_drop, CAPS_ALL)) /* else what is added changes nothing */
		add_words(d, "add", in->cap_add);
	digest_add(d, in->json, in->len);
	digest_end(d, digest);
	if (!digest_valid(digest))
		return -ENOMEM;
	snprintf(buf, size, "%s.bpf", digest + strlen("sha256:"));
	return 0;
}

/* 0, or -errno when there is none that can be trusted. */
static int cache_read(int dir, const char *name, struct filter_prog *ret)
{
	struct stat st;
	autofree char *bytes = NULL;
	size_t len;
	autoclose int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return -EPERM;
	int r = fs_read_fd(fd, FILTER_MAX_BYTES, &bytes, &len);
	if (r < 0)
		return r;
	if (len == 0 || len % sizeof(struct sock_filter))
		return -EINVAL;
	ret->filter = (struct sock_filter *)(void *)take_ptr(bytes);
	ret->len = (unsigned short)(len / sizeof(struct sock_filter));
	return 0;
}

static int open_cache(const char *root)
{
	struct stat st;
	autoclose int top = fs_open_dir(AT_FDCWD, root);
	if (top < 0)
		return top;
	int r = fs_mkdir_p(top, FILTER_CACHE_DIR, 0700);
	if (r < 0)
		return r;
	autoclose int dir = fs_open_dir(top, FILTER_CACHE_DIR);
	if (dir < 0)
		return dir;
	if (fstat(dir, &st) < 0)
		return -errno;
	return st.st_uid == geteuid() && !(st.st_mode & 022) ? take_fd(dir) : -EPERM;
}

static int cached(const struct filter_input *in, const char *root, struct filter_prog *ret,
		  struct vps_err *err)
{
	char name[DIGEST_LEN + 8];
	autoclose int dir = root ? open_cache(root) : -1;
	bool can = dir >= 0 && cache_name(in, name, sizeof(name)) == 0;
	if (can && cache_read(dir, name, ret) == 0)
		return 0;
	int r = filter_compile(in, ret, err);
	if (r >= 0 && can) /* a cache that cannot be written costs time, nothing else */
		fs_write_atomic(dir, name, ret->filter, ret->len * sizeof(*ret->filter), 0600);
	return r;
}

int filter_for(const struct vps_spec *s, const char *root, int instance_dir,
		struct filter_prog *ret, struct vps_err *err)
{
	autofree char *own = NULL;
	auto_strv features = NULL;
	struct filter_input in = {.cap_add = s->cap_add,
				  .cap_drop = s->cap_drop};
	int r = 0;
	if (str_eq(s->seccomp, "unconfined"))
		return 0;
	for (char **f = s->features; r >= 0 && f && *f; f++)
		r = strv_add(&features, *f);
	if (r >= 0 && spec_is_migratable(s))
		r = strv_add(&features, FILTER_MIGRATABLE);
	if (r < 0)
		return vps_err_sys(err, r, "seccomp");
	in.features = features;
	if (!s->seccomp) {
		in.json = filter_builtin(&in.len);
	} else {
		r = fs_read(instance_dir >= 0 ? instance_dir : AT_FDCWD, s->seccomp, PROFILE_MAX,
			    &own, &in.len);
		if (r < 0)
			return vps_err_sys(err, r, "read the seccomp profile '%s'", s->seccomp);
		in.json = own;
	}
	return cached(&in, root, ret, err);
}

int filter_load(const struct filter_prog *p, struct vps_err *err)
{
	struct sock_fprog prog = {.len = p->len, .filter = p->filter};
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return vps_err_sys(err, -errno, "load the seccomp program");
	return 0;
}
