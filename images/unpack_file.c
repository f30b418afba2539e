/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One packed file of the host's own, in memory. Nothing of a tenant or a registry comes this way. libarchive is
 * loaded when it is needed: the plain `vps` lives without it. */
#include <archive.h>
#include <archive_entry.h>
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "images/images.h"

#define CHUNK (64u << 10)
#define LIB   "libarchive.so.13"

#define FUNCTIONS(X)                                                                               \
	X(archive_read_new)                                                                        \
	X(archive_read_free)                                                                       \
	X(archive_read_support_format_raw)                                                         \
	X(archive_read_support_format_empty)                                                       \
	X(archive_read_support_filter_gzip)                                                        \
	X(archive_read_support_filter_xz)                                                          \
	X(archive_read_support_filter_zstd)                                                        \
	X(archive_read_open_fd)                                                                    \
	X(archive_read_next_header)                                                                \
	X(archive_read_data)                                                                       \
	X(archive_error_string)

struct lib {
#define X(name) __typeof__(&name) name##_;
	FUNCTIONS(X)
#undef X
};

static int load(struct lib *l, struct vps_err *err)
{
	void *lib = dlopen(LIB, RTLD_NOW | RTLD_LOCAL);

	if (!lib)
		return vps_err_set(err, VPS_EUNSUPPORTED, "packed kernel modules need " LIB ": %s",
				   dlerror());
#define X(name)                                                                                    \
	l->name##_ = (__typeof__(l->name##_))dlsym(lib, #name);                                    \
	if (!l->name##_)                                                                           \
		return vps_err_set(err, VPS_EUNSUPPORTED, LIB " lacks " #name);
	FUNCTIONS(X)
#undef X
	return 0;
}

static int read_all(const struct lib *l, struct archive *a, size_t max, struct strbuf *sb,
		    struct vps_err *err)
{
	autofree char *buf = malloc(CHUNK);
	la_ssize_t n;

	if (!buf)
		return vps_err_sys(err, -ENOMEM, "unpack");
	while ((n = l->archive_read_data_(a, buf, CHUNK)) > 0) {
		if ((size_t)n > max - sb->len)
			return vps_err_set(err, EFBIG, "more than %zu bytes", max);
		sb_addn(sb, buf, (size_t)n);
	}
	if (n < 0)
		return vps_err_set(err, EIO, "%s", l->archive_error_string_(a));
	return sb_ok(sb) < 0 ? vps_err_sys(err, -ENOMEM, "unpack") : 0;
}

static int unpack(const struct lib *l, struct archive *a, int fd, size_t max, struct strbuf *sb,
		  struct vps_err *err)
{
	struct archive_entry *e;
	int h;

	l->archive_read_support_format_raw_(a);
	l->archive_read_support_format_empty_(a);
	l->archive_read_support_filter_gzip_(a);
	l->archive_read_support_filter_xz_(a);
	l->archive_read_support_filter_zstd_(a);
	if (l->archive_read_open_fd_(a, fd, CHUNK) != ARCHIVE_OK)
		return vps_err_set(err, EIO, "%s", l->archive_error_string_(a));
	h = l->archive_read_next_header_(a, &e);
	if (h != ARCHIVE_OK && h != ARCHIVE_EOF)
		return vps_err_set(err, EIO, "%s", l->archive_error_string_(a));
	return h == ARCHIVE_EOF ? 0 : read_all(l, a, max, sb, err);
}

int img_read_packed(int fd, size_t max, char **ret, size_t *ret_len, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	struct archive *a;
	struct lib l = {0};
	int r = load(&l, err);

	if (r < 0)
		return r;
	a = l.archive_read_new_();
	r = a ? unpack(&l, a, fd, max, &sb, err) : vps_err_sys(err, -ENOMEM, "unpack");
	if (a)
		l.archive_read_free_(a);
	if (r < 0)
		return r;
	*ret_len = sb.len;
	*ret = sb_take(&sb);
	return *ret ? 0 : vps_err_sys(err, -ENOMEM, "unpack");
}
