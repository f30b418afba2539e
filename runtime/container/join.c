/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Joining a running VPS. J enters the cgroup at its birth and then every namespace at once (setns(2) with a
 * pidfd, 5.8: the kernel checks all before it changes any); its child K is born inside the PID namespace.
 *
 * J stays, for one thing: to reap K at once. A PID namespace's init cannot end while a zombie is in it
 * (zap_pid_ns_processes()), so a caller that was stopped by Ctrl-Z would keep the VPS from stopping.
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

#include "base/fs.h"
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
	/* The change of ids has made it what fs.suid_dumpable says. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return vps_err_sys(err, -errno, "become undumpable");
	return 0;
}

/* Nothing of the caller's is kept open, nor does its terminal's Ctrl-C reach us. */
static _Noreturn void keep(pid_t pid, int status_fd)
{
	siginfo_t si = {0};
	int r, keep_fds[1] = {status_fd}, status;
	setsid();
	fds_keep_only(keep_fds, status_fd >= 0);
	sys_close_range(0, 2, 0);
	do {
		r = waitid(P_PID, (id_t)pid, &si, WEXITED) < 0 ? -errno : 0;
	} while (r == -EINTR);
	status = si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
	if (status_fd >= 0 && r >= 0) {
		signal(SIGPIPE, SIG_IGN); /* a detached command has no reader */
		r = write(status_fd, &status, sizeof(status)) < 0 ? -errno : 0;
	}
	_exit(0);
}

/* J. Returns in K only. */
static void join(struct cg *cg, int pidfd, int born, int status_fd)
{
	struct vps_err err = {0};
	int child = -1;
	struct clone_args args = {.flags = CLONE_PIDFD, .exit_signal = SIGCHLD,
				  .pidfd = (uint64_t)(uintptr_t)&child};
	struct box_msg m = {.type = BOX_BORN};
	fs_write(AT_FDCWD, "/proc/self/oom_score_adj", "0"); /* as init has it */
	signal(SIGCHLD, SIG_DFL); /* were it ignored, there would be nothing to wait for */
	int r = prctl(PR_SET_DUMPABLE, 0) < 0 ? -errno : 0;
	if (r >= 0)
		r = payload_rlimits(true, &err);
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
	}
	if (r >= 0) {
		box_send(born, &m, &child, 1);
		keep(r, status_fd);
	}
	box_fail(born, r, &err);
	_exit(1);
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

static int hear_pidfd(int born, int *ret, struct vps_err *err)
{
	struct box_msg m;
	int fd = -1;
	size_t n = 1;
	ssize_t len = sys_recv_fds(born, &m, sizeof(m), &fd, &n);
	autoclose int got = len > 0 && n == 1 ? fd : -1;
	if (len != sizeof(m))
		return vps_err_set(err, ECHILD, "the joining process was killed");
	if (m.type != BOX_BORN || got < 0) {
		m.err.msg[sizeof(m.err.msg) - 1] = 0;
		return vps_err_set(err, m.err.code ? m.err.code : EPROTO, "%s", m.err.msg);
	}
	*ret = take_fd(got);
	return 0;
}

void join_reap(pid_t keeper)
{
	while (keeper > 0 && waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
		;
}

int join_fork(struct cg *cg, const struct proc_ident *init, int up[2], int status_fd,
	      struct joined *ret, struct vps_err *err)
{
	autoclose int pidfd = -1;
	autoclose int cgfd = -1;
	struct clone_args args = {.exit_signal = SIGCHLD};
	int born[2];
	/* J has a socket of its own: K may be done before J has said a word. */
	int r = open_target(cg, init, &pidfd, &cgfd, err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, up) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, born) < 0)
		return vps_err_sys(err, -errno, "make pipes");
	if (cgfd >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgfd;
	}
	pid_t pid = sys_clone3(&args, sizeof(args));
	if (pid == 0) {
		close_fd(&born[0]);
		join(cg, pidfd, born[1], status_fd);
		close_fd(&born[1]);
		close_fd(&up[0]);
		*ret = (struct joined){.inside = true, .pidfd = -1};
		return 0;
	}
	close_fd(&up[1]);
	close_fd(&born[1]);
	if (pid < 0)
		r = pid == -EAGAIN ? vps_err_set(err, VPS_ERESOURCE,
						 "the VPS is at its limit of processes (--pids)")
				   : vps_err_sys(err, pid, "fork into the VPS's cgroup");
	*ret = (struct joined){.keeper = pid, .pidfd = -1};
	if (r >= 0) {
		r = hear_pidfd(born[0], &ret->pidfd, err);
		if (r < 0)
			join_reap(pid);
	}
	close_fd(&born[0]);
	return r;
}

int container_inside(const struct vps_live *l, int (*fn)(void *arg, struct vps_err *err), void *arg,
		     struct vps_err *err)
{
	int up[2] = {-1, -1};
	struct joined j;
	struct box_msg m = {.type = BOX_READY};
	size_t n = 0;
	int r = join_fork(l->cg, l->init, up, -1, &j, err);
	if (r >= 0 && j.inside) {
		payload_signals();
		m.result = fn(arg, &m.err);
		box_send(up[1], &m, NULL, 0);
		_exit(0);
	}
	if (r >= 0) {
		ssize_t len = sys_recv_fds(up[0], &m, sizeof(m), NULL, &n);
		join_reap(j.keeper);
		close_fd(&j.pidfd);
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
