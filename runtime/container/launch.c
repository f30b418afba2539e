/* SPDX-License-Identifier: GPL-2.0-or-later */
/* M: the caller's side of a start. */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "cgroups/cgroups.h"
#include "runtime/container/restore.h"

int box_send(int up, const struct box_msg *m, const int *fds, size_t n_fds)
{
	ssize_t n = sys_send_fds(up, m, sizeof(*m), fds, n_fds);
	return n < 0 ? (int)n : 0;
}

void box_fail(int up, int r, const struct vps_err *err)
{
	struct box_msg m = {.type = BOX_FAILED, .result = r, .err = *err};
	if (!m.err.code)
		vps_err_sys(&m.err, r, "start");
	box_send(up, &m, NULL, 0);
}

int box_step_tell(int fd)
{
	ssize_t n = send(fd, "", 1, MSG_NOSIGNAL);
	return n == 1 ? 0 : -EPIPE;
}

int box_step_wait(int fd)
{
	char c;
	ssize_t n;
	do {
		n = read(fd, &c, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : -EPIPE;
}

static void close_pair(int fd[2])
{
	close_fd(&fd[0]);
	close_fd(&fd[1]);
}

static void box_done(struct box *b)
{
	close_pair(b->up);
	close_pair(b->ab);
	close_pair(b->gate);
	close_fd(&b->notify);
	close_fd(&b->init_exe);
	for (int i = 0; i < 3; i++)
		close_pair(b->pipes[i]);
	mnt_plan_done(&b->plan);
	close_fd(&b->dev_saved);
}

static int open_init(struct vps_err *err)
{
	char path[4096];
	const char *dir = secure_getenv("VPS_LIBEXEC");
	if ((size_t)snprintf(path, sizeof(path), "%s/vps-init", dir ? dir : PKGLIBEXECDIR) >=
	    sizeof(path))
		return vps_err_set(err, ENAMETOOLONG, "VPS_LIBEXEC");
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? vps_err_sys(err, -errno, "open %s", path) : fd;
}

static int make_pipes(struct box *b)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, b->up) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b->ab) < 0)
		return -errno;
	if (b->bare)
		return 0;
	if (pipe2(b->gate, O_CLOEXEC) < 0)
		return -errno;
	for (int i = 0; i < 3 && b->run->spec->console == CONSOLE_PIPES; i++)
		if (pipe2(b->pipes[i], O_CLOEXEC) < 0)
			return -errno;
	if (b->run->system) {
		int on = 1;
		b->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (b->notify < 0 ||
		    setsockopt(b->notify, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
			return -errno;
	}
	return 0;
}

static int box_prepare(struct box *b, struct vps_err *err)
{
	const struct vps_run *run = b->run;
	const struct mnt_input in = {
		.memory = run->spec->memory,
		.system = run->system,
		.whole = run_wants_whole(run),
		.mounts = run->spec->mounts,
		.n_mounts = run->spec->n_mounts,
	};
	int r = make_pipes(b);
	if (r < 0)
		return vps_err_sys(err, r, "make pipes");
	if (b->bare)
		return 0;
	r = mnt_plan(&in, &b->plan);
	if (r < 0)
		return vps_err_sys(err, r, "plan mounts");
	if (run->under_init) {
		b->init_exe = open_init(err);
		if (b->init_exe < 0)
			return b->init_exe;
	}
	return 0;
}

/* What A and B have told. */
struct birth {
	pid_t outside, init;
	int console;
	int result;
};

/* A waits for it. */
static int attach_network(struct box *b, const struct birth *birth, int netns, struct vps_err *err)
{
	struct proc_ident init;
	int r = proc_ident_of(birth->init, &init);
	if (r < 0)
		return vps_err_sys(err, r, "identify init");
	if (b->run->network)
		r = b->run->network(b->run->network_arg, &init, netns, err);
	return r < 0 ? r : box_step_tell(b->ab[1]);
}

static int listen_to(struct box *b, struct birth *birth, struct vps_err *err)
{
	for (;;) {
		struct box_msg m;
		int fd = -1;
		size_t n = 1;
		ssize_t len = sys_recv_fds(b->up[0], &m, sizeof(m), &fd, &n);
		autoclose int got = n == 1 && len > 0 ? fd : -1;
		if (len == 0)
			return vps_err_set(err, ECHILD, "a helper of the start was killed");
		if (len < 0)
			return vps_err_sys(err, (int)len, "listen to the helpers of the start");
		if (len != sizeof(m))
			return vps_err_set(err, EPROTO, "a helper of the start talks nonsense");
		if (m.type == BOX_BORN)
			birth->init = m.pid;
		else if (m.type == BOX_NETNS && got >= 0) {
			int r = attach_network(b, birth, got, err);
			if (r < 0)
				return r;
		}
		else if (m.type == BOX_CONSOLE && got >= 0)
			birth->console = take_fd(got);
		else if (m.type == BOX_FAILED) {
			m.err.msg[sizeof(m.err.msg) - 1] = 0;
			return vps_err_set(err, m.err.code, "%s", m.err.msg);
		} else if (m.type == BOX_READY) {
			birth->result = m.result;
			if (m.err.code && err)
				*err = m.err;
			return 0;
		}
	}
}

static void reap(pid_t pid)
{
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* B's death by a signal explains whatever A stumbled over because of it. */
static int explain(const struct birth *birth, int r, struct vps_err *err)
{
	siginfo_t si = {0};
	if (birth->init <= 0 ||
	    waitid(P_PID, (id_t)birth->init, &si, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	    si.si_pid == 0 || si.si_code == CLD_EXITED)
		return r;
	vps_err_clear(err);
	return vps_err_set(err, ECHILD, si.si_status == SIGKILL
			   ? "init was killed while starting: too little memory (--memory), or by hand"
			   : "init was killed by signal %d while starting", si.si_status);
}

/* After a failure: nobody of ours may stay. Both are our children, not yet waited for. */
static void bury(struct birth *birth)
{
	if (birth->init > 0)
		kill(birth->init, SIGKILL);
	if (birth->outside > 0)
		kill(birth->outside, SIGKILL);
	reap(birth->init);
	reap(birth->outside);
	close_fd(&birth->console);
}

static int box_start(struct box *b, struct birth *birth, struct vps_err *err)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	int r = box_prepare(b, err);
	if (r < 0)
		return r;
	pid_t pid = sys_clone3(&args, sizeof(args));
	if (pid < 0)
		return vps_err_sys(err, pid, "fork");
	if (pid == 0 && b->stage_at)
		box_restore(b);
	if (pid == 0)
		box_outside(b);
	birth->outside = pid;
	close_fd(&b->up[1]);
	close_fd(&b->ab[0]);
	if (!b->stage_at)
		close_fd(&b->ab[1]);
	close_fd(&b->gate[0]);
	r = listen_to(b, birth, err);
	if (r < 0) {
		r = explain(birth, r, err);
		bury(birth);
		return r;
	}
	reap(birth->outside);
	birth->outside = 0;
	return 0;
}

#define BOX_INIT(runp) {						\
	.run = (runp), .id_base = (runp)->spec->id_base,		\
	.up = {-1, -1}, .ab = {-1, -1}, .gate = {-1, -1}, .notify = -1,	\
	.pipes = {{-1, -1}, {-1, -1}, {-1, -1}}, .init_exe = -1,	\
	.disk = (runp)->disk_mount, .dev_saved = -1 }

static int fill_launched(struct box *b, struct birth *birth, struct vps_launched *ret,
			 struct vps_err *err)
{
	struct vps_launched l = {
		.pidfd = -1, .gate = -1, .netns = -1, .console = -1, .pipes = {-1, -1, -1},
		.notify = -1, .rootfs = -1,
	};
	/* A child not yet waited for: the pid is still its own. */
	int r = proc_ident_of(birth->init, &l.init);
	if (r < 0)
		return vps_err_sys(err, r, "identify init");
	autoclose int pidfd = sys_pidfd_open(birth->init, 0);
	autoclose int netns = proc_pid_open(birth->init, "ns/net", O_RDONLY);
	autoclose int rootfs = proc_pid_open(birth->init, "root", O_PATH | O_DIRECTORY);
	if (pidfd < 0 || netns < 0 || rootfs < 0)
		return vps_err_sys(err, pidfd < 0 ? pidfd : netns < 0 ? netns : rootfs,
				   "open init's namespaces");
	l.pidfd = take_fd(pidfd);
	l.netns = take_fd(netns);
	l.rootfs = take_fd(rootfs);
	l.gate = take_fd(b->gate[1]);
	l.console = take_fd(birth->console);
	l.notify = take_fd(b->notify);
	l.pipes[0] = take_fd(b->pipes[0][1]);
	l.pipes[1] = take_fd(b->pipes[1][0]);
	l.pipes[2] = take_fd(b->pipes[2][0]);
	*ret = l;
	return 0;
}

/* init is made by a criu that ends, as A does: it becomes our child then. Its gate is its group's. */
int container_restore(const struct vps_run *run, struct vps_launched *ret, struct vps_err *err)
{
	auto_done(box_done) struct box b = BOX_INIT(run);
	struct birth birth = {.console = -1};
	int r = 0;
	b.stage_at = RESTORE_STAGE;
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return vps_err_sys(err, -errno, "become a subreaper");
	r = box_start(&b, &birth, err);
	if (r < 0)
		return r;
	close_pair(b.gate);
	b.gate[1] = cg_freeze_fd(run->cg);
	r = b.gate[1] < 0 ? vps_err_sys(err, b.gate[1], "open the gate's file") : 0;
	r = r ?: fill_launched(&b, &birth, ret, err);
	if (r < 0)
		bury(&birth);
	return r;
}

int container_launch(const struct vps_run *run, struct vps_launched *ret, struct vps_err *err)
{
	if (run->checkpoint >= 0)
		return container_restore(run, ret, err);
	auto_done(box_done) struct box b = BOX_INIT(run);
	auto_done(filter_done) struct filter_prog seccomp = {0};
	struct birth birth = {.console = -1};
	int r = filter_for(run->spec, run->conf ? run->conf->root : NULL, run->instance_dir,
			    &seccomp, err);
	if (r < 0)
		return vps_err_wrap(err, r, "seccomp");
	b.seccomp = &seccomp;
	r = box_start(&b, &birth, err);
	if (r < 0)
		return r;
	r = fill_launched(&b, &birth, ret, err);
	if (r < 0)
		bury(&birth);
	return r;
}

int container_inside_stopped(const struct vps_run *run, int (*fn)(void *arg, struct vps_err *err),
			     void *arg, struct vps_err *err)
{
	auto_done(box_done) struct box b = BOX_INIT(run);
	struct birth birth = {.console = -1};
	b.bare = true;
	b.fn = fn;
	b.arg = arg;
	int r = box_start(&b, &birth, err);
	if (r < 0)
		return r;
	reap(birth.init);
	return birth.result;
}
