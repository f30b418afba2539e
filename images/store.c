/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store's folders, its lock, and work folders with their leases. */
#include "images/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/fs.h"
#include "base/lock.h"

/* Layers hold set-uid files with the host's own ids: nobody but root may come near. */
#define STORE_MODE 0700

static int open_made(int dirfd, const char *path)
{
	int fd = fs_open_dir(dirfd, path);
	if (fd != -ENOENT)
		return fd;
	int r = fs_mkdir_p(dirfd, path, STORE_MODE);
	if (r < 0)
		return r;
	return fs_open_dir(dirfd, path);
}

int img_store_open(int root_fd, struct img_store **ret, struct vps_err *err)
{
	struct img_store *s = malloc(sizeof(*s));
	if (!s)
		return vps_err_sys(err, -ENOMEM, "image store");
	*s = (struct img_store){ -1, -1, -1, -1, -1, -1, -1, -1 };
	s->fd = open_made(root_fd, "images");
	if (s->fd < 0) {
		int r = s->fd;
		img_store_close(s);
		return vps_err_sys(err, r, "open the image store");
	}
	struct {
		int *fd;
		const char *name;
	} dirs[] = { { &s->blobs, "blobs/sha256" },
		     { &s->layers, "layers" },
		     { &s->erofs, "erofs" },
		     { &s->exports, "exports" },
		     { &s->refs, "refs" },
		     { &s->pins, "pins" },
		     { &s->tmp, "tmp" } };
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		int r = open_made(s->fd, dirs[i].name);
		if (r < 0) {
			img_store_close(s);
			return vps_err_sys(err, r, "open images/%s", dirs[i].name);
		}
		*dirs[i].fd = r;
	}
	*ret = s;
	return 0;
}

struct img_store *img_store_close(struct img_store *s)
{
	if (!s)
		return NULL;
	close_fd(&s->fd);
	close_fd(&s->blobs);
	close_fd(&s->layers);
	close_fd(&s->erofs);
	close_fd(&s->exports);
	close_fd(&s->refs);
	close_fd(&s->pins);
	close_fd(&s->tmp);
	free(s);
	return NULL;
}

int img_lock(struct img_store *s, bool exclusive, struct vps_err *err)
{
	int fd = lock_take(s->fd, "lock", exclusive, LOCK_FOREVER);
	if (fd < 0)
		return vps_err_sys(err, fd, "lock the image store");
	return fd;
}

const char *img_arch(void)
{
	static const struct {
		const char *machine, *oci;
	} names[] = { { "x86_64", "amd64" },   { "aarch64", "arm64" },	 { "armv7l", "arm" },
		      { "i686", "386" },       { "riscv64", "riscv64" }, { "ppc64le", "ppc64le" },
		      { "s390x", "s390x" },    { "loongarch64", "loong64" } };
	struct utsname u;
	if (uname(&u) < 0)
		return "amd64";
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(u.machine, names[i].machine))
			return names[i].oci;
	return "unknown";
}

struct img_opts img_opts_fill(const struct img_opts *o)
{
	struct img_opts f = { 0 };
	if (o)
		f = *o;
	struct img_caps *c = &f.caps;
	if (!c->bytes)
		c->bytes = 64ull << 30;
	if (!c->ratio)
		c->ratio = 200;
	if (!c->entries)
		c->entries = 2000000;
	if (!c->layers)
		c->layers = 127;
	if (!c->path || c->path > PATH_MAX - 1)
		c->path = PATH_MAX - 1;
	if (!c->xattr_bytes)
		c->xattr_bytes = 64u << 10;
	if (!c->memory)
		c->memory = 64u << 20;
	if (!f.arch)
		f.arch = img_arch();
	return f;
}

/* ---- work folders -------------------------------------------------------- */

/*
 * Between mkdir and flock the folder looks dead, and somebody's clean-up may take it away; then the
 * lock is busy, or the folder that we hold is unlinked. Both mean: once more.
 */
static int work_try(struct img_store *s, struct img_work *w)
{
	uint32_t salt = 0;
	if (getrandom(&salt, sizeof(salt), 0) < 0)
		return -errno;
	snprintf(w->name, sizeof(w->name), "work.%d.%08x", (int)getpid(), salt);
	if (mkdirat(s->tmp, w->name, STORE_MODE) < 0)
		return errno == EEXIST ? -EAGAIN : -errno;
	autoclose int fd = fs_open_dir(s->tmp, w->name);
	if (fd < 0)
		return fd == -ENOENT ? -EAGAIN : fd;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_nlink == 0)
		return -EAGAIN;
	w->fd = take_fd(fd);
	return 0;
}

int img_work_begin(struct img_store *s, struct img_work *ret, struct vps_err *err)
{
	struct img_work w = IMG_WORK_INIT;
	w.s = s;
	img_work_clean(s, false, NULL);
	int r = -EAGAIN;
	for (int i = 0; i < 100 && r == -EAGAIN; i++)
		r = work_try(s, &w);
	if (r < 0)
		return vps_err_sys(err, r, "make a work folder in the image store");
	*ret = w;
	return 0;
}

void img_work_end(struct img_work *w)
{
	if (w->fd < 0)
		return;
	if (w->loose)
		img_sweep_new(w->s, w->fd);
	fs_remove_tree(w->s->tmp, w->name);
	close_fd(&w->fd);
}

static uint64_t tree_bytes(int dirfd, const char *name, unsigned depth)
{
	struct stat st;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	uint64_t sum = (uint64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode) || depth > 200)
		return sum;
	autoclose int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_strv names = NULL;
	if (fd < 0 || fs_list(fd, ".", &names) < 0)
		return sum;
	for (size_t i = 0; names && names[i]; i++)
		sum += tree_bytes(fd, names[i], depth + 1);
	return sum;
}

uint64_t img_tree_bytes(int dirfd, const char *name) { return tree_bytes(dirfd, name, 0); }

/* 1 when name was unfinished work of a dead process. */
static int clean_work(struct img_store *s, const char *name, bool dry, uint64_t *bytes)
{
	autoclose int fd = openat(s->tmp, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return 0;
	if (!dry)
		img_sweep_new(s, fd);
	if (bytes)
		*bytes += tree_bytes(s->tmp, name, 0);
	if (!dry)
		fs_remove_tree(s->tmp, name);
	return 1;
}

int img_work_clean(struct img_store *s, bool dry, uint64_t *bytes)
{
	auto_strv names = NULL;
	int r = fs_list(s->tmp, ".", &names);
	if (r < 0)
		return r;
	int n = 0;
	for (size_t i = 0; names && names[i]; i++) {
		if (str_starts(names[i], "lock.")) {
			/* a layer's lock whose holder died; free means nobody unpacks */
			autoclose int fd = dry ? -1 : lock_take(s->tmp, names[i], true, LOCK_TRY);
			if (fd >= 0)
				unlinkat(s->tmp, names[i], 0);
		} else {
			n += clean_work(s, names[i], dry, bytes);
		}
	}
	return n;
}

static int note(struct img_work *w, const char *what, const char *digest)
{
	char name[DIGEST_LEN + 8];
	if (!digest_valid(digest))
		return -EINVAL;
	snprintf(name, sizeof(name), "%s.%s", what, img_hex(digest));
	int fd = openat(w->fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int img_lease_locked(struct img_work *w, const char *digest) { return note(w, "use", digest); }

int img_lease_new_locked(struct img_work *w, const char *digest)
{
	int r = note(w, "new", digest);
	if (r < 0)
		return r;
	w->loose = true;
	return img_lease_locked(w, digest);
}

int img_leases_read(struct img_store *s, char ***ret)
{
	auto_strv works = NULL;
	auto_strv v = NULL;
	int r = fs_list(s->tmp, ".", &works);
	if (r < 0)
		return r;
	for (size_t i = 0; works && works[i]; i++) {
		auto_strv names = NULL;
		if (!str_starts(works[i], "work."))
			continue;
		r = fs_list(s->tmp, works[i], &names);
		if (r == -ENOENT)
			continue; /* it ended just now */
		if (r < 0)
			return r;
		for (size_t j = 0; names && names[j]; j++)
			if (str_starts(names[j], "use.") && strv_add(&v, names[j] + 4) < 0)
				return -ENOMEM;
	}
	*ret = take_ptr(v);
	return 0;
}
