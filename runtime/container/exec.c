/* SPDX-License-Identifier: GPL-2.0-or-later */
/* exec: K, the joined process, becomes the command. */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/inroot.h"
#include "base/sys.h"

/* A new pty of the VPS's devpts. /dev is the tenant's: what is opened must be a ptmx. */
static int open_pty(const struct vps_exec *x, int *ret_master, struct vps_err *err)
{
	struct winsize ws = {.ws_row = x->rows ? x->rows : 24, .ws_col = x->cols ? x->cols : 80};
	int unlock = 0;
	autoclose int look = sys_openat2(AT_FDCWD, "/dev/pts/ptmx", O_PATH | O_NOFOLLOW, 0,
					 RESOLVE_NO_SYMLINKS);
	int r = look < 0 ? look : inroot_fd_is_fs(look, DEVPTS_SUPER_MAGIC);
	if (r >= 0)
		r = inroot_fd_is_char(look, 5, 2);
	if (r < 0)
		return vps_err_sys(err, r, "/dev/pts/ptmx of the VPS");
	/* By path again, as its /proc is the tenant's as well: so look again, too. */
	autoclose int master = sys_openat2(AT_FDCWD, "/dev/pts/ptmx",
					   O_RDWR | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW, 0,
					   RESOLVE_NO_SYMLINKS);
	r = master < 0 ? master : inroot_fd_is_fs(master, DEVPTS_SUPER_MAGIC);
	if (r >= 0)
		r = inroot_fd_is_char(master, 5, 2);
	if (r >= 0 && (ioctl(master, TIOCSPTLCK, &unlock) < 0 ||
		       ioctl(master, TIOCSWINSZ, &ws) < 0 || fcntl(master, F_SETFL, O_RDWR) < 0))
		r = -errno;
	int slave = r < 0 ? r : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (r >= 0 && slave < 0)
		r = -errno;
	if (r < 0)
		return vps_err_sys(err, r, "make a pty in the VPS");
	*ret_master = take_fd(master);
	return slave;
}

static int open_null(struct vps_err *err)
{
	autoclose int fd = sys_openat2(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY | O_NONBLOCK, 0,
				       RESOLVE_NO_SYMLINKS);
	int r = fd < 0 ? fd : inroot_fd_is_char(fd, 1, 3);
	return r < 0 ? vps_err_sys(err, r, "/dev/null of the VPS") : take_fd(fd);
}

/* Out of the way of 0..2, so that no dup2 below overwrites a source. */
static int lift(int fd, int *ret)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	*ret = up;
	return up < 0 ? -errno : 0;
}

static int set_stdio(const struct vps_exec *x, int slave, struct vps_err *err)
{
	int from[3] = {slave, slave, slave};
	int r = 0;
	for (int i = 0; slave < 0 && r >= 0 && i < 3; i++) {
		if (x->detach || x->stdio[i] < 0)
			r = from[i] = open_null(err);
		else
			r = lift(x->stdio[i], &from[i]);
	}
	if (r < 0)
		return vps_err_sys(err, r, "set up standard input and output");
	for (int i = 0; i < 3; i++)
		if (dup2(from[i], i) < 0)
			return vps_err_sys(err, -errno, "set up fd %d", i);
	return 0;
}

static int prepare(const struct vps_spec *s, const struct vps_exec *x,
		   const struct filter_prog *seccomp, int up, struct payload *p, int *ret_status,
		   struct vps_err *err)
{
	int master = -1, slave = -1, r = 0;
	setsid();
	if (x->tty) {
		struct box_msg m = {.type = BOX_CONSOLE};
		slave = open_pty(x, &master, err);
		if (slave < 0)
			return slave;
		r = box_send(up, &m, &master, 1);
		if (r < 0)
			return vps_err_sys(err, r, "hand over the pty");
	}
	r = set_stdio(x, slave, err);
	/* No fd of the host but this one from here on: cwd or program could lead through /proc/self/fd. */
	if (r >= 0)
		r = fds_keep_only(&up, 1);
	if (r < 0)
		return vps_err_sys(err, r, "close fds");
	*p = (struct payload){.spec = s, .argv = x->argv, .seccomp = seccomp, .exe = -1,
			      .tty = x->tty};
	r = payload_find(p, x->user, x->cwd, s->env, x->env, ret_status, err);
	if (r >= 0 && x->tty && p->user.uid && fchown(0, p->user.uid, (gid_t)-1) < 0)
		r = vps_err_sys(err, -errno, "hand over the pty");
	if (r >= 0)
		r = payload_drop(p, err);
	return r;
}

static _Noreturn void become(const struct vps_spec *s, const struct vps_exec *x,
			     const struct filter_prog *seccomp, int up)
{
	struct box_msg m = {.type = BOX_FAILED, .result = 126};
	struct payload p = {0};
	payload_signals();
	int r = prepare(s, x, seccomp, up, &p, &m.result, &m.err);
	if (r >= 0) {
		r = payload_exec(&p); /* success closes up */
		m.result = r == -ENOENT ? 127 : 126;
		vps_err_set(&m.err, VPS_EEXEC, "%s: %s", p.path, vps_code_str(r));
	}
	if (!m.err.code)
		vps_err_sys(&m.err, r, "exec");
	box_send(up, &m, NULL, 0);
	_exit(m.result);
}

/* End of file: it runs. */
static int listen_to(int up, int *pty, struct vps_err *err)
{
	for (;;) {
		struct box_msg m;
		int fd = -1;
		size_t n = 1;
		ssize_t len = sys_recv_fds(up, &m, sizeof(m), &fd, &n);
		autoclose int got = len > 0 && n == 1 ? fd : -1;
		if (len == 0)
			return 0;
		if (len != sizeof(m))
			return vps_err_set(err, EPROTO, "the joining process talks nonsense");
		if (m.type == BOX_CONSOLE && got >= 0 && *pty < 0) {
			*pty = take_fd(got);
		} else if (m.type == BOX_FAILED) {
			m.err.msg[sizeof(m.err.msg) - 1] = 0;
			return vps_err_set(err, m.err.code, "%s", m.err.msg);
		}
	}
}

static int refuse_terminals(const struct vps_exec *x, struct vps_err *err)
{
	for (int i = 0; i < 3 && !x->tty && !x->detach; i++)
		if (x->stdio[i] >= 0 && isatty(x->stdio[i]))
			return vps_err_set(err, EINVAL,
					   "the caller's terminal may not go into a VPS (TIOCSTI)");
	return 0;
}

int container_exec(const struct vps_live *l, const struct vps_exec *x, struct vps_exec_handle *ret,
		   struct vps_err *err)
{
	auto_done(filter_done) struct filter_prog seccomp = {0};
	int up[2] = {-1, -1}, status[2] = {-1, -1}, pty = -1;
	struct joined j;
	int r = refuse_terminals(x, err);
	if (r >= 0)
		r = filter_for(l->spec, l->conf ? l->conf->root : NULL, l->instance_dir, &seccomp,
			       err);
	if (r >= 0 && pipe2(status, O_CLOEXEC) < 0)
		r = vps_err_sys(err, -errno, "make pipes");
	if (r >= 0)
		r = join_fork(l->cg, l->init, up, status[1], &j, err);
	if (r >= 0 && j.inside)
		become(l->spec, x, &seccomp, up[1]);
	if (r >= 0) {
		r = listen_to(up[0], &pty, err);
		if (r < 0) {
			sys_pidfd_send_signal(j.pidfd, SIGKILL);
			join_reap(j.keeper);
			close_fd(&j.pidfd);
		}
	}
	close_fd(&up[0]);
	close_fd(&up[1]);
	close_fd(&status[1]);
	if (r < 0) {
		close_fd(&pty);
		close_fd(&status[0]);
		return r;
	}
	*ret = (struct vps_exec_handle){
		.pid = j.keeper, .pidfd = j.pidfd, .pty = pty, .status_fd = status[0]};
	return 0;
}
