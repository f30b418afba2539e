/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One packed file of the host's own, in memory. Nothing of a tenant or a registry comes this way. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "images/images.h"

#define CHUNK (64u << 10)

static void archive_freep(struct archive **a)
{
	if (*a)
		archive_read_free(*a);
}

static int read_all(struct archive *a, size_t max, struct strbuf *sb, struct vps_err *err)
{
	autofree char *buf = malloc(CHUNK);
	la_ssize_t n;

	if (!buf)
		return vps_err_sys(err, -ENOMEM, "unpack");
	while ((n = archive_read_data(a, buf, CHUNK)) > 0) {
		if ((size_t)n > max - sb->len)
			return vps_err_set(err, EFBIG, "more than %zu bytes", max);
		sb_addn(sb, buf, (size_t)n);
	}
	if (n < 0)
		return vps_err_set(err, EIO, "%s", archive_error_string(a));
	return sb_ok(sb) < 0 ? vps_err_sys(err, -ENOMEM, "unpack") : 0;
}

int img_read_packed(int fd, size_t max, char **ret, size_t *ret_len, struct vps_err *err)
{
	auto_done(archive_freep) struct archive *a = archive_read_new();
	auto_strbuf sb = STRBUF_INIT;
	struct archive_entry *e;

	if (!a)
		return vps_err_sys(err, -ENOMEM, "unpack");
	archive_read_support_format_raw(a);
	archive_read_support_format_empty(a);
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_zstd(a);
	if (archive_read_open_fd(a, fd, CHUNK) != ARCHIVE_OK)
		return vps_err_set(err, EIO, "%s", archive_error_string(a));

	int h = archive_read_next_header(a, &e);

	if (h != ARCHIVE_OK && h != ARCHIVE_EOF)
		return vps_err_set(err, EIO, "%s", archive_error_string(a));

	int r = h == ARCHIVE_EOF ? 0 : read_all(a, max, &sb, err);

	if (r < 0)
		return r;
	*ret_len = sb.len;
	*ret = sb_take(&sb);
	return *ret ? 0 : vps_err_sys(err, -ENOMEM, "unpack");
}
