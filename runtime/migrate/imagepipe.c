// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/imagepipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

struct job {
	struct img_store *store;
	const char *digest; /* here; of an import, at the source */
	size_t without;
};

/* ---- out ---------------------------------------------------------------------------------- */

static int pack(void *arg, int fd, struct feeder_report *rep)
{
	const struct job *j = arg;

	if (dup2(fd, STDOUT_FILENO) < 0)
		return -errno;
	return img_export(j->store, j->digest, "-", IMG_OCI_TAR, &(struct img_opts){.without = j->without}, &rep->err);
}

int image_send(struct img_store *s, const char *digest, size_t without, struct wire_out *w, const struct progress *p,
	       uint64_t total, uint64_t *ret, struct vps_err *err)
{
	struct job job = {s, digest, without};
	autofree uint8_t *buf = malloc(STREAM_CHUNK);
	struct feeder f = FEEDER_INIT;
	uint64_t done = 0;
	ssize_t n = 0;
	int r = buf ? feeder_start(pack, &job, &f, err) : vps_err_sys(err, -ENOMEM, "image");

	while (r == 0 && (n = fs_read_full(f.data, buf, STREAM_CHUNK)) > 0) {
		done += (uint64_t)n;
		*ret = done;
		r = wire_put(w, WIRE_IMAGE, buf, (size_t)n, err);
		if (r == 0 && progress_tell(p, 0, "image", done, total > done ? total : 0))
			r = vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	}
	if (r < 0) {
		feeder_kill(&f);
		return r;
	}
	r = feeder_end(&f, NULL, err);
	return r < 0 ? r : wire_put(w, WIRE_IMAGE, NULL, 0, err);
}

/* ---- in ------------------------------------------------------------------------------------- */

static int unpack(void *arg, int fd, struct feeder_report *rep)
{
	const struct job *j = arg;
	auto_done(img_info_done) struct img_info info = {0};
	char ref[64];
	int r;

	if (dup2(fd, STDIN_FILENO) < 0)
		return -errno;
	snprintf(ref, sizeof(ref), "migrated:%.12s", digest_valid(j->digest) ? j->digest + strlen("sha256:") : "unknown");
	r = img_import(j->store, "-", IMG_OCI_TAR, ref, NULL, &info, &rep->err);
	if (r >= 0)
		memcpy(rep->digest, info.digest, sizeof(rep->digest));
	return r;
}

int image_take(struct image_in *in, struct img_store *s, const char *source_digest, const void *data, size_t len,
	       char *digest, struct vps_err *err)
{
	struct job job = {.store = s, .digest = source_digest};
	struct feeder_report rep = {0};
	int r = in->f.pid > 0 ? 0 : feeder_start(unpack, &job, &in->f, err);

	if (r < 0)
		return r;
	if (len) {
		r = feeder_write(&in->f, data, len);
		if (r != -EPIPE)
			return r < 0 ? vps_err_sys(err, r, "image") : 0;
	}
	/* the end, or the importer has ended and says why */
	r = feeder_end(&in->f, &rep, err);
	if (r < 0)
		return vps_err_wrap(err, r, "image");
	memcpy(digest, rep.digest, DIGEST_LEN);
	return 1;
}

void image_in_done(struct image_in *in)
{
	feeder_kill(&in->f);
}
