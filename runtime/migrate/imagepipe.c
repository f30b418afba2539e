// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/imagepipe.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

struct report {
	struct vps_err err;
	char digest[DIGEST_LEN];
};

static int make_pipes(int data[2], int report[2], struct vps_err *err)
{
	int r;

	if (pipe2(data, O_CLOEXEC) < 0)
		return vps_err_sys(err, -errno, "pipe");
	if (pipe2(report, O_CLOEXEC) < 0) {
		r = -errno;
		close(data[0]);
		close(data[1]);
		return vps_err_sys(err, r, "pipe");
	}
	return 0;
}

static void __attribute__((noreturn)) tell(int fd, int r, struct report *rep)
{
	if (r < 0 && !rep->err.code)
		vps_err_sys(&rep->err, r, "image");
	(void)!write(fd, rep, sizeof(*rep));
	_exit(r < 0);
}

/* Its words, once it has ended. */
static int reap(pid_t pid, int report, struct report *ret, struct vps_err *err)
{
	ssize_t n = fs_read_full(report, ret, sizeof(*ret));

	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(*ret))
		return vps_err_set(err, ECHILD, "who packs the image was killed");
	ret->err.msg[sizeof(ret->err.msg) - 1] = '\0';
	ret->digest[sizeof(ret->digest) - 1] = '\0';
	return ret->err.code ? vps_err_set(err, ret->err.code, "%s", ret->err.msg) : 0;
}

/* ---- out ---------------------------------------------------------------------------------- */

static pid_t start_export(struct img_store *s, const char *digest, size_t without, int *ret_data, int *ret_report,
			  struct vps_err *err)
{
	int data[2], report[2], r = make_pipes(data, report, err);
	pid_t pid;

	if (r < 0)
		return r;
	pid = fork();
	if (pid == 0) {
		struct report rep = {0};
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(data[1], 1) < 0)
			_exit(1);
		close(data[0]);
		close(data[1]);
		r = img_export(s, digest, "-", IMG_OCI_TAR, &(struct img_opts){.without = without}, &rep.err);
		tell(report[1], r, &rep);
	}
	close(data[1]);
	close(report[1]);
	*ret_data = data[0];
	*ret_report = report[0];
	return pid < 0 ? vps_err_sys(err, -errno, "fork") : pid;
}

int image_send(struct img_store *s, const char *digest, size_t without, struct wire_out *w, const struct progress *p,
	       uint64_t total, uint64_t *ret, struct vps_err *err)
{
	autofree uint8_t *buf = malloc(STREAM_CHUNK);
	autoclose int data = -1;
	autoclose int report = -1;
	struct report rep = {0};
	uint64_t done = 0;
	ssize_t n = 0;
	pid_t pid;
	int r = 0;

	if (!buf)
		return vps_err_sys(err, -ENOMEM, "image");
	pid = start_export(s, digest, without, &data, &report, err);
	if (pid < 0)
		return pid;
	while (r == 0 && (n = fs_read_full(data, buf, STREAM_CHUNK)) > 0) {
		done += (uint64_t)n;
		*ret = done;
		r = wire_put(w, WIRE_IMAGE, buf, (size_t)n, err);
		if (r == 0 && progress_tell(p, 0, "image", done, total > done ? total : 0))
			r = vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	}
	close_fd(&data); /* a packer without a reader ends */
	if (r < 0) {
		reap(pid, report, &rep, NULL);
		return r;
	}
	r = reap(pid, report, &rep, err);
	return r < 0 ? r : wire_put(w, WIRE_IMAGE, NULL, 0, err);
}

/* ---- in ------------------------------------------------------------------------------------- */

static int start_import(struct image_in *in, struct img_store *s, const char *source_digest, struct vps_err *err)
{
	int data[2], report[2], r = make_pipes(data, report, err);
	pid_t pid;

	if (r < 0)
		return r;
	pid = fork();
	if (pid == 0) {
		auto_done(img_info_done) struct img_info info = {0};
		struct report rep = {0};
		char ref[64];
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(data[0], 0) < 0)
			_exit(1);
		close(data[0]);
		close(data[1]);
		snprintf(ref, sizeof(ref), "migrated:%.12s",
			 digest_valid(source_digest) ? source_digest + strlen("sha256:") : "unknown");
		r = img_import(s, "-", IMG_OCI_TAR, ref, NULL, &info, &rep.err);
		if (r >= 0)
			memcpy(rep.digest, info.digest, sizeof(rep.digest));
		tell(report[1], r, &rep);
	}
	close(data[0]);
	close(report[1]);
	in->data = data[1];
	in->report = report[0];
	if (pid < 0)
		return vps_err_sys(err, -errno, "fork");
	in->pid = pid;
	return 0;
}

int image_take(struct image_in *in, struct img_store *s, const char *source_digest, const void *data, size_t len,
	       char *digest, struct vps_err *err)
{
	struct report rep = {0};
	pid_t pid;
	int r = in->pid ? 0 : start_import(in, s, source_digest, err);

	if (r == 0 && len) {
		r = fs_write_all(in->data, data, len);
		if (r != -EPIPE)
			return r < 0 ? vps_err_sys(err, r, "image") : 0;
	}
	if (r < 0 && r != -EPIPE)
		return r;
	/* the end, or the importer has ended and says why */
	close_fd(&in->data);
	pid = in->pid;
	in->pid = 0;
	r = reap(pid, in->report, &rep, err);
	close_fd(&in->report);
	if (r < 0)
		return vps_err_wrap(err, r, "image");
	memcpy(digest, rep.digest, DIGEST_LEN);
	return 1;
}

void image_in_done(struct image_in *in)
{
	close_fd(&in->data);
	close_fd(&in->report);
	if (in->pid > 0) {
		kill(in->pid, SIGKILL); /* our child until we wait */
		while (waitpid(in->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	in->pid = 0;
}
