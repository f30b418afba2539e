// SPDX-License-Identifier: GPL-2.0-or-later
/* What packs or unpacks is written to read and write an fd; backups and migrations are read and written record by record. */
#include "runtime/migrate/feeder.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

static void __attribute__((noreturn)) child(int (*fn)(void *arg, int fd, struct feeder_report *r), void *arg, int data,
					    int report)
{
	struct feeder_report rep = {0};
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	r = fn(arg, data, &rep);
	if (r < 0 && !rep.err.code)
		vps_err_sys(&rep.err, r, "worker");
	(void)!send(report, &rep, sizeof(rep), MSG_NOSIGNAL);
	_exit(r < 0);
}

int feeder_start(int (*fn)(void *arg, int fd, struct feeder_report *r), void *arg, struct feeder *ret,
		 struct vps_err *err)
{
	int data[2], report[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) < 0)
		return vps_err_sys(err, -errno, "socketpair");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0) {
		int r = -errno;
		close(data[0]);
		close(data[1]);
		return vps_err_sys(err, r, "socketpair");
	}
	pid = fork();
	if (pid == 0) {
		close(data[0]);
		close(report[0]);
		child(fn, arg, data[1], report[1]);
	}
	close(data[1]);
	close(report[1]);
	*ret = (struct feeder){pid, data[0], report[0]};
	return pid < 0 ? vps_err_sys(err, -errno, "fork") : 0;
}

int feeder_write(struct feeder *f, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(f->data, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ECONNRESET ? -EPIPE : -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static void reap(struct feeder *f)
{
	close_fd(&f->data);
	close_fd(&f->report);
	while (f->pid > 0 && waitpid(f->pid, NULL, 0) < 0 && errno == EINTR)
		;
	f->pid = -1;
}

int feeder_end(struct feeder *f, struct feeder_report *ret, struct vps_err *err)
{
	struct feeder_report rep = {0};
	ssize_t n;

	(void)shutdown(f->data, SHUT_RDWR); /* what was written is read nevertheless */
	do
		n = recv(f->report, &rep, sizeof(rep), 0);
	while (n < 0 && errno == EINTR);
	reap(f);
	if (n != sizeof(rep))
		return vps_err_set(err, ECHILD, "a worker was killed");
	rep.err.msg[sizeof(rep.err.msg) - 1] = '\0';
	rep.digest[sizeof(rep.digest) - 1] = '\0';
	if (ret)
		*ret = rep;
	return rep.err.code ? vps_err_set(err, rep.err.code, "%s", rep.err.msg) : 0;
}

void feeder_kill(struct feeder *f)
{
	if (f->pid > 0)
		kill(f->pid, SIGKILL); /* ours until it is waited for */
	reap(f);
}
