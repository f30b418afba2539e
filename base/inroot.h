/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I6: the one resolver for paths that a tenant controls. Everything below a
 * root fd, by openat2(2) RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS: an absolute
 * link, "..", or a link swapped in by a racing tenant stays inside the root.
 */
#ifndef VPS_BASE_INROOT_H
#define VPS_BASE_INROOT_H

#include <sys/types.h>

/* open(2) below root; O_CLOEXEC is added. fd or -errno. */
int inroot_open(int root, const char *path, int flags, mode_t mode);
/* Directory fd of path's parent (must exist), *ret_name points at the last
 * component inside path; -EINVAL when that is "", "." or "..". Work on the last
 * component with *at calls and AT_SYMLINK_NOFOLLOW. */
int inroot_open_parent(int root, const char *path, const char **ret_name);
/* mkdir -p below root; new directories get mode and uid:gid. O_PATH|O_DIRECTORY fd of the last. */
int inroot_mkdir_p(int root, const char *path, mode_t mode, uid_t uid, gid_t gid);
/* Write a whole regular file by temp + rename in its directory (which must exist). */
int inroot_write_file(int root, const char *path, const void *data, size_t len, mode_t mode,
		      uid_t uid, gid_t gid);
/* Read a regular file of at most max bytes (never a fifo or device). */
int inroot_read_file(int root, const char *path, size_t max, char **ret, size_t *ret_len);
/* 1 when path is there after following links inside the root, 0 when not, -errno. */
int inroot_exists(int root, const char *path);
/* 1 when path leads to a regular file with any execute bit, 0 when not, -errno. */
int inroot_is_executable(int root, const char *path);
/* "/proc/self/fd/N" must be procfs, "/dev/null" must be char 1:3, ...: fd checks. 0 or -EXDEV. */
int inroot_fd_is_fs(int fd, long f_type);
int inroot_fd_is_char(int fd, unsigned major, unsigned minor);

#endif
