/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All at once, in order, some at a time: one child process a VPS, so that one that hangs or fails is
 * no other's trouble and each takes its own lock. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/internal.h"
#include "runtime/lxcfs.h"

#define MAX_PARALLEL 256

typedef void tell_fn(void *arg, const char *name, int r, const struct vps_err *e);

struct job {
	pid_t pid;
	int pipe; /* one struct vps_err, or the end of file */
	const struct vps_info *vps;
};

struct batch {
	struct vps_host *h;
	bool stop;
	unsigned parallel;
	tell_fn *tell;
	void *arg;
	struct job jobs[MAX_PARALLEL];
	size_t n;
	int first; /* the first failure */
};

static void __attribute__((noreturn)) child(struct batch *b, const struct vps_info *v, int out)
{
	struct vps_err err = {0};
	struct vps_stop_opts so = {.timeout_ms = -1};
	char id[ID_STR];
	int r;

	/* Sockets opened by the parent are not shared: answers would be read by the wrong one. */
	b->h->net = NULL;
	b->h->cg = NULL;
	id_str(v->spec.id, id);
	r = b->stop ? vps_stop(b->h, id, &so, &err) : vps_start(b->h, id, NULL, &err);
	/* What it already is, is not a failure. */
	if (r == -VPS_ESTATE)
		r = 0, vps_err_clear(&err);
	if (r < 0 && !err.code)
		vps_err_sys(&err, r, "%s", v->spec.name);
	(void)!write(out, &err, sizeof(err));
	_exit(0);
}

static void begin(struct batch *b, const struct vps_info *v)
{
	struct vps_err err = {0};
	int p[2], r = 0;
	pid_t pid = -1;

	if (pipe2(p, O_CLOEXEC) < 0) {
		r = vps_err_sys(&err, -errno, "pipe");
	} else {
		pid = fork();
		if (pid == 0)
			child(b, v, p[1]);
		close(p[1]);
		if (pid < 0) {
			r = vps_err_sys(&err, -errno, "fork");
			close(p[0]);
		}
	}
	if (r == 0) {
		b->jobs[b->n++] = (struct job){pid, p[0], v};
		return;
	}
	b->first = b->first ? b->first : r;
	b->tell(b->arg, v->spec.name, r, &err);
}

static void finish(struct batch *b, size_t i)
{
	struct job j = b->jobs[i];
	struct vps_err err = {0};
	ssize_t n = fs_read_full(j.pipe, &err, sizeof(err));

	close(j.pipe);
	while (waitpid(j.pid, NULL, 0) < 0 && errno == EINTR)
		;
	b->jobs[i] = b->jobs[--b->n];
	if (n != (ssize_t)sizeof(err)) {
		err = (struct vps_err){0};
		vps_err_set(&err, EIO, "it was interrupted");
	}
	err.msg[sizeof(err.msg) - 1] = '\0';
	if (err.code && !b->first)
		b->first = -err.code;
	b->tell(b->arg, j.vps->spec.name, -err.code, &err);
}

static void wait_one(struct batch *b)
{
	struct pollfd p[MAX_PARALLEL];

	for (size_t i = 0; i < b->n; i++)
		p[i] = (struct pollfd){.fd = b->jobs[i].pipe, .events = POLLIN};
	if (poll(p, b->n, -1) <= 0)
		return;
	for (size_t i = b->n; i-- > 0;)
		if (p[i].revents)
			finish(b, i);
}

static int higher_first(const void *a, const void *b)
{
	const struct vps_info *x = *(const struct vps_info *const *)a, *y = *(const struct vps_info *const *)b;

	if (x->spec.boot_order != y->spec.boot_order)
		return x->spec.boot_order > y->spec.boot_order ? -1 : 1;
	return x->spec.id < y->spec.id ? -1 : 1;
}

static int lower_first(const void *a, const void *b)
{
	return -higher_first(a, b);
}

static bool concerns(const struct batch *b, const struct vps_info *v)
{
	if (b->stop)
		return !vps_status_is_down(v->status);
	return v->spec.autostart && v->status == VPS_STOPPED;
}

/* Those of one boot order have all been started before the next ones' turn comes. */
static void run_batch(struct batch *b, const struct vps_info **v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool next = i > 0 && v[i]->spec.boot_order != v[i - 1]->spec.boot_order;

		while (b->n > 0 && (next || b->n >= b->parallel))
			wait_one(b);
		begin(b, v[i]);
	}
	while (b->n > 0)
		wait_one(b);
}

static void tell_nobody(void *arg, const char *name, int r, const struct vps_err *e)
{
}

static int all(struct vps_host *h, bool stop, unsigned parallel, tell_fn *tell, void *arg,
	       struct vps_err *err)
{
	autofree struct batch *b = calloc(1, sizeof(*b));
	struct vps_info *list = NULL;
	size_t n = 0, m = 0;
	int r = vps_list(h, &list, &n, err);

	if (r < 0)
		return r;

	autofree const struct vps_info **v = calloc(n + 1, sizeof(*v));

	if (!b || !v) {
		vps_list_free(list, n);
		return vps_err_sys(err, -ENOMEM, "list");
	}
	b->h = h;
	b->stop = stop;
	b->parallel = parallel == 0 ? 1 : parallel > MAX_PARALLEL ? MAX_PARALLEL : parallel;
	b->tell = tell ? tell : tell_nobody;
	b->arg = arg;
	for (size_t i = 0; i < n; i++)
		if (concerns(b, &list[i]))
			v[m++] = &list[i];
	qsort(v, m, sizeof(*v), stop ? lower_first : higher_first);
	run_batch(b, v, m);
	vps_list_free(list, n);
	return b->first ? vps_err_set(err, -b->first, "not every VPS could be %s",
				      stop ? "stopped" : "started")
			: 0;
}

int vps_host_start_all(struct vps_host *h, unsigned parallel, tell_fn *tell, void *arg, struct vps_err *err)
{
	return all(h, false, parallel, tell, arg, err);
}

int vps_host_stop_all(struct vps_host *h, unsigned parallel, tell_fn *tell, void *arg, struct vps_err *err)
{
	int r = all(h, true, parallel, tell, arg, err);

	/* Nobody looks through it any more. */
	if (r == 0)
		lxcfs_stop(h->run_fd, h->conf.run, NULL);
	return r;
}

int vps_lxcfs_heal_by_monitor(struct vps_host *h, unsigned id, struct vps_err *err)
{
	struct run_state s;
	struct cg_host *cg;
	char who[ID_STR];
	int r = run_init(h, id, id_str(id, who), &s, err);

	r = r ?: host_cgroups(h, &cg, err);
	return r < 0 ? r : lxcfs_heal(h->run_fd, h->conf.run, h->conf.lxcfs, &s.init, cg, err);
}
