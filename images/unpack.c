/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parent of the two children: starts them, watches, tells progress, and judges. */
#include "images/unpack.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"
#include "base/sys.h"
#include "images/worker.h"

#define PIPE_BYTES (1 << 20)
#define POLL_MS	   100
/* Of the cap on memory: the tar's reader, and what the caller itself has. */
#define MEM_TAR	  (16ull << 20)
#define MEM_OTHER (8ull << 20)
#define MEM_LEAST (4ull << 20)

void unpack_result_done(struct unpack_result *r)
{
	r->refused = strv_free(r->refused);
}

static int make_pipe(int p[2])
{
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	/* Bigger is better; the host's limit for unprivileged users may say no. */
	(void)!fcntl(p[0], F_SETPIPE_SZ, PIPE_BYTES);
	return 0;
}

static pid_t start_decode(struct unpack_ctx *c)
{
	uint64_t mem = c->job->opts->caps.memory;
	const int fds[] = { c->job->fd, c->pipe_w, c->alive, c->job->keep };
	struct worker_limits l = {
		.fds = fds,
		.n_fds = ARRAY_LEN(fds),
		.writes = c->job->keep >= 0,
		.memory = mem > MEM_TAR + MEM_OTHER + MEM_LEAST ? mem - MEM_TAR - MEM_OTHER :
								  MEM_LEAST,
		.nobody = true,
		.write_below = -1,
	};
	return worker_fork(&l, unpack_decode, c);
}

static pid_t start_tar(struct unpack_ctx *c)
{
	int fds[4 + 127];
	size_t n = 0;
	if (c->job->n_lower > 127)
		return -E2BIG;
	fds[n++] = c->pipe_r;
	fds[n++] = c->refused;
	fds[n++] = c->alive;
	fds[n++] = c->job->root;
	for (size_t i = 0; i < c->job->n_lower; i++)
		fds[n++] = c->job->lower[i];
	struct worker_limits l = {
		.fds = fds,
		.n_fds = n,
		.memory = MEM_TAR,
		.write_below = c->job->root,
	};
	return worker_fork(&l, unpack_tar, c);
}

/* Until both children are gone (their ends of the pipe close), or the user says stop. */
static int watch(struct unpack_ctx *c, int alive)
{
	const struct unpack_job *j = c->job;
	struct pollfd p = { .fd = alive, .events = POLLIN };
	for (;;) {
		int n = poll(&p, 1, POLL_MS);
		uint64_t done = atomic_load(&c->sh->packed);
		if (j->size && done >= j->size)
			done = j->size - 1; /* the end is told once, at the end */
		if (progress_tell(j->opts->progress, j->key, "unpack", done, j->size))
			return -VPS_EINTERRUPTED;
		/* A reader that failed leaves the other working for nothing. */
		if (n > 0 || c->sh->tar.err.code)
			return 0;
	}
}

static int judge(struct unpack_ctx *c, int dec, int tar, struct vps_err *err)
{
	struct unpack_shared *sh = c->sh;
	if (sh->dec.err.code)
		return vps_err_set(err, sh->dec.err.code, "%.500s", sh->dec.err.msg);
	if (sh->tar.err.code)
		return vps_err_set(err, sh->tar.err.code, "%.500s", sh->tar.err.msg);
	if (!sh->dec.done || !sh->tar.done)
		return vps_err_set(err, VPS_EBADIMAGE,
				   "unpacking died (status %d, %d): broken archive, or out of memory",
				   dec, tar);
	if (c->job->need_end && !sh->dec.end_mark)
		return vps_err_set(err, VPS_EBADIMAGE, "tar without its end mark: cut off?");
	return 0;
}

static int collect(struct unpack_ctx *c, struct unpack_result *ret, struct vps_err *err)
{
	struct unpack_shared *sh = c->sh;
	auto_done(unpack_result_done) struct unpack_result r = {
		.tar_size = sh->raw,
		.packed = sh->packed,
		.entries = sh->tar.st.entries,
		.size = sh->tar.st.bytes,
		.newest = sh->tar.st.newest,
		.xattrs_dropped = sh->tar.st.xattrs_dropped,
		.n_refused = sh->tar.st.refused,
		.members = sh->tar.members,
	};
	memcpy(r.diff_id, sh->dec.digest, DIGEST_LEN);
	off_t n = lseek(c->refused, 0, SEEK_END);
	if (n > 0 && n < (4 << 20)) {
		autofree char *text = malloc((size_t)n + 1);
		if (!text || pread(c->refused, text, (size_t)n, 0) != n)
			return vps_err_sys(err, -ENOMEM, "unpack");
		text[n] = 0;
		for (char *p = text; p < text + n; p += strlen(p) + 1)
			if (strv_add(&r.refused, p) < 0)
				return vps_err_sys(err, -ENOMEM, "unpack");
	}
	*ret = r;
	r.refused = NULL;
	return 0;
}

static int run(struct unpack_ctx *c, struct unpack_result *ret, struct vps_err *err)
{
	int data[2] = { -1, -1 }, alive[2] = { -1, -1 };
	pid_t dec = -1, tar = -1;
	int r = make_pipe(data);
	if (r == 0 && pipe2(alive, O_CLOEXEC) < 0)
		r = -errno;
	c->pipe_r = data[0];
	c->pipe_w = data[1];
	c->alive = alive[1];
	if (r == 0)
		r = dec = start_decode(c);
	if (r > 0)
		r = tar = start_tar(c);
	close_fd(&data[0]);
	close_fd(&data[1]);
	close_fd(&alive[1]);
	if (r < 0)
		vps_err_sys(err, r, "start unpacking");
	else if ((r = watch(c, alive[0])) < 0)
		vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	/* The tar's reader that met an error is about to end by itself; its words may be on the way. */
	int st_tar = tar <= 0 ? 0 : r < 0 ? worker_kill(tar) : worker_wait(tar);
	bool stop = r < 0 || c->sh->tar.err.code;
	int st_dec = dec <= 0 ? 0 : stop ? worker_kill(dec) : worker_wait(dec);
	close_fd(&alive[0]);
	if (r < 0)
		return r;
	r = judge(c, st_dec, st_tar, err);
	return r < 0 ? r : collect(c, ret, err);
}

int unpack_run(const struct unpack_job *job, struct unpack_result *ret, struct vps_err *err)
{
	struct unpack_ctx c = { .job = job };
	c.sh = mmap(NULL, sizeof(*c.sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c.sh == MAP_FAILED)
		return vps_err_sys(err, -errno, "unpack");
	int r = 0;
	c.refused = sys_memfd("refused", MFD_CLOEXEC);
	c.hash = digest_new();
	if (c.refused < 0 || !c.hash)
		r = vps_err_sys(err, c.refused < 0 ? c.refused : -ENOMEM, "unpack");
	else
		r = run(&c, ret, err);
	char dummy[DIGEST_LEN];
	if (c.hash)
		digest_end(c.hash, dummy);
	close_fd(&c.refused);
	munmap(c.sh, sizeof(*c.sh));
	return r;
}
