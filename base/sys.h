/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raw system calls that libc lacks (Debian 12: glibc 2.36) or whose wrappers set
 * errno: each returns its result or -errno, each fd is close-on-exec at birth.
 * One section of man 2 behind each name. */
#ifndef VPS_BASE_SYS_H
#define VPS_BASE_SYS_H

#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mount_attr;

int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int sys_open_tree(int dirfd, const char *path, unsigned flags);
int sys_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags);
int sys_mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *attr, size_t size);
int sys_fsopen(const char *fs, unsigned flags);
int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux);
int sys_fsmount(int fd, unsigned flags, unsigned attrs);
int sys_pivot_root(const char *new_root, const char *put_old);
pid_t sys_clone3(struct clone_args *args, size_t size);
int sys_pidfd_open(pid_t pid, unsigned flags);
int sys_pidfd_send_signal(int pidfd, int sig);
int sys_pidfd_getfd(int pidfd, int fd);
int sys_close_range(unsigned first, unsigned last, unsigned flags);
int sys_memfd(const char *name, unsigned flags);

/* Empty the log of a mount context (fsopen) and keep its newest message, without the
 * "e "/"w "/"i " in front; "" when there is none. */
void sys_fs_message(int fsfd, char *buf, size_t size);

/* Send and receive up to SYS_MAX_FDS fds with a message over a unix socket (unix(7),
 * SCM_RIGHTS). Bytes or -errno; EINTR is retried. Fds need at least one byte of data with
 * them (-EINVAL). Sending raises no SIGPIPE. Receiving: *n_fds is the room in fds[] and
 * then the number that came; a cut message, cut control data or more fds than room is
 * -EMSGSIZE, and every fd that did come is closed again. 0 bytes is the end. */
#define SYS_MAX_FDS 8
ssize_t sys_send_fds(int sock, const void *data, size_t len, const int *fds, size_t n_fds);
ssize_t sys_recv_fds(int sock, void *data, size_t len, int *fds, size_t *n_fds);

/* CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME in nanoseconds. */
uint64_t sys_now_mono(void);
uint64_t sys_now_boot(void);
uint64_t sys_now_real(void);

#endif
