/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking into a root that is not mounted yet: its layers and the disk's upper, as overlayfs would show
 * them. The disk's part is the tenant's, so every step goes through openat2 below one root fd
 * without following a link; links are followed here, in text. Nothing is read but links, sizes and modes.
 */
#include "runtime/guestconf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/sys.h"

#define MAX_LINKS 40 /* as the kernel */

struct view {
	const int *roots;
	size_t n;
};

struct found {
	struct stat st;
	int fd;			/* O_PATH of it, itself when it is a link */
	char path[PATH_MAX];	/* where the links led, no leading slash */
};

static int open_plain(int root, const char *path)
{
	return sys_openat2(root, *path ? path : ".", O_PATH | O_NOFOLLOW | O_CLOEXEC, 0,
			   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

static bool is_opaque(int fd)
{
	static const char *const names[] = {"trusted.overlay.opaque", "user.overlay.opaque"};
	char self[32], v[4];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd); /* fgetxattr refuses O_PATH */
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (getxattr(self, names[i], v, sizeof(v)) == 1 && v[0] == 'y')
			return true;
	return false;
}

/* Does this root hide path from those below it: by a whiteout, an opaque directory or anything that is
 * no directory on the way? 1, 0, -errno. */
static int hides(int root, const char *path)
{
	char part[PATH_MAX];
	struct stat st;
	size_t n = 0;

	for (bool last = false; !last;) {
		n += path[n] == '/';
		n += strcspn(path + n, "/");
		last = path[n] == '\0';
		memcpy(part, path, n);
		part[n] = '\0';

		autoclose int fd = open_plain(root, part);

		if (fd == -ENOENT)
			return 0;
		if (fd < 0)
			return fd == -ENOTDIR || fd == -ELOOP ? 1 : fd;
		if (fstat(fd, &st) < 0)
			return -errno;
		if (!S_ISDIR(st.st_mode) || is_opaque(fd))
			return 1;
	}
	return 0;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

/* lstat in the merged tree. 0, -ENOENT, -errno. */
static int look(const struct view *v, const char *path, struct stat *st, int *ret_fd)
{
	for (size_t i = v->n; i-- > 0;) {
		autoclose int fd = open_plain(v->roots[i], path);
		int r;

		if (fd >= 0) {
			if (fstat(fd, st) < 0)
				return -errno;
			if (is_whiteout(st))
				return -ENOENT;
			*ret_fd = take_fd(fd);
			return 0;
		}
		if (fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP)
			return fd;
		r = i > 0 ? hides(v->roots[i], path) : 1;
		if (r != 0)
			return r < 0 ? r : -ENOENT;
	}
	return -ENOENT;
}

/* Put a link's target in front of what is left of the way. */
static int follow_link(int link, char *todo, char *at)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	snprintf(rest, sizeof(rest), "%s", todo);
	if (target[0] == '/')
		at[0] = '\0';
	return snprintf(todo, PATH_MAX, "%s/%s", target, rest) >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static void one_up(char *at)
{
	char *slash = strrchr(at, '/');

	*(slash ? slash : at) = '\0';
}

/* Follow path to its end; follow_last: also a link there. */
static int walk(const struct view *v, const char *path, bool follow_last, struct found *f)
{
	char todo[PATH_MAX], *at = f->path;
	unsigned links = 0;

	f->fd = -1;
	at[0] = '\0';
	snprintf(todo, sizeof(todo), "%s", path);
	for (;;) {
		char *p = todo + strspn(todo, "/");
		size_t n = strcspn(p, "/"), len = strlen(at);
		bool last = p[n + strspn(p + n, "/")] == '\0';
		char name[NAME_MAX + 1];

		if (n == 0)
			return f->fd >= 0 ? 0 : look(v, at, &f->st, &f->fd);
		if (n > NAME_MAX || len + n + 2 > sizeof(f->path))
			return -ENAMETOOLONG;
		memcpy(name, p, n);
		name[n] = '\0';
		memmove(todo, p + n, strlen(p + n) + 1);
		close_fd(&f->fd);
		if (str_eq(name, "."))
			continue;
		if (str_eq(name, "..")) {
			one_up(at);
			continue;
		}
		sprintf(at + len, "%s%s", len ? "/" : "", name);

		int r = look(v, at, &f->st, &f->fd);

		if (r < 0)
			return r;
		if (S_ISLNK(f->st.st_mode) && (!last || follow_last)) {
			if (++links > MAX_LINKS)
				return -ELOOP;
			at[len] = '\0';
			r = follow_link(f->fd, todo, at);
			close_fd(&f->fd);
			if (r < 0)
				return r;
		}
	}
}

/* 1 there (ret may be NULL), 0 not. What cannot be followed is not there: the kernel inside will
 * say the same. */
static int there(const struct view *v, const char *path, bool follow, struct found *ret)
{
	struct found own = {.fd = -1}, *f = ret ? ret : &own;
	int r = walk(v, path, follow, f);

	if (r < 0 || !ret)
		close_fd(&f->fd);
	if (r == -ENOENT || r == -ELOOP || r == -ENAMETOOLONG || r == -ENOTDIR)
		return 0;
	return r < 0 ? r : 1;
}

static int is_program(const struct view *v, const char *path, char *ret_name, size_t size)
{
	struct found f;
	int r = there(v, path, true, &f);

	if (r <= 0)
		return r;
	close_fd(&f.fd);
	if (ret_name) {
		const char *slash = strrchr(f.path, '/'), *name = slash ? slash + 1 : f.path;

		memcpy(ret_name, name, strnlen(name, size - 1) + 1);
		ret_name[size - 1] = '\0';
	}
	return S_ISREG(f.st.st_mode) && (f.st.st_mode & 0111);
}

static int probe_init(const struct view *v, struct guest_facts *f)
{
	char name[NAME_MAX + 1] = "";
	int r = is_program(v, "/sbin/init", name, sizeof(name));

	if (r < 0)
		return r;
	f->sbin_init = r > 0;
	if (!f->sbin_init)
		f->init = f->systemd ? GUEST_INIT_SYSTEMD : GUEST_INIT_NONE;
	else if (str_eq(name, "systemd"))
		f->init = GUEST_INIT_SYSTEMD;
	else
		f->init = str_starts(name, "busybox") ? GUEST_INIT_BUSYBOX : GUEST_INIT_OTHER;
	return 0;
}

/* Where does /etc/resolv.conf lead? The text of the link is enough: /run is empty before boot. */
static int probe_resolv(const struct view *v, struct guest_facts *f)
{
	char target[PATH_MAX];
	struct found got;
	int r = there(v, "/etc/resolv.conf", false, &got);

	if (r <= 0)
		return r;
	if (S_ISLNK(got.st.st_mode)) {
		ssize_t n = readlinkat(got.fd, "", target, sizeof(target) - 1);

		target[n < 0 ? 0 : n] = '\0';
		f->resolved = strstr(target, "systemd/resolve") != NULL;
		f->resolvconf = strstr(target, "resolvconf") != NULL;
	}
	close_fd(&got.fd);
	return 0;
}

static int probe_machine_id(const struct view *v, struct guest_facts *f)
{
	struct found got;
	int r = there(v, "/etc/machine-id", true, &got);

	if (r <= 0)
		return r;
	close_fd(&got.fd);
	f->machine_id = S_ISREG(got.st.st_mode) && got.st.st_size > 0;
	return 0;
}

int guestconf_probe(const int *roots, size_t n, struct guest_facts *ret)
{
	struct guest_facts f = {0};
	bool enabled = false, wanted = false;
	const struct {
		const char *path;
		bool program, follow;
		bool *fact;
	} t[] = {
		{"/usr/lib/systemd/systemd", true, true, &f.systemd},
		{"/lib/systemd/systemd", true, true, &f.systemd},
		{"/lib/systemd/systemd-networkd", true, true, &f.networkd},
		{"/etc/systemd/system/multi-user.target.wants/systemd-networkd.service", false, false,
		 &enabled},
		{"/sbin/ifup", true, true, &f.ifupdown},
		{"/usr/sbin/NetworkManager", true, true, &f.network_manager},
		{"/usr/sbin/netplan", true, true, &f.netplan},
		{"/usr/bin/cloud-init", true, true, &f.cloud_init},
		{"/usr/sbin/sshd", true, true, &f.sshd},
		{"/etc/ssh/ssh_host_ed25519_key", false, true, &f.ssh_host_keys},
		{"/etc/ssh/ssh_host_rsa_key", false, true, &f.ssh_host_keys},
		{"/etc/ssh/ssh_host_ecdsa_key", false, true, &f.ssh_host_keys},
		{"/etc/hosts", false, true, &f.etc_hosts},
		{"/bin/sh", true, true, &f.shell},
		{"/etc/rcS.d", false, true, &f.rcs},
	};
	struct view v = {roots, n};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(t); i++) {
		if (*t[i].fact)
			continue;
		r = t[i].program ? is_program(&v, t[i].path, NULL, 0)
				 : there(&v, t[i].path, t[i].follow, NULL);
		*t[i].fact = r > 0;
	}
	wanted = enabled || (!f.ifupdown && !f.network_manager);
	f.networkd = f.networkd && wanted;
	r = r < 0 ? r : probe_init(&v, &f);
	r = r < 0 ? r : probe_resolv(&v, &f);
	r = r < 0 ? r : probe_machine_id(&v, &f);
	if (r < 0)
		return r;
	*ret = f;
	return 0;
}
