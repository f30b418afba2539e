/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

/* syscall(2) result to the house's convention. */
static inline int ret(long r)
{
	return r < 0 ? -errno : (int)r;
}

int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.mode = mode,
		.resolve = resolve,
	};

	return ret(syscall(SYS_openat2, dirfd, path, &how, sizeof(how)));
}

int sys_open_tree(int dirfd, const char *path, unsigned flags)
{
	return ret(syscall(SYS_open_tree, dirfd, path, flags | OPEN_TREE_CLOEXEC));
}

int sys_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags)
{
	return ret(syscall(SYS_move_mount, from, from_path, to, to_path, flags));
}

int sys_mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *attr,
		      size_t size)
{
	return ret(syscall(SYS_mount_setattr, dirfd, path, flags, attr, size));
}

int sys_fsopen(const char *fs, unsigned flags)
{
	return ret(syscall(SYS_fsopen, fs, flags | FSOPEN_CLOEXEC));
}

int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux)
{
	return ret(syscall(SYS_fsconfig, fd, cmd, key, value, aux));
}

int sys_fsmount(int fd, unsigned flags, unsigned attrs)
{
	return ret(syscall(SYS_fsmount, fd, flags | FSMOUNT_CLOEXEC, attrs));
}

int sys_pivot_root(const char *new_root, const char *put_old)
{
	return ret(syscall(SYS_pivot_root, new_root, put_old));
}

pid_t sys_clone3(struct clone_args *args, size_t size)
{
	return ret(syscall(SYS_clone3, args, size));
}

int sys_pidfd_open(pid_t pid, unsigned flags)
{
	return ret(syscall(SYS_pidfd_open, pid, flags));
}

int sys_pidfd_send_signal(int pidfd, int sig)
{
	return ret(syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0));
}

int sys_pidfd_getfd(int pidfd, int fd)
{
	return ret(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
}

int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
	return ret(syscall(SYS_close_range, first, last, flags));
}

int sys_memfd(const char *name, unsigned flags)
{
	return ret(syscall(SYS_memfd_create, name, flags | MFD_CLOEXEC));
}

void sys_fs_message(int fsfd, char *buf, size_t size)
{
	char msg[512];
	ssize_t n;

	if (size == 0)
		return;
	buf[0] = '\0';
	/* One read a message, oldest first, ENODATA behind the last. Each starts with "e ",
	 * "w " or "i " (Documentation/filesystems/mount_api.rst). */
	while ((n = read(fsfd, msg, sizeof(msg) - 1)) > 0) {
		const char *s = msg;

		if (msg[n - 1] == '\n')
			n--;
		msg[n] = '\0';
		if (n >= 2 && msg[1] == ' ')
			s += 2;
		size_t len = strnlen(s, size - 1);
		memcpy(buf, s, len);
		buf[len] = '\0';
	}
}

/* Room for the fds and, should the socket have SO_PASSCRED on, for credentials too,
 * which would otherwise push the fds out of the buffer. */
union ctl_buf {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(SYS_MAX_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

ssize_t sys_send_fds(int sock, const void *data, size_t len, const int *fds, size_t n_fds)
{
	union ctl_buf ctl = {0};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	/* Linux drops fds that travel without a byte of data on a stream socket. */
	if (n_fds > SYS_MAX_FDS || (n_fds > 0 && len == 0))
		return -EINVAL;
	if (n_fds > 0) {
		msg.msg_control = ctl.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));

		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* All fds of the message into got[]; the kernel has installed them, so each is now ours
 * to close, whatever we think of the message. */
static size_t collect_fds(struct msghdr *msg, int got[SYS_MAX_FDS])
{
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < here; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n < SYS_MAX_FDS)
				got[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

ssize_t sys_recv_fds(int sock, void *data, size_t len, int *fds, size_t *n_fds)
{
	union ctl_buf ctl;
	int got[SYS_MAX_FDS];
	struct iovec iov = {.iov_base = data, .iov_len = len};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ctl.bytes,
		.msg_controllen = sizeof(ctl.bytes),
	};
	ssize_t n;

	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	size_t n_got = collect_fds(&msg, got);

	if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || n_got > *n_fds) {
		for (size_t i = 0; i < n_got; i++)
			close(got[i]);
		return -EMSGSIZE;
	}
	if (n_got > 0)
		memcpy(fds, got, n_got * sizeof(int));
	*n_fds = n_got;
	return n;
}

static uint64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t sys_now_mono(void)
{
	return now(CLOCK_MONOTONIC);
}

uint64_t sys_now_boot(void)
{
	return now(CLOCK_BOOTTIME);
}

uint64_t sys_now_real(void)
{
	return now(CLOCK_REALTIME);
}
