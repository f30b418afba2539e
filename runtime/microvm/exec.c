/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exec: a child of the caller stands for the command. It passes bytes, sizes and signals between the caller's
 * fds and the agent, and ends with it.
 */
#include "runtime/microvm/microvm.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/sys.h"
#include "runtime/guest/agent.h"

#define EXEC_MS 60000

/* A terminal for the caller, whose other end only passes on: the guest's pty is the one that thinks. */
static int make_pty(const struct vps_exec *x, int *ret_master, int *ret_slave, struct vps_err *err)
{
	struct winsize ws = {.ws_row = x->rows ? x->rows : 24, .ws_col = x->cols ? x->cols : 80};
	autoclose int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	autoclose int slave = -1;
	struct termios t;
	int unlock = 0;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCSWINSZ, &ws) < 0)
		return vps_err_sys(err, -errno, "make a pty");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || tcgetattr(slave, &t) < 0)
		return vps_err_sys(err, -errno, "make a pty");
	cfmakeraw(&t);
	if (tcsetattr(slave, TCSANOW, &t) < 0)
		return vps_err_sys(err, -errno, "make a pty");
	*ret_master = take_fd(master);
	*ret_slave = take_fd(slave);
	return 0;
}

static _Noreturn void bridge(const struct vps_exec *x, int fd, int slave, int status_fd)
{
	int io[3], keep[5], status;
	size_t n = 0;

	setsid();
	payload_signals();
	for (int i = 0; i < 3; i++)
		io[i] = x->tty ? (i < 2 ? slave : -1) : x->stdio[i];
	/* for the signal that tells of a new size */
	if (x->tty)
		ioctl(slave, TIOCSCTTY, 0);
	keep[n++] = fd;
	keep[n++] = status_fd;
	for (int i = 0; i < 3; i++)
		if (io[i] > 2)
			keep[n++] = io[i];
	fds_keep_only(keep, n);
	status = agent_bridge(fd, io, x->tty, NULL);
	if (status < 0)
		status = 128 + SIGKILL; /* the machine is gone, and the command with it */
	signal(SIGPIPE, SIG_IGN);
	(void)!write(status_fd, &status, sizeof(status));
	_exit(0);
}

static int spawn(const struct vps_exec *x, int fd, struct vps_exec_handle *ret, struct vps_err *err)
{
	struct vps_exec_handle h = {.pidfd = -1, .pty = -1, .status_fd = -1};
	struct clone_args args = {.flags = CLONE_PIDFD,
				  .exit_signal = SIGCHLD,
				  .pidfd = (uint64_t)(uintptr_t)&h.pidfd};
	autoclose int slave = -1;
	int status[2], r = x->tty ? make_pty(x, &h.pty, &slave, err) : 0;

	if (r < 0)
		return r;
	if (pipe2(status, O_CLOEXEC) < 0) {
		r = vps_err_sys(err, -errno, "make pipes");
		close_fd(&h.pty);
		return r;
	}
	h.pid = sys_clone3(&args, sizeof(args));
	if (h.pid == 0) {
		close_fd(&h.pty);
		close(status[0]);
		bridge(x, fd, slave, status[1]);
	}
	close(status[1]);
	h.status_fd = status[0];
	if (h.pid < 0) {
		r = vps_err_sys(err, h.pid, "fork");
		close_fd(&h.pty);
		close_fd(&h.status_fd);
		return r;
	}
	*ret = h;
	return 0;
}

int vm_exec(const struct vps_live *l, const struct vps_exec *x, struct vps_exec_handle *ret,
	    struct vps_err *err)
{
	const struct agent_exec a = {
		.argv = x->argv,
		.env = x->env,
		.user = x->user,
		.cwd = x->cwd,
		.tty = x->tty,
		.detach = x->detach,
		.rows = x->rows ? x->rows : 24,
		.cols = x->cols ? x->cols : 80,
	};
	autoclose int fd = vm_agent(l, EXEC_MS, err);
	int status, r = fd < 0 ? fd : agent_exec(fd, &a, EXEC_MS, &status, err);

	if (r < 0)
		return r;
	if (x->detach) {
		*ret = (struct vps_exec_handle){.pidfd = -1, .pty = -1, .status_fd = -1};
		return 0;
	}
	return spawn(x, fd, ret, err);
}
