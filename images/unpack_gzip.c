/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gzip by zlib itself: libarchive 3.6 skips the checksums of its members, and a root file system from a
 * file has no other. The only user of zlib. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"
#include "images/unpack.h"

#define CHUNK (256u << 10)

struct gz {
	z_stream z;
	unpack_in *in;
	unpack_out *out;
	void *arg;
	Bytef *buf;
};

static int refuse(struct vps_err *err, const char *what)
{
	return vps_err_set(err, VPS_EBADIMAGE, "gzip: %s", what);
}

/* At least one packed byte: 1, 0 at the end. */
static int fill(struct gz *g, struct vps_err *err)
{
	const void *p;
	if (g->z.avail_in)
		return 1;
	ssize_t n = g->in(g->arg, &p);
	if (n < 0)
		return vps_err_sys(err, (int)n, "read");
	g->z.next_in = (Bytef *)p;
	g->z.avail_in = (uInt)n;
	return n > 0;
}

static int one_member(struct gz *g, struct vps_err *err)
{
	for (;;) {
		int r = fill(g, err);
		if (r <= 0)
			return r < 0 ? r : refuse(err, "cut off");
		do {
			g->z.next_out = g->buf;
			g->z.avail_out = CHUNK;
			int e = inflate(&g->z, Z_NO_FLUSH);
			size_t n = CHUNK - g->z.avail_out;
			if (n && (r = g->out(g->arg, g->buf, n, err)) < 0)
				return r;
			if (e == Z_STREAM_END)
				return 0;
			if (e == Z_MEM_ERROR)
				return vps_err_sys(err, -ENOMEM, "gzip");
			if (e != Z_OK && e != Z_BUF_ERROR)
				return refuse(err, g->z.msg ? g->z.msg : "damaged");
		} while (!g->z.avail_out);
	}
}

/* Behind the last member: another one, or zeros that pad it (tape blocks). 1: another one. */
static int next_member(struct gz *g, struct vps_err *err)
{
	bool padded = false;
	for (;;) {
		int r = fill(g, err);
		if (r <= 0)
			return r;
		if (*g->z.next_in) {
			if (padded || *g->z.next_in != 0x1f)
				return refuse(err, "junk behind the end");
			return inflateReset(&g->z) == Z_OK ? 1 : refuse(err, "damaged");
		}
		padded = true;
		g->z.next_in++;
		g->z.avail_in--;
	}
}

int unpack_gzip(unpack_in *in, unpack_out *out, void *arg, struct vps_err *err)
{
	struct gz g = { .in = in, .out = out, .arg = arg, .buf = malloc(CHUNK) };
	/* 15 bits of window, + 16: gzip's frame, with its checksums */
	if (!g.buf || inflateInit2(&g.z, 15 + 16) != Z_OK) {
		free(g.buf);
		return vps_err_sys(err, -ENOMEM, "gzip");
	}
	int r;
	do
		r = one_member(&g, err);
	while (r == 0 && (r = next_member(&g, err)) > 0);
	inflateEnd(&g.z);
	free(g.buf);
	return r;
}
