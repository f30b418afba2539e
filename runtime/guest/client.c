/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's half of runtime/guest/agent.h. What comes back is a tenant's word. */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/guest/agent.h"
#include "runtime/vps.h"

#define EXIT_MAX 255u

static int odd(struct vps_err *err, int r)
{
	if (r == -ETIMEDOUT)
		return vps_err_set(err, VPS_ETIMEDOUT, "the guest's agent does not answer");
	if (r == 0 || r == -ECONNRESET || r == -EPIPE)
		return vps_err_set(err, EPIPE, "the guest's agent went away");
	if (r == -EINTR)
		return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	return vps_err_sys(err, r, "the guest's agent");
}

/* An ERROR frame in our words: its code must be one, its text is shown escaped. */
static int refused(const struct agent_frame *f, int *ret_status, struct vps_err *err)
{
	uint32_t code = agent_u32(f->data), status = agent_u32(f->data + 4);
	auto_strbuf text = STRBUF_INIT;

	if (code == 0 || code > VPS_EINTERRUPTED)
		code = EPROTO;
	if (ret_status)
		*ret_status = status && status <= EXIT_MAX ? (int)status : 126;
	sb_add_escaped(&text, (const char *)f->data + 8, f->len - 8);
	return vps_err_set(err, (int)code, "%s", sb_str(&text));
}

int agent_hello(int fd, int timeout_ms, struct vps_err *err)
{
	const uint32_t ours[2] = {htole32(AGENT_MAGIC), htole32(AGENT_VERSION)};
	auto_done(agent_in_done) struct agent_in in = AGENT_IN_INIT(true);
	struct agent_frame f;
	int r = agent_send(fd, AGENT_HELLO, 0, ours, sizeof(ours));

	r = r < 0 ? r : agent_in_wait(&in, fd, timeout_ms, &f);
	if (r <= 0)
		return odd(err, r);
	if (f.type != AGENT_HELLO || agent_u32(f.data) != AGENT_MAGIC)
		return odd(err, -EPROTO);
	if (agent_u16(f.data + 4) != AGENT_VERSION)
		return vps_err_set(err, VPS_EUNSUPPORTED, "the guest's agent is of version %u, this is %u: "
				   "restart the VPS", agent_u16(f.data + 4), AGENT_VERSION);
	return 0;
}

int agent_call(int fd, enum agent_type type, const void *data, size_t len, int timeout_ms,
	       struct strbuf *ret, struct vps_err *err)
{
	auto_done(agent_in_done) struct agent_in in = AGENT_IN_INIT(true);
	struct agent_frame f;
	int r = agent_send_request(fd, type, data, len);

	r = r < 0 ? r : agent_in_wait(&in, fd, timeout_ms, &f);
	if (r <= 0)
		return odd(err, r);
	if (f.type == AGENT_ERROR)
		return refused(&f, NULL, err);
	if (f.type != AGENT_DONE)
		return odd(err, -EPROTO);
	if (ret && f.len)
		sb_addn(ret, f.data, f.len);
	return ret && sb_ok(ret) < 0 ? vps_err_sys(err, -ENOMEM, "the guest's agent") : 0;
}

/* ---- exec ---------------------------------------------------------------------- */

int agent_exec(int fd, const struct agent_exec *x, int timeout_ms, int *ret_status,
	       struct vps_err *err)
{
	auto_done(agent_in_done) struct agent_in in = AGENT_IN_INIT(true);
	auto_strbuf req = STRBUF_INIT;
	struct agent_frame f;
	int r;

	rec_add_strv(&req, "arg", x->argv);
	rec_add_strv(&req, "env", x->env);
	rec_add(&req, "user", x->user);
	rec_add(&req, "cwd", x->cwd);
	if (x->tty) {
		rec_add(&req, "tty", "");
		rec_add_u64(&req, "rows", x->rows);
		rec_add_u64(&req, "cols", x->cols);
	}
	if (x->detach)
		rec_add(&req, "detach", "");
	r = sb_ok(&req);
	if (r >= 0)
		r = agent_send_request(fd, AGENT_EXEC, req.s, req.len);
	if (r == -E2BIG)
		return vps_err_set(err, E2BIG, "arguments and environment are longer than %u bytes",
				   AGENT_REQUEST_MAX);
	r = r < 0 ? r : agent_in_wait(&in, fd, timeout_ms, &f);
	if (r <= 0)
		return odd(err, r);
	if (f.type == AGENT_ERROR)
		return refused(&f, ret_status, err);
	return f.type == AGENT_STARTED ? 0 : odd(err, -EPROTO);
}

/* Bytes between the wire and fds: for exec, pack and unpack. */
struct bridge {
	int fd, in, out[2];
	bool tty, in_ended;
	int signals;
	uint32_t credit;
	struct agent_in frames;
	struct agent_out to_guest;
	struct strbuf pending[2]; /* for out */
	size_t passed[2];
	struct agent_frame last; /* EXIT, DONE or ERROR */
	bool ended;
	int idle_ms; /* the longest silence, or -1 */
};

static void bridge_init(struct bridge *b, int fd, int in, int out, int errs)
{
	*b = (struct bridge){.fd = fd, .in = in, .out = {out, errs}, .signals = -1,
			     .credit = AGENT_WINDOW, .frames = AGENT_IN_INIT(true), .idle_ms = -1};
	b->in_ended = in < 0;
}

static void bridge_done(struct bridge *b)
{
	agent_in_done(&b->frames);
	agent_out_done(&b->to_guest);
	sb_done(&b->pending[0]);
	sb_done(&b->pending[1]);
	close_fd(&b->signals);
}

/* The fds are the caller's and may block: after POLLOUT this much goes into any pipe or terminal. */
#define ATOM 4096

static int pass_out(struct bridge *b, int i)
{
	struct strbuf *sb = &b->pending[i];
	size_t left = sb->len - b->passed[i];
	ssize_t n = write(b->out[i], sb->s + b->passed[i], left < ATOM ? left : ATOM);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0)
		return -errno;
	b->passed[i] += (size_t)n;
	if (b->passed[i] == sb->len) {
		sb_reset(sb);
		b->passed[i] = 0;
	}
	return 0;
}

static int pass_in(struct bridge *b)
{
	char buf[16384];
	ssize_t n = read(b->in, buf, b->credit < sizeof(buf) ? b->credit : sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) { /* EIO: a terminal that is gone */
		b->in_ended = true;
		return agent_out_add(&b->to_guest, AGENT_END, 0, NULL, 0);
	}
	b->credit -= (uint32_t)n;
	return agent_out_add(&b->to_guest, AGENT_DATA, 0, buf, (size_t)n);
}

static int from_guest(struct bridge *b)
{
	struct agent_frame f;
	int r = agent_in_read(&b->frames, b->fd, &f);

	if (r == -EAGAIN)
		return 0;
	if (r <= 0)
		return r < 0 ? r : -EPIPE;
	switch (f.type) {
	case AGENT_DATA:
		if (b->out[f.stream - 1] < 0)
			return 0;
		sb_addn(&b->pending[f.stream - 1], f.data, f.len);
		return sb_ok(&b->pending[f.stream - 1]);
	case AGENT_END:
		return 0;
	case AGENT_CREDIT:
		if (agent_u32(f.data) > AGENT_WINDOW - b->credit)
			return -EPROTO;
		b->credit += agent_u32(f.data);
		return 0;
	case AGENT_EXIT:
	case AGENT_DONE:
	case AGENT_ERROR:
		b->last = f;
		b->ended = true;
		return 0;
	default:
		return -EPROTO;
	}
}

static int pass_size(struct bridge *b)
{
	struct winsize ws;
	uint16_t p[2];

	if (!b->tty || ioctl(b->in, TIOCGWINSZ, &ws) < 0)
		return 0;
	p[0] = htole16(ws.ws_row);
	p[1] = htole16(ws.ws_col);
	return agent_out_add(&b->to_guest, AGENT_WINSIZE, 0, p, sizeof(p));
}

static int pass_signal(struct bridge *b)
{
	struct signalfd_siginfo si;

	if (read(b->signals, &si, sizeof(si)) != sizeof(si))
		return 0;
	if (si.ssi_signo == SIGWINCH)
		return pass_size(b);
	return agent_out_add_u32(&b->to_guest, AGENT_SIGNAL, si.ssi_signo);
}

static size_t pending(const struct bridge *b, int i)
{
	return b->pending[i].len - b->passed[i];
}

static int bridge_step(struct bridge *b)
{
	bool full = pending(b, 0) >= AGENT_DATA_MAX || pending(b, 1) >= AGENT_DATA_MAX;
	bool take = !b->in_ended && b->credit && agent_out_left(&b->to_guest) < AGENT_DATA_MAX;
	struct pollfd p[] = {
		{b->ended ? -1 : b->fd, 0, 0},
		{b->ended || !take ? -1 : b->in, POLLIN, 0},
		{pending(b, 0) ? b->out[0] : -1, POLLOUT, 0},
		{pending(b, 1) ? b->out[1] : -1, POLLOUT, 0},
		{b->signals, POLLIN, 0},
	};
	int n, r = 0;

	p[0].events = (short)((full ? 0 : POLLIN) | (agent_out_left(&b->to_guest) ? POLLOUT : 0));
	if (!p[0].events)
		p[0].fd = -1;
	/* Our own side may take its time: somebody thinks, or a disk is slow. */
	n = poll(p, ARRAY_LEN(p), pending(b, 0) || pending(b, 1) || p[1].fd >= 0 ? -1 : b->idle_ms);
	if (n < 0)
		return errno == EINTR && b->signals >= 0 ? 0 : -errno;
	if (n == 0)
		return -ETIMEDOUT;
	if (p[4].revents)
		r = pass_signal(b);
	for (int i = 0; i < 2 && r >= 0; i++)
		if (p[2 + i].revents)
			r = pass_out(b, i);
	if (r >= 0 && p[1].revents)
		r = pass_in(b);
	if (r >= 0 && !full && p[0].revents & (POLLIN | POLLHUP | POLLERR))
		r = from_guest(b);
	if (r >= 0 && !b->ended)
		r = agent_out_flush(&b->to_guest, b->fd, false);
	if (r == -EPIPE || r == -ECONNRESET) {
		/* it has hung up, but its last words may still lie there; without them, from_guest says so */
		if (b->in_ended && !agent_out_left(&b->to_guest))
			return r;
		agent_out_done(&b->to_guest);
		b->in_ended = true;
		r = 0;
	}
	return r;
}

/* Until the guest said its last and all of it is passed on. */
static int bridge_run(struct bridge *b, struct vps_err *err)
{
	while (!b->ended || pending(b, 0) || pending(b, 1)) {
		int r = bridge_step(b);

		if (r < 0)
			return odd(err, r);
	}
	return 0;
}

int agent_bridge(int fd, const int io[3], bool tty, struct vps_err *err)
{
	auto_done(bridge_done) struct bridge b;
	sigset_t pass;
	int r;

	bridge_init(&b, fd, io[0], io[1], tty ? -1 : io[2]);
	b.tty = tty;
	sigfillset(&pass);
	sigdelset(&pass, SIGCHLD);
	sigdelset(&pass, SIGPIPE); /* our reader is gone: the command's would be, too */
	sigprocmask(SIG_BLOCK, &pass, NULL);
	b.signals = signalfd(-1, &pass, SFD_CLOEXEC | SFD_NONBLOCK);
	if (b.signals < 0)
		return vps_err_sys(err, -errno, "signalfd");
	r = pass_size(&b); /* it may have changed since the request */
	r = r < 0 ? odd(err, r) : bridge_run(&b, err);
	if (r < 0)
		return r;
	if (b.last.type == AGENT_ERROR)
		return refused(&b.last, NULL, err);
	if (b.last.type != AGENT_EXIT || agent_u32(b.last.data) > EXIT_MAX)
		return odd(err, -EPROTO);
	return (int)agent_u32(b.last.data);
}

/* ---- cp ------------------------------------------------------------------------ */

static int copy(struct bridge *b, enum agent_type type, const char *path, long uid, long gid,
		struct vps_err *err)
{
	auto_strbuf req = STRBUF_INIT;
	int r;

	rec_add(&req, "path", path);
	if (uid >= 0)
		rec_add_u64(&req, "uid", (uint64_t)uid);
	if (gid >= 0)
		rec_add_u64(&req, "gid", (uint64_t)gid);
	r = sb_ok(&req);
	r = r < 0 ? r : agent_send_request(b->fd, type, req.s, req.len);
	if (r < 0)
		return odd(err, r);
	r = bridge_run(b, err);
	if (r < 0)
		return r;
	if (b->last.type == AGENT_ERROR)
		return refused(&b->last, NULL, err);
	return b->last.type == AGENT_DONE ? 0 : odd(err, -EPROTO);
}

int agent_pack(int fd, const char *path, int tar_fd, int idle_ms, struct vps_err *err)
{
	auto_done(bridge_done) struct bridge b;

	bridge_init(&b, fd, -1, tar_fd, -1);
	b.idle_ms = idle_ms;
	return copy(&b, AGENT_PACK, path, -1, -1, err);
}

int agent_unpack(int fd, const char *path, long uid, long gid, int tar_fd, int idle_ms,
		 struct vps_err *err)
{
	auto_done(bridge_done) struct bridge b;

	bridge_init(&b, fd, tar_fd, -1, -1);
	b.idle_ms = idle_ms;
	return copy(&b, AGENT_UNPACK, path, uid, gid, err);
}

/* ---- stat ---------------------------------------------------------------------- */

int agent_stat_parse(const char *text, size_t len, struct agent_stat *ret)
{
	struct agent_stat s = {0};
	const struct { const char *key; uint64_t *v; } keys[] = {
		{"mem_total", &s.mem_total}, {"mem_free", &s.mem_free},
		{"mem_available", &s.mem_available}, {"mem_cached", &s.mem_cached},
		{"swap_total", &s.swap_total}, {"swap_free", &s.swap_free},
		{"load1", &s.load1}, {"load5", &s.load5}, {"load15", &s.load15},
		{"uptime", &s.uptime}, {"processes", &s.processes}, {"threads", &s.threads},
		{"disk_size", &s.disk_size}, {"disk_used", &s.disk_used},
		{"inodes", &s.inodes}, {"inodes_used", &s.inodes_used},
		{"cpu_user", &s.cpu_user}, {"cpu_system", &s.cpu_system},
		{"cpu_idle", &s.cpu_idle}, {"cpu_steal", &s.cpu_steal},
	};
	struct rec rec;
	int r;

	while ((r = rec_next(&text, &len, &rec)) > 0) {
		for (size_t i = 0; i < ARRAY_LEN(keys) && r > 0; i++)
			if (str_eq(rec.key, keys[i].key))
				r = rec_u64(&rec, UINT64_MAX, keys[i].v) < 0 ? -EPROTO : 1;
		rec_done(&rec);
		if (r < 0)
			return r;
	}
	if (r == 0)
		*ret = s;
	return r;
}

int agent_stat(int fd, int timeout_ms, struct agent_stat *ret, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	int r = agent_call(fd, AGENT_STAT, NULL, 0, timeout_ms, &sb, err);

	if (r < 0)
		return r;
	r = agent_stat_parse(sb_str(&sb), sb.len, ret);
	return r < 0 ? odd(err, r) : 0;
}

/* ---- processes ----------------------------------------------------------------- */

#define PROCS_BYTES (16u << 20)
#define PROCS_MAX   65536

struct proc_list {
	struct vps_proc *v;
	size_t n, cap;
};

static int proc_field(struct vps_proc *p, struct rec *rec)
{
	uint64_t v = 0;
	int r;

	if (str_eq(rec->key, "uid")) {
		r = rec_u64(rec, UINT32_MAX, &v);
		p->uid = (uid_t)v;
		return r;
	}
	if (str_eq(rec->key, "rss"))
		return rec_u64(rec, UINT64_MAX, &p->rss);
	if (str_eq(rec->key, "cpu"))
		return rec_u64(rec, UINT64_MAX, &p->cpu_us);
	if (str_eq(rec->key, "state")) {
		if (rec->len != 1 || rec->value[0] < 'A' || rec->value[0] > 'z')
			return -EPROTO;
		p->state = rec->value[0];
		return 0;
	}
	return str_eq(rec->key, "cmd") ? rec_str(rec, &p->cmdline) : 0;
}

static int proc_record(struct proc_list *l, struct rec *rec)
{
	uint64_t pid = 0;
	int r;

	if (!str_eq(rec->key, "pid"))
		return l->n ? proc_field(&l->v[l->n - 1], rec) : -EPROTO;
	if (l->n == PROCS_MAX)
		return -E2BIG;
	r = rec_u64(rec, INT32_MAX, &pid);
	r = r < 0 ? r : mem_grow(l->v, l->n, l->cap);
	if (r < 0)
		return r;
	l->v[l->n] = (struct vps_proc){.pid = (pid_t)pid, .state = '?', .cmdline = strdup("")};
	return l->v[l->n++].cmdline ? 0 : -ENOMEM;
}

int agent_procs_parse(const char *text, size_t len, struct vps_proc **ret, size_t *ret_n)
{
	struct proc_list l = {0};
	struct rec rec;
	int r;

	while ((r = rec_next(&text, &len, &rec)) > 0) {
		r = proc_record(&l, &rec);
		rec_done(&rec);
		if (r < 0)
			break;
	}
	if (r < 0) {
		for (size_t i = 0; i < l.n; i++)
			free(l.v[i].cmdline);
		free(l.v);
		return r;
	}
	*ret = l.v;
	*ret_n = l.n;
	return 0;
}

int agent_procs(int fd, int timeout_ms, struct vps_proc **ret, size_t *ret_n, struct vps_err *err)
{
	auto_done(agent_in_done) struct agent_in in = AGENT_IN_INIT(true);
	auto_strbuf sb = STRBUF_INIT;
	struct agent_frame f;
	int r = agent_send_request(fd, AGENT_PROCS, NULL, 0);

	for (;;) {
		r = r < 0 ? r : agent_in_wait(&in, fd, timeout_ms, &f);
		if (r <= 0)
			return odd(err, r);
		if (f.type != AGENT_DATA || f.stream != 1)
			break;
		sb_addn(&sb, f.data, f.len);
		if (sb.len > PROCS_BYTES || sb_ok(&sb) < 0)
			return odd(err, -E2BIG);
	}
	if (f.type == AGENT_ERROR)
		return refused(&f, NULL, err);
	r = f.type != AGENT_DONE ? -EPROTO : agent_procs_parse(sb_str(&sb), sb.len, ret, ret_n);
	return r < 0 ? odd(err, r) : 0;
}
