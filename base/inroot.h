/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I6: the one resolver for paths that a tenant controls. Everything below a
 * root fd, by openat2(2) RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS: an absolute
 * link, "..", or a link swapped in by a racing tenant stays inside the root.
 */
#ifndef VPS_BASE_INROOT_H
#define VPS_BASE_INROOT_H

#include <sys/types.h>

/* All: 0 or a positive result, or -errno; -ELOOP for a magic link on the way, -EAGAIN when
 * a tenant renames faster than the kernel can resolve (openat2(2); tried 128 times). */

/* open(2) below root; O_CLOEXEC and O_NOCTTY are added; links are followed inside the root
 * unless flags has O_NOFOLLOW. fd or -errno. A fifo or device may block or act on being
 * opened: use O_PATH, look, and inroot_reopen where the tenant chose the file. */
int inroot_open(int root, const char *path, int flags, mode_t mode);
/* Open the very file of an O_PATH fd with other flags, through a verified /proc. */
int inroot_reopen(int fd, int flags);
/* Directory fd (O_PATH) of path's parent (must exist), *ret_name points at the last
 * component inside path; -EINVAL when that is "", "." or "..". Work on the last
 * component with *at calls and AT_SYMLINK_NOFOLLOW. */
int inroot_open_parent(int root, const char *path, const char **ret_name);
/* mkdir -p below root; new directories get exactly mode and uid:gid (-1: leave).
 * O_PATH|O_DIRECTORY fd of the last; -ENOTDIR when a file or a dangling link is in the way. */
int inroot_mkdir_p(int root, const char *path, mode_t mode, uid_t uid, gid_t gid);
/* Write a whole regular file by temp + rename in its directory (which must exist), with
 * exactly mode and uid:gid (-1: leave). A link in its place is replaced, not followed. */
int inroot_write_file(int root, const char *path, const void *data, size_t len, mode_t mode,
		      uid_t uid, gid_t gid);
/* Read a regular file of at most max bytes, -EFBIG above; -EINVAL for a fifo, device or
 * directory, which are never opened. NUL-terminated; ret_len may be NULL. */
int inroot_read_file(int root, const char *path, size_t max, char **ret, size_t *ret_len);
/* 1 when path is there after following links inside the root, 0 when not, -errno. */
int inroot_exists(int root, const char *path);
/* 1 when path leads to a regular file with any execute bit, 0 when not, -errno. */
int inroot_is_executable(int root, const char *path);
/* Checks of what an fd really is: on a file system of that statfs(2) magic ("/proc" must be
 * PROC_SUPER_MAGIC); that character device ("/dev/null" must be 1:3). 0, -EXDEV when it is
 * not, or -errno. */
int inroot_fd_is_fs(int fd, long f_type);
int inroot_fd_is_char(int fd, unsigned major, unsigned minor);

#endif
