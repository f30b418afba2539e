/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Joining a running VPS. J enters the cgroup at its birth and then every namespace at once (setns(2) with a
 * pidfd, 5.8: the kernel checks all before it changes any), K is born inside the PID namespace and, by
 * CLONE_PARENT, as the caller's own child: no process in between has to pass on a status or a signal.
 *
 * From the fork on neither is dumpable, and their memory belongs to the host's user namespace, so that nobody
 * inside may look into them (CVE-2016-9962).
 */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "cgroups/cgroups.h"

#define JOIN_NS (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | \
		 CLONE_NEWUTS | CLONE_NEWCGROUP)

static int enter(int pidfd, struct vps_err *err)
{
	if (setns(pidfd, JOIN_NS | CLONE_NEWTIME) < 0 &&
	    (errno != EINVAL || setns(pidfd, JOIN_NS) < 0)) /* no CONFIG_TIME_NS */
		return vps_err_sys(err, -errno, "enter the VPS's namespaces");
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return vps_err_sys(err, -errno, "become the VPS's root");
	if (chdir("/") < 0)
		return vps_err_sys(err, -errno, "enter the root");
	return 0;
}

/* J. Returns in K only. */
static void join(struct cg *cg, int pidfd, int up)
{
	struct vps_err err = {0};
	struct clone_args args = {.flags = CLONE_PARENT};
	struct box_msg m = {.type = BOX_BORN};
	int r = prctl(PR_SET_DUMPABLE, 0) < 0 ? -errno : 0;
	if (r >= 0 && cg) {
		r = cg_enter_v1(cg);
		if (r < 0)
			vps_err_sys(&err, r, "enter the cgroups");
	}
	if (r >= 0)
		r = enter(pidfd, &err);
	if (r >= 0) {
		r = sys_clone3(&args, sizeof(args));
		if (r == 0)
			return;
		m.pid = r;
	}
	if (r < 0)
		box_fail(up, r, &err);
	else
		box_send(up, &m, NULL, 0);
	_exit(r < 0);
}

static int open_target(struct cg *cg, const struct proc_ident *init, int *ret_pidfd, int *ret_cg,
		       struct vps_err *err)
{
	autoclose int pidfd = proc_ident_open(init);
	if (pidfd == -ESRCH)
		return vps_err_set(err, VPS_ESTATE, "the VPS is not running any more");
	if (pidfd < 0)
		return vps_err_sys(err, pidfd, "find init");
	*ret_cg = -1;
	if (cg) {
		int fd = cg_exec_fd(cg, init->pid);
		if (fd == -ESRCH)
			return vps_err_set(err, VPS_ESTATE, "the VPS is not running any more");
		if (fd < 0)
			return vps_err_sys(err, fd, "find the cgroup of init");
		*ret_cg = fd;
	}
	*ret_pidfd = take_fd(pidfd);
	return 0;
}

static int hear_pid(int up, pid_t *ret, struct vps_err *err)
{
	struct box_msg m;
	size_t n = 0;
	ssize_t len = sys_recv_fds(up, &m, sizeof(m), NULL, &n);
	if (len != sizeof(m))
		return vps_err_set(err, ECHILD, "the joining process was killed");
	if (m.type != BOX_BORN) {
		m.err.msg[sizeof(m.err.msg) - 1] = 0;
		return vps_err_set(err, m.err.code ? m.err.code : EPROTO, "%s", m.err.msg);
	}
	*ret = m.pid;
	return 0;
}

int join_fork(struct cg *cg, const struct proc_ident *init, int up[2], pid_t *ret_pid,
	      struct vps_err *err)
{
	autoclose int pidfd = -1;
	autoclose int cgfd = -1;
	struct clone_args args = {.exit_signal = SIGCHLD};
	int pair[2];
	int r = open_target(cg, init, &pidfd, &cgfd, err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return vps_err_sys(err, -errno, "make pipes");
	up[0] = pair[0];
	up[1] = pair[1];
	if (cgfd >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgfd;
	}
	pid_t pid = sys_clone3(&args, sizeof(args));
	if (pid < 0)
		return vps_err_sys(err, pid, "fork into the VPS's cgroup");
	if (pid == 0) {
		join(cg, pidfd, up[1]);
		close_fd(&up[0]);
		*ret_pid = 0;
		return 0;
	}
	close_fd(&up[1]);
	r = hear_pid(up[0], ret_pid, err);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

int container_inside(const struct vps_spec *s, struct cg *cg, const struct proc_ident *init,
		     int (*fn)(void *arg, struct vps_err *err), void *arg, struct vps_err *err)
{
	int up[2] = {-1, -1};
	pid_t pid = 0;
	struct box_msg m = {.type = BOX_READY};
	size_t n = 0;
	int r = join_fork(cg, init, up, &pid, err);
	if (r >= 0 && pid == 0) {
		payload_signals();
		m.result = fn(arg, &m.err);
		box_send(up[1], &m, NULL, 0);
		_exit(0);
	}
	if (r >= 0) {
		ssize_t len = sys_recv_fds(up[0], &m, sizeof(m), NULL, &n);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		if (len != sizeof(m)) {
			r = vps_err_set(err, ECHILD, "the helper inside the VPS was killed");
		} else {
			m.err.msg[sizeof(m.err.msg) - 1] = 0;
			r = m.result < 0 && m.err.code ? vps_err_set(err, m.err.code, "%s", m.err.msg)
						       : m.result;
		}
	}
	close_fd(&up[0]);
	close_fd(&up[1]);
	return r;
}
