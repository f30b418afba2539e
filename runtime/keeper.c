/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client's side; the process is in monitor/keeper_main.c. */
#include "runtime/keeper.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/mem.h"
#include "base/sys.h"

int keeper_connect(int run_fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 5}; /* a keeper that is stopped must not stop us */
	autoclose int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/" KEEPER_FILE, run_fd);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	return take_fd(fd);
}

static int ask(int conn, struct keeper_msg *m, const int *out, size_t n_out, int *in, size_t *n_in)
{
	uint8_t op = m->op;
	ssize_t n = sys_send_fds(conn, m, sizeof(*m), out, n_out);

	if (n < 0)
		return (int)n;
	n = sys_recv_fds(conn, m, sizeof(*m), in, n_in);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return -ECONNRESET;
	return n != sizeof(*m) || m->op != op ? -EPROTO : m->status;
}

int keeper_put(int conn, unsigned id, const int fds[KEEP_N])
{
	struct keeper_msg m = {.op = KEEPER_PUT, .id = id};
	int out[KEEP_N], none[1];
	size_t n = 0, n_none = 0;

	for (int i = 0; i < KEEP_N; i++)
		if (fds[i] >= 0) {
			m.slots |= (uint8_t)(1u << i);
			out[n++] = fds[i];
		}
	return ask(conn, &m, out, n, none, &n_none);
}

int keeper_get(int conn, unsigned id, int fds[KEEP_N])
{
	struct keeper_msg m = {.op = KEEPER_GET, .id = id};
	int in[KEEP_N];
	size_t n = KEEP_N, k = 0;
	int r = ask(conn, &m, NULL, 0, in, &n);

	if (r < 0)
		return r;
	for (int i = 0; i < KEEP_N; i++)
		fds[i] = (m.slots & (1u << i)) && k < n ? in[k++] : -1;
	return 0;
}

int keeper_end(int conn)
{
	struct keeper_msg m = {.op = KEEPER_END};
	int none[1];
	size_t n_none = 0;
	int r = ask(conn, &m, NULL, 0, none, &n_none);

	if (r < 0)
		return r;
	n_none = 0;
	r = (int)sys_recv_fds(conn, &m, sizeof(m), none, &n_none);
	return r == -ECONNRESET || r > 0 ? 0 : r;
}

int keeper_drop(int conn, unsigned id)
{
	struct keeper_msg m = {.op = KEEPER_DROP, .id = id};
	int none[1];
	size_t n_none = 0;

	return ask(conn, &m, NULL, 0, none, &n_none);
}
