// SPDX-License-Identifier: GPL-2.0-or-later
/* cp's two halves where the tree is: in a VPS, in a stopped one's root, or in a guest. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "runtime/tar.h"

/* Path's parent, and its last component; of "/", "x/." and the like: the directory itself and ".".
 * /proc/self/fd is the tenant's idea of a path to our fds: magic links are not followed. */
static int open_parent(const char *path, char **ret_name, struct vps_err *err)
{
	autofree char *copy = strdup(path);
	size_t n = copy ? strlen(copy) : 0;
	char *slash;
	int fd;

	if (!copy)
		return vps_err_sys(err, -ENOMEM, "cp");
	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr(copy, '/');
	if (!slash[1] || str_eq(slash + 1, ".") || str_eq(slash + 1, "..")) {
		*ret_name = strdup(".");
		fd = sys_openat2(AT_FDCWD, copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0,
				 RESOLVE_NO_MAGICLINKS);
	} else {
		*ret_name = strdup(slash + 1);
		*slash = '\0';
		fd = sys_openat2(AT_FDCWD, *copy ? copy : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC,
				 0, RESOLVE_NO_MAGICLINKS);
	}
	if (!*ret_name) {
		close_fd(&fd);
		return vps_err_sys(err, -ENOMEM, "cp");
	}
	return fd < 0 ? vps_err_sys(err, fd, "'%s' inside", path) : fd;
}

int tar_pack_path(const char *path, int fd, struct vps_err *err)
{
	autofree char *name = NULL;
	autoclose int dir = open_parent(path, &name, err);

	return dir < 0 ? dir : tar_pack(dir, name, name, fd, err);
}

int tar_unpack_path(const char *path, long uid, long gid, int fd, struct vps_err *err)
{
	struct tar_unpack_opts o = {.uid = uid, .gid = gid};
	autofree char *name = NULL;
	autoclose int dir = -1;
	int r;

	/* files are to have the modes that the stream says */
	umask(0);
	dir = sys_openat2(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0,
			  RESOLVE_NO_MAGICLINKS);
	if (dir < 0 && str_ends(path, "/"))
		return vps_err_sys(err, dir, "'%s' inside", path);
	if (dir < 0) {
		dir = open_parent(path, &name, err);
		if (dir < 0)
			return dir;
		o.as = name;
	}
	r = tar_unpack(dir, &o, fd, err);
	return r < 0 ? r : 0;
}
