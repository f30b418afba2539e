/* SPDX-License-Identifier: GPL-2.0-or-later */
/* exec, pack and unpack: a child that does it, and the bytes between it and the host. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/container/container.h"
#include "runtime/guest/guest.h"
#include "runtime/tar.h"

/* What the child could not do, through a pipe that its execve closes. */
struct verdict {
	int r, status;
	struct vps_err err;
};

struct job {
	int conn;
	struct agent_in *in;
	struct agent_out out;
	pid_t pid;
	int pidfd;
	int verdict;	/* read end */
	int child[3];	/* the child's ends of its stdio */
	int input;	/* ours of stream 0: a pipe, or the pty; -1 closed */
	int output[2];	/* of streams 1 and 2 */
	bool tty;
	struct strbuf pending; /* for input */
	size_t passed;
	bool ended;	/* no more will come for input */
};

static void job_init(struct job *j, int conn, struct agent_in *in)
{
	*j = (struct job){.conn = conn, .in = in, .pid = -1, .pidfd = -1, .verdict = -1,
			  .child = {-1, -1, -1}, .input = -1, .output = {-1, -1}};
}

static void job_done(struct job *j)
{
	int *fds[] = {&j->pidfd, &j->verdict, &j->child[0], &j->child[1], &j->child[2], &j->input,
		      &j->output[0], &j->output[1]};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		/* the pty's master is input and output */
		if (fds[i] == &j->output[0] && j->tty)
			continue;
		close_fd(fds[i]);
	}
	agent_out_done(&j->out);
	sb_done(&j->pending);
}

static void refuse(int conn, int r, int status, const struct vps_err *err)
{
	auto_done(agent_out_done) struct agent_out o = {0};

	if (agent_out_add_error(&o, r, status, err) == 0)
		agent_out_flush(&o, conn, true);
}

/* ---- stdio --------------------------------------------------------------------- */

static int one_pipe(int *child, int *ours, bool in)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	*child = p[!in];
	*ours = p[in];
	return fcntl(*ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int make_pipes(struct job *j, bool in, bool out, bool errs)
{
	int r = in ? one_pipe(&j->child[0], &j->input, true) : 0;

	if (r == 0 && out)
		r = one_pipe(&j->child[1], &j->output[0], false);
	if (r == 0 && errs)
		r = one_pipe(&j->child[2], &j->output[1], false);
	for (int i = 0; i < 3 && r == 0; i++)
		if (j->child[i] < 0 && (j->child[i] = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
			r = -errno;
	return r;
}

static int make_pty(struct job *j, unsigned rows, unsigned cols)
{
	const struct winsize ws = {.ws_row = (unsigned short)(rows ? rows : 24),
				   .ws_col = (unsigned short)(cols ? cols : 80)};
	int unlock = 0;

	j->tty = true;
	j->input = j->output[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (j->input < 0 || ioctl(j->input, TIOCSPTLCK, &unlock) < 0 ||
	    ioctl(j->input, TIOCSWINSZ, &ws) < 0)
		return -errno;
	for (int i = 0; i < 3; i++) {
		j->child[i] = ioctl(j->input, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (j->child[i] < 0)
			return -errno;
	}
	return 0;
}

/* ---- the child ----------------------------------------------------------------- */

/* -1 in the parent; in the child the fd of its verdict. */
static int job_fork(struct job *j, int *ret_verdict)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	j->pid = fork();
	if (j->pid == 0) {
		payload_signals();
		setsid();
		for (int i = 0; i < 3; i++)
			if (dup2(j->child[i], i) < 0)
				_exit(126);
		/* pack and unpack go on without an execve: our ends would keep the pipes open */
		if (fds_keep_only(&p[1], 1) < 0)
			_exit(126);
		*ret_verdict = p[1];
		return 0;
	}
	close(p[1]);
	j->verdict = p[0];
	for (int i = 0; i < 3; i++)
		close_fd(&j->child[i]);
	j->pidfd = j->pid < 0 ? -1 : sys_pidfd_open(j->pid, 0);
	return j->pid < 0 ? -errno : j->pidfd < 0 ? j->pidfd : 0;
}

int payload_become(struct payload *p, struct vps_err *err)
{
	const struct vps_user *u = &p->user;

	if (setgroups(u->n_groups, u->groups) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
	    setresuid(u->uid, u->uid, u->uid) < 0)
		return vps_err_sys(err, -errno, "become uid %u", u->uid);

	int r = payload_exec(p);

	return vps_err_set(err, VPS_EEXEC, "%s: %s", p->path, vps_code_str(r));
}

static _Noreturn void give_verdict(int fd, struct verdict *v)
{
	if (v->r < 0)
		vps_err_sys(&v->err, v->r, "failed");
	if (write(fd, v, sizeof(*v)) != sizeof(*v))
		_exit(126);
	_exit(v->r < 0 ? 1 : 0);
}

/* 1: it left one; 0: not, as after a successful execve. */
static int take_verdict(struct job *j, struct verdict *v)
{
	return fs_read_full(j->verdict, v, sizeof(*v)) == sizeof(*v);
}

/* ---- between them -------------------------------------------------------------- */

/* Of a terminal it means that the other one is gone: it hangs up. */
static void end_input(struct job *j)
{
	close_fd(&j->input);
	if (j->tty)
		j->output[0] = -1;
}

static int pass_input(struct job *j)
{
	size_t left = j->pending.len - j->passed, passed = 0;
	ssize_t n = 0;

	while (left && j->input >= 0) {
		n = write(j->input, j->pending.s + j->passed, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		passed += (size_t)n;
		j->passed += (size_t)n;
		left -= (size_t)n;
	}
	/* nobody reads it any more: what comes is dropped, with credit */
	if (left && (j->input < 0 || errno != EAGAIN)) {
		end_input(j);
		passed += left;
		left = 0;
	}
	if (left == 0) {
		sb_reset(&j->pending);
		j->passed = 0;
		if (j->ended)
			end_input(j);
	}
	return passed ? agent_out_add_u32(&j->out, AGENT_CREDIT, (uint32_t)passed) : 0;
}

static int from_host(struct job *j)
{
	struct agent_frame f;
	int r = agent_in_read(j->in, j->conn, &f);

	if (r == -EAGAIN)
		return 0;
	if (r <= 0)
		return r < 0 ? r : -EPIPE;
	switch (f.type) {
	case AGENT_DATA:
		if (j->pending.len - j->passed + f.len > AGENT_WINDOW)
			return -EPROTO;
		sb_addn(&j->pending, f.data, f.len);
		return sb_ok(&j->pending) < 0 ? -ENOMEM : pass_input(j);
	case AGENT_END:
		j->ended = true;
		return pass_input(j);
	case AGENT_WINSIZE: {
		const struct winsize ws = {.ws_row = agent_u16(f.data), .ws_col = agent_u16(f.data + 2)};

		if (j->tty)
			ioctl(j->input, TIOCSWINSZ, &ws);
		return 0;
	}
	case AGENT_SIGNAL:
		kill(j->pid, (int)agent_u32(f.data));
		return 0;
	default:
		return -EPROTO;
	}
}

/* 1: there was something. */
static int from_child(struct job *j, int which)
{
	char buf[16384];
	ssize_t n;

	if (j->output[which] < 0)
		return 0;
	do
		n = read(j->output[which], buf, sizeof(buf));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n > 0)
		return agent_out_add(&j->out, AGENT_DATA, (unsigned)which + 1, buf, (size_t)n) < 0
			       ? -ENOMEM : 1;
	/* the end; of a pty EIO, when its last slave is closed */
	if (j->tty)
		end_input(j);
	else
		close_fd(&j->output[which]);
	return agent_out_add(&j->out, AGENT_END, (unsigned)which + 1, NULL, 0) < 0 ? -ENOMEM : 0;
}

static int poll_all(struct job *j, struct pollfd p[5])
{
	bool room = agent_out_left(&j->out) < AGENT_DATA_MAX;
	bool input = j->pending.len > j->passed;

	p[0] = (struct pollfd){j->conn, (short)(POLLIN | (agent_out_left(&j->out) ? POLLOUT : 0)), 0};
	p[1] = (struct pollfd){j->pidfd, POLLIN, 0};
	p[2] = (struct pollfd){input ? j->input : -1, POLLOUT, 0};
	p[3] = (struct pollfd){room ? j->output[0] : -1, POLLIN, 0};
	p[4] = (struct pollfd){room ? j->output[1] : -1, POLLIN, 0};
	return poll(p, 5, -1);
}

/* Until the child has ended (0) or the host is gone. */
static int pump(struct job *j)
{
	int r = 0;

	while (r >= 0) {
		struct pollfd p[5];

		if (poll_all(j, p) < 0) {
			r = errno == EINTR ? 0 : -errno;
			continue;
		}
		for (int i = 0; i < 2 && r >= 0; i++)
			if (p[3 + i].revents)
				r = from_child(j, i);
		if (r >= 0 && p[2].revents)
			r = pass_input(j);
		if (r >= 0 && p[0].revents & (POLLIN | POLLHUP | POLLERR))
			r = from_host(j);
		if (r >= 0)
			r = agent_out_flush(&j->out, j->conn, false);
		if (r >= 0 && p[1].revents)
			return 0;
	}
	return r;
}

/* What it wrote before it ended is there already; who it left behind is not waited for. */
static int drain(struct job *j)
{
	int r = 0;

	for (int i = 0; i < 2 && r >= 0; i++)
		while ((r = from_child(j, i)) > 0)
			if ((r = agent_out_flush(&j->out, j->conn, true)) < 0)
				break;
	return r;
}

static int wait_child(struct job *j)
{
	int status;

	while (waitpid(j->pid, &status, 0) < 0)
		if (errno != EINTR)
			return 255;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- exec ---------------------------------------------------------------------- */

struct exec_req {
	char **argv, **env, *user, *cwd;
	bool tty, detach;
	unsigned rows, cols;
};

static void exec_req_done(struct exec_req *x)
{
	strv_free(x->argv);
	strv_free(x->env);
	free(x->user);
	free(x->cwd);
}

static int exec_field(struct exec_req *x, struct rec *rec)
{
	uint64_t v = 0;
	int r;

	if (str_eq(rec->key, "arg"))
		return rec_strv(rec, &x->argv);
	if (str_eq(rec->key, "env"))
		return rec_strv(rec, &x->env);
	if (str_eq(rec->key, "user"))
		return rec_str(rec, &x->user);
	if (str_eq(rec->key, "cwd"))
		return rec_str(rec, &x->cwd);
	if (str_eq(rec->key, "detach"))
		x->detach = true;
	else if (str_eq(rec->key, "tty"))
		x->tty = true;
	else if (str_eq(rec->key, "rows") || str_eq(rec->key, "cols")) {
		r = rec_u64(rec, 65535, &v);
		if (r < 0)
			return r;
		*(rec->key[0] == 'r' ? &x->rows : &x->cols) = (unsigned)v;
	}
	return 0;
}

static int exec_parse(const char *req, size_t len, struct exec_req *x)
{
	struct rec rec;
	int r;

	while ((r = rec_next(&req, &len, &rec)) > 0) {
		r = exec_field(x, &rec);
		rec_done(&rec);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : x->argv ? 0 : -EPROTO;
}

static _Noreturn void exec_child(struct guest *g, struct exec_req *x, int verdict)
{
	struct verdict v = {.status = 126};
	struct payload p = {.argv = x->argv, .exe = -1, .tty = x->tty};

	fs_write(AT_FDCWD, "/proc/self/oom_score_adj", "0");
	if (x->tty && ioctl(0, TIOCSCTTY, 0) < 0)
		v.r = vps_err_sys(&v.err, -errno, "take the terminal");
	if (v.r == 0)
		v.r = payload_find(&p, x->user, x->cwd, g->cfg.env, x->env, &v.status, &v.err);
	if (v.r == 0 && x->tty && p.user.uid && fchown(0, p.user.uid, (gid_t)-1) < 0)
		v.r = vps_err_sys(&v.err, -errno, "hand over the pty");
	if (v.r == 0)
		v.r = payload_become(&p, &v.err);
	give_verdict(verdict, &v);
}

static void exec_end(struct job *j, int r)
{
	if (r == 0)
		r = drain(j);
	if (r >= 0)
		agent_out_add_u32(&j->out, AGENT_EXIT, (uint32_t)wait_child(j));
	if (r >= 0 && agent_out_flush(&j->out, j->conn, true) == 0)
		return;
	/* The host is gone: as if it had been the command's parent and killed it. A terminal hangs up. By the
	 * pidfd, as it may have ended. */
	if (!j->tty)
		sys_pidfd_send_signal(j->pidfd, SIGKILL);
}

void job_exec(struct guest *g, int conn, struct agent_in *in, const char *req, size_t len)
{
	auto_done(exec_req_done) struct exec_req x = {0};
	auto_done(job_done) struct job j;
	struct verdict v = {0};
	int verdict = -1, r = exec_parse(req, len, &x);

	job_init(&j, conn, in);
	if (r == 0)
		r = x.tty ? make_pty(&j, x.rows, x.cols)
			  : make_pipes(&j, !x.detach, !x.detach, !x.detach);
	if (r == 0)
		r = job_fork(&j, &verdict);
	if (r == 0 && j.pid == 0)
		exec_child(g, &x, verdict);
	if (r < 0) {
		refuse(conn, r, 126, NULL);
		return;
	}
	if (take_verdict(&j, &v)) {
		wait_child(&j);
		refuse(conn, v.r, v.status, &v.err);
		return;
	}
	r = agent_out_add_u32(&j.out, AGENT_STARTED, (uint32_t)j.pid);
	r = r < 0 ? r : agent_out_flush(&j.out, conn, true);
	if (x.detach)
		return;
	exec_end(&j, r < 0 ? r : pump(&j));
}

/* ---- cp ------------------------------------------------------------------------ */

static int copy_parse(const char *req, size_t len, char **path, long ids[2])
{
	struct rec rec;
	uint64_t v;
	int r;

	while ((r = rec_next(&req, &len, &rec)) > 0) {
		if (str_eq(rec.key, "path")) {
			r = rec_str(&rec, path);
		} else if (str_eq(rec.key, "uid") || str_eq(rec.key, "gid")) {
			r = rec_u64(&rec, INT32_MAX, &v);
			if (r == 0)
				ids[rec.key[0] == 'g'] = (long)v;
		}
		rec_done(&rec);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : *path && **path == '/' ? 0 : -EPROTO;
}

/* Of GUEST_SESSION, which has not switched to it. */
static int enter_root(const struct guest *g, struct vps_err *err)
{
	if (g->cfg.role == GUEST_SESSION && (chdir(MERGED) < 0 || chroot(".") < 0))
		return vps_err_sys(err, -errno, "enter the root");
	return 0;
}

/* The child's stdio is the stream; its verdict is the answer. */
static void copy(const struct guest *g, int conn, struct agent_in *in, const char *req, size_t len, bool pack)
{
	autofree char *path = NULL;
	long ids[2] = {-1, -1};
	auto_done(job_done) struct job j;
	struct verdict v = {0};
	int verdict = -1, r = copy_parse(req, len, &path, ids);

	job_init(&j, conn, in);
	if (r == 0)
		r = make_pipes(&j, !pack, pack, false);
	if (r == 0)
		r = job_fork(&j, &verdict);
	if (r == 0 && j.pid == 0) {
		v.r = enter_root(g, &v.err);
		if (v.r == 0)
			v.r = pack ? tar_pack_path(path, 1, &v.err)
				   : tar_unpack_path(path, ids[0], ids[1], 0, &v.err);
		give_verdict(verdict, &v);
	}
	if (r == 0)
		r = pump(&j);
	if (r == 0)
		r = drain(&j);
	if (r < 0 && j.pid > 0)
		kill(j.pid, SIGKILL);
	if (r >= 0 && !take_verdict(&j, &v))
		v.r = -EIO;
	if (r < 0 || v.r < 0) {
		if (agent_out_flush(&j.out, conn, true) == 0)
			refuse(conn, r < 0 ? r : v.r, 0, &v.err);
		return;
	}
	if (agent_out_add(&j.out, AGENT_DONE, 0, NULL, 0) == 0)
		agent_out_flush(&j.out, conn, true);
}

void job_pack(struct guest *g, int conn, struct agent_in *in, const char *req, size_t len)
{
	copy(g, conn, in, req, len, true);
}

void job_unpack(struct guest *g, int conn, struct agent_in *in, const char *req, size_t len)
{
	copy(g, conn, in, req, len, false);
}
