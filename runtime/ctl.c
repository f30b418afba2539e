/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client's side of runtime/ctl.h. */
#include "runtime/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "base/mem.h"
#include "base/sys.h"
#include "runtime/monitor_files.h"

#define ANSWER_MS 10000

int ctl_connect(int run_dir)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* Through the fd, since sun_path holds 107 bytes and --run may be longer. */
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/" MONITOR_CTL_FILE, run_dir);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	return take_fd(fd);
}

int ctl_send(int fd, enum ctl_type type, const void *data, size_t len)
{
	struct ctl_head head = {.version = CTL_VERSION, .type = (uint8_t)type, .len = (uint16_t)len};
	struct iovec iov[2] = {{&head, sizeof(head)}, {(void *)(uintptr_t)data, len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
	ssize_t n;

	if (len > CTL_DATA_MAX)
		return -EMSGSIZE;
	do {
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static int wait_for(int fd, uint64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (;;) {
		int ms = -1;

		if (deadline) {
			uint64_t now = sys_now_mono();

			ms = now >= deadline ? 0 : (int)((deadline - now + 999999) / 1000000);
		}

		int n = poll(&p, 1, ms);

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int recv_until(int fd, void *buf, size_t *ret_len, uint64_t deadline)
{
	struct ctl_head head;
	struct iovec iov[2] = {{&head, sizeof(head)}, {buf, CTL_DATA_MAX}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n;
	int r = deadline ? wait_for(fd, deadline) : 0;

	if (r < 0)
		return r;
	do {
		n = recvmsg(fd, &msg, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	if (n == 0)
		return 0;
	if ((size_t)n < sizeof(head) || head.version != CTL_VERSION || head.type == 0 ||
	    (size_t)n != sizeof(head) + head.len)
		return -EPROTO;
	*ret_len = head.len;
	return head.type;
}

static uint64_t deadline_of(int timeout_ms)
{
	return timeout_ms < 0 ? 0 : sys_now_mono() + (uint64_t)timeout_ms * 1000000u + 1;
}

int ctl_recv(int fd, void *buf, size_t *ret_len, int timeout_ms)
{
	return recv_until(fd, buf, ret_len, deadline_of(timeout_ms));
}

int ctl_ask(int fd, enum ctl_type type, const void *data, size_t len, int timeout_ms,
	    struct vps_err *err)
{
	uint64_t deadline = deadline_of(timeout_ms);
	char buf[CTL_DATA_MAX];
	size_t n = 0;
	int r = ctl_send(fd, type, data, len);

	while (r >= 0) {
		r = recv_until(fd, buf, &n, deadline);
		if (r == CTL_OK)
			return 0;
		if (r == CTL_ERR && n == sizeof(struct vps_err)) {
			struct vps_err e;

			memcpy(&e, buf, sizeof(e));
			e.msg[sizeof(e.msg) - 1] = '\0';
			return vps_err_set(err, e.code ? e.code : EPROTO, "%s", e.msg);
		}
		if (r == 0)
			r = -ECONNRESET;
	}
	return vps_err_sys(err, r, "ask the monitor");
}

int ctl_stop_begin(int run_dir, struct vps_err *err)
{
	autoclose int fd = ctl_connect(run_dir);

	if (fd < 0)
		return fd;

	int r = ctl_ask(fd, CTL_STOP, NULL, 0, ANSWER_MS, err);

	return r < 0 ? r : take_fd(fd);
}

int ctl_stop_wait(int fd, int timeout_ms, int *ret_exit)
{
	uint64_t deadline = deadline_of(timeout_ms);
	char buf[CTL_DATA_MAX];
	size_t n = 0;

	for (;;) {
		int32_t code = -1;
		int r = recv_until(fd, buf, &n, deadline);

		if (r < 0)
			return r;
		if (r == CTL_EXIT && n == sizeof(code))
			memcpy(&code, buf, sizeof(code));
		else if (r != 0)
			continue;
		if (ret_exit)
			*ret_exit = code;
		return 0;
	}
}

void ctl_stop_end(int fd)
{
	uint64_t deadline = deadline_of(ANSWER_MS);
	char buf[CTL_DATA_MAX];
	size_t n;

	if (ctl_send(fd, CTL_DONE, NULL, 0) == 0)
		while (recv_until(fd, buf, &n, deadline) > 0)
			;
	close(fd);
}
