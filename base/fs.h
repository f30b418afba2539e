/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of the host's own trees (never a tenant's: that is base/inroot). */
#ifndef VPS_BASE_FS_H
#define VPS_BASE_FS_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"

/* All take a directory fd (or AT_FDCWD) and a path below it. 0 or -errno unless said
 * otherwise; outputs are untouched on failure. Every fd is O_CLOEXEC. */

/* Temp files of fs_write_atomic and fs_write_rename start with this. */
#define FS_TMP_PREFIX ".tmp."

/* Read a whole file of at most max bytes (-EFBIG above). NUL-terminated. ret_len may be NULL. */
int fs_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);
/* The same from an fd's current offset to its end. */
int fs_read_fd(int fd, size_t max, char **ret, size_t *ret_len);
/* Read a small file into buf; returns the length, one trailing newline removed,
 * NUL-terminated. -EFBIG when it does not fit. */
ssize_t fs_read_buf(int dirfd, const char *path, char *buf, size_t size);
/* One write(2) to an existing file (sysfs, procfs, cgroupfs). Short write is -EIO. */
int fs_write(int dirfd, const char *path, const char *data);
/* sysctl.d(5)'s NAME=VALUE, dots for slashes, to /proc/sys. -EINVAL: it is no such thing; -errno of the file. */
int fs_write_sysctl(const char *setting);
/* I1: temp file in the same directory (".tmp.<name>.XXXXXX"), fsync, rename, fsync
 * directory. mode is exact (no umask). No temp is left by a failure; one left by a crash
 * goes by fs_remove_temps. */
int fs_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode);
/* The same without the fsyncs, for /run (tmpfs). */
int fs_write_rename(int dirfd, const char *path, const void *data, size_t len, mode_t mode);
/* Remove what a crash left of the two above from a directory. The caller's lock keeps
 * writers out. */
/* Those that are age_s seconds old at least; dry: only counts them. Their number, or -errno. */
int fs_remove_temps(int dirfd, const char *path, unsigned age_s, bool dry);
/* fsync a directory by path ("." for dirfd itself). */
int fs_sync_dir(int dirfd, const char *path);
/* New directories get mode less umask. -ENOTDIR when a file is in the way. */
int fs_mkdir_p(int dirfd, const char *path, mode_t mode);
int fs_open_dir(int dirfd, const char *path); /* fd, or -errno */
bool fs_exists(int dirfd, const char *path); /* no link followed at the end */
/* Remove a tree without following links or crossing mounts; a missing one is fine. A
 * mount point in it stays and gives -EXDEV. Depth is unlimited, fds and memory are not. Nobody else may use the tree meanwhile. */
int fs_remove_tree(int dirfd, const char *path);
/* Entries of a directory except "." and "..", unsorted. strv. */
int fs_list(int dirfd, const char *path, char ***ret);
/* write(2) it all. 0 or -errno. */
int fs_write_all(int fd, const void *data, size_t len);
/* read(2) until len or end; returns bytes read or -errno. */
ssize_t fs_read_full(int fd, void *buf, size_t len);
/* The same by pread(2), at an offset. */
ssize_t fs_pread_full(int fd, void *buf, size_t len, uint64_t at);
/* All of it, or -ENODATA where the file ends. */
int fs_pread_all(int fd, void *buf, size_t len, uint64_t at);
int fs_pwrite_all(int fd, const void *buf, size_t len, uint64_t at);
/* Copy len bytes of file data from the current offsets, which move: reflink or
 * copy_file_range where the file system can, read/write elsewhere; holes stay holes when
 * both are regular files. -ENODATA when in ends early. */
int fs_copy_data(int in, int out, uint64_t len);

#endif
