/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two archives, runtime/microvm/initramfs.h. */
#include "runtime/microvm/initramfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/sys.h"
#include "images/images.h"
#include "runtime/guestcfg.h"

#define FORMAT	    "1" /* changes with what is put into the archive, and how */
#define DEP_MAX	    (16u << 20)
#define MODULE_MAX  (64u << 20)
#define PROGRAM_MAX (64u << 20)
#define UNUSED_S    (7 * 24 * 3600)
#define PREFIX	    "initramfs-"

/* ---- archive 1 ----------------------------------------------------------------- */

static int wanted_list(char *const *extra, char ***ret)
{
	auto_strv v = NULL;
	int r = 0;

	for (size_t i = 0; guest_modules[i] && r == 0; i++)
		r = strv_add(&v, guest_modules[i]);
	for (; extra && *extra && r == 0; extra++)
		r = strv_add(&v, *extra);
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}

static int find_modules(int dir, char *const *extra, char ***ret, struct vps_err *err)
{
	autofree char *dep = NULL, *builtin = NULL;
	auto_strv wanted = NULL;
	int r = wanted_list(extra, &wanted);

	if (r < 0)
		return vps_err_sys(err, r, "modules");
	if (dir < 0)
		return 0;
	r = fs_read(dir, "modules.dep", DEP_MAX, &dep, NULL);
	if (r < 0)
		return vps_err_sys(err, r, "the kernel's modules.dep (depmod makes it)");
	r = fs_read(dir, "modules.builtin", DEP_MAX, &builtin, NULL);
	if (r < 0 && r != -ENOENT)
		return vps_err_sys(err, r, "the kernel's modules.builtin");
	return modules_closure(dep, builtin ? builtin : "", (const char *const *)wanted, ret, err);
}

/* Everything that the archive depends on: a module's size and time stand for its bytes. */
static int key_of(const struct initramfs_opts *o, char *const *modules, char *name, size_t size,
		  struct vps_err *err)
{
	char program[DIGEST_LEN], key[DIGEST_LEN];
	auto_strbuf sb = STRBUF_INIT;
	struct stat st;
	int r = digest_of_fd(o->program, program, NULL);

	if (r < 0)
		return vps_err_sys(err, r, "read vps-guest");
	sb_addf(&sb, FORMAT " %s\n", program);
	for (; modules && *modules; modules++) {
		if (fstatat(o->modules, *modules, &st, 0) < 0)
			return vps_err_sys(err, -errno, "module %s", *modules);
		sb_addf(&sb, "%s %lld %lld.%09ld\n", *modules, (long long)st.st_size,
			(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
	if (sb_ok(&sb) < 0)
		return vps_err_sys(err, -ENOMEM, "initramfs");
	digest_of(sb.s, sb.len, key);
	snprintf(name, size, PREFIX "%.32s", strchr(key, ':') ? strchr(key, ':') + 1 : "");
	return 0;
}

static int add_module(struct cpio *c, int dir, const char *path, struct strbuf *list,
		      struct vps_err *err)
{
	const char *base = strrchr(path, '/');
	autofree char *data = NULL, *name = NULL;
	size_t len, ko;
	autoclose int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return vps_err_sys(err, -errno, "module %s", path);

	int r = img_read_packed(fd, MODULE_MAX, &data, &len, err);

	if (r < 0)
		return vps_err_wrap(err, r, "module %s", path);
	base = base ? base + 1 : path;
	ko = strstr(base, ".ko") ? (size_t)(strstr(base, ".ko") - base) + 3 : strlen(base);
	name = str_fmt("modules/%.*s", (int)ko, base);
	if (!name)
		return vps_err_sys(err, -ENOMEM, "initramfs");
	cpio_file(c, name, 0644, data, len);
	sb_addf(list, "/%s\n", name);
	return 0;
}

static int build(const struct initramfs_opts *o, char *const *modules, struct cpio *c,
		 struct vps_err *err)
{
	static const char *const dirs[] = {"dev", "modules", "vps"};
	auto_strbuf list = STRBUF_INIT;
	autofree char *program = NULL;
	size_t len;
	int r = 0;

	if (lseek(o->program, 0, SEEK_SET) < 0)
		return vps_err_sys(err, -errno, "read vps-guest");
	r = fs_read_fd(o->program, PROGRAM_MAX, &program, &len);
	if (r < 0)
		return vps_err_sys(err, r, "read vps-guest");
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		cpio_dir(c, dirs[i], 0755);
	/* the kernel opens it for its first process, before that could make it */
	cpio_node(c, "dev/console", S_IFCHR | 0600, 5, 1);
	cpio_file(c, "init", 0755, program, len);
	for (; r == 0 && modules && *modules; modules++)
		r = add_module(c, o->modules, *modules, &list, err);
	if (r < 0)
		return r;
	if (sb_ok(&list) < 0)
		return vps_err_sys(err, -ENOMEM, "initramfs");
	cpio_file(c, "vps/modules", 0644, sb_str(&list), list.len);
	r = cpio_end(c);
	return r < 0 ? vps_err_sys(err, r, "initramfs") : 0;
}

/* Of kernels and programs that are gone. One that is open lives on. */
static void clean(int cache, const char *keep)
{
	auto_strv names = NULL;
	struct stat st;

	if (fs_list(cache, ".", &names) < 0)
		return;
	for (char **n = names; n && *n; n++)
		if (str_starts(*n, PREFIX) && !str_eq(*n, keep) &&
		    fstatat(cache, *n, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_mtime < time(NULL) - UNUSED_S)
			unlinkat(cache, *n, 0);
}

static int make(int cache, const char *name, const struct initramfs_opts *o, char *const *modules,
		struct vps_err *err)
{
	auto_done(cpio_done) struct cpio c = {0};
	int r = build(o, modules, &c, err);

	if (r < 0)
		return r;
	clean(cache, name);
	r = fs_write_atomic(cache, name, c.out.s, c.out.len, 0600);
	return r < 0 ? vps_err_sys(err, r, "write the initramfs") : 0;
}

int initramfs_open(int cache, const struct initramfs_opts *o, struct vps_err *err)
{
	auto_strv modules = NULL;
	char name[64];
	int r = find_modules(o->modules, o->extra, &modules, err);

	if (r >= 0)
		r = key_of(o, modules, name, sizeof(name), err);
	for (int made = 0; r >= 0 && made < 2; made++) {
		int fd = openat(cache, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

		if (fd >= 0)
			futimens(fd, NULL); /* in use */
		if (fd >= 0 || errno != ENOENT || made)
			return fd < 0 ? vps_err_sys(err, -errno, "open the initramfs") : fd;
		r = make(cache, name, o, modules, err);
	}
	return r;
}

int initramfs_check(int modules, char *const *extra, struct vps_err *err)
{
	auto_strv v = NULL;

	return find_modules(modules, extra, &v, err);
}

/* ---- archive 2 ----------------------------------------------------------------- */

int initramfs_config(const struct guest_cfg *cfg, struct vps_err *err)
{
	auto_done(cpio_done) struct cpio c = {0};
	auto_strbuf text = STRBUF_INIT;
	autoclose int fd = sys_memfd("vps-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r = fd < 0 ? fd : guest_cfg_write(cfg, &text);

	if (r >= 0) {
		cpio_dir(&c, "vps", 0755);
		cpio_file(&c, "vps/config", 0600, text.s, text.len);
		r = cpio_end(&c);
	}
	r = r < 0 ? r : fs_write_all(fd, c.out.s, c.out.len);
	if (r >= 0 && (lseek(fd, 0, SEEK_SET) < 0 ||
		       fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0))
		r = -errno;
	return r < 0 ? vps_err_sys(err, r, "the guest's configuration") : take_fd(fd);
}
