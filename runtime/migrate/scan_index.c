// SPDX-License-Identifier: GPL-2.0-or-later
/* After a connection that broke off: what of a tree is there, and a scan that begins with that. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime/migrate/scan_impl.h"

#define INDEX_MAX (16u << 20) /* files; more than any scan of ours has memory for */
#define INDEX_HEAD 10u	      /* size u64, length of the path u16 */

struct index {
	int top;
	dev_t dev;
	enum wire_tree tree;
	struct wire_out *out;
	uint8_t *buf; /* STREAM_CHUNK */
	struct vps_err *err;
};

/* The sums of a file as it is. */
static int add_sums(struct index *x, int fd, uint64_t size, struct strbuf *sb)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < size;) {
		ssize_t n = fs_pread_full(fd, x->buf, STREAM_CHUNK, at);
		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		for (size_t pos = 0; r == 0 && pos < (size_t)n; pos += BLOCK) {
			uint8_t sum[SUM_LEN];
			r = scan_sum(x->buf + pos, (size_t)n - pos < BLOCK ? (size_t)n - pos : BLOCK, sum);
			sb_addn(sb, sum, sizeof(sum));
		}
		at += (size_t)n;
	}
	return r ?: sb_ok(sb);
}

static int index_one(struct index *x, int dir, const char *path, const char *name, const struct stat *st)
{
	auto_strbuf sb = STRBUF_INIT;
	autoclose int fd = -1;
	uint64_t size = (uint64_t)st->st_size;
	size_t len = strlen(path);
	uint8_t head[INDEX_HEAD];
	int r = 0;

	stream_put_le(head, S_ISREG(st->st_mode) ? size : 0, 8);
	stream_put_le(head + 8, len, 2);
	sb_addn(&sb, head, sizeof(head));
	sb_addn(&sb, path, len);
	/* Names of one inode are not to be patched one after the other; and there is an end to a record. */
	if (S_ISREG(st->st_mode) && st->st_nlink == 1 && size >= SUMS_FROM &&
	    size / BLOCK * SUM_LEN < STREAM_RECORD_MAX - 2 * PATH_MAX) {
		fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		r = fd < 0 ? -errno : add_sums(x, fd, size, &sb);
	}
	r = r ?: sb_ok(&sb);
	return r ?: wire_put(x->out, WIRE_INDEX, sb.s, sb.len, x->err);
}

static int index_dir(struct index *x, int dir, const char *path)
{
	auto_strv names = NULL;
	int r = scan_list(dir, &names);

	for (char **p = names; r == 0 && p && *p; p++) {
		autofree char *sub = *path ? str_fmt("%s/%s", path, *p) : strdup(*p);
		autoclose int fd = -1;
		struct stat st;
		if (!sub)
			return -ENOMEM;
		if (x->tree == TREE_BLOCKS && !str_eq(sub, WIRE_BLOCKS_FILE))
			continue;
		if (fstatat(dir, *p, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (st.st_dev != x->dev || strlen(sub) >= PATH_MAX)
			continue;
		r = index_one(x, dir, sub, *p, &st);
		if (r < 0 || !S_ISDIR(st.st_mode))
			continue;
		fd = openat(dir, *p, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = fd < 0 ? -errno : index_dir(x, fd, sub);
	}
	return r;
}

int scan_index_send(int top, enum wire_tree tree, struct wire_out *out, struct vps_err *err)
{
	autofree uint8_t *buf = malloc(STREAM_CHUNK);
	struct index x = {.top = top, .tree = tree, .out = out, .buf = buf, .err = err};
	struct stat st;
	int r = !buf ? -ENOMEM : fstat(top, &st) < 0 ? -errno : 0;

	if (r == 0) {
		x.dev = st.st_dev;
		r = index_dir(&x, top, "");
	}
	r = r ?: wire_put(out, WIRE_INDEX, NULL, 0, err);
	return r < 0 ? vps_err_sys(err, r, "look at what is here") : 0;
}

static int by_path(const void *a, const void *b)
{
	return scan_path_cmp(((const struct node *)a)->path, ((const struct node *)b)->path);
}

static int bad_index(struct vps_err *err)
{
	return vps_err_set(err, VPS_EBADIMAGE, "an index that breaks the rules");
}

int scan_index_take(struct scan *s, const struct stream_rec *rec, struct vps_err *err)
{
	const uint8_t *p = rec->data;
	uint64_t size, sums;
	struct node *n;
	size_t len;

	if (rec->len == 0) {
		if (s->was.n)
			qsort(s->was.v, s->was.n, sizeof(*s->was.v), by_path);
		for (size_t i = 1; i < s->was.n; i++)
			if (str_eq(s->was.v[i - 1].path, s->was.v[i].path))
				return bad_index(err);
		return 1;
	}
	if (rec->len < INDEX_HEAD || s->was.n >= INDEX_MAX)
		return bad_index(err);
	size = stream_get_le(p, 8);
	len = stream_get_le(p + 8, 2);
	if (size > INT64_MAX || len > rec->len - INDEX_HEAD || !wire_path_ok((const char *)p + INDEX_HEAD, len) ||
	    (len == 1 && p[INDEX_HEAD] == '.'))
		return bad_index(err);
	sums = rec->len - INDEX_HEAD - len;
	if (sums && (sums % SUM_LEN || sums / SUM_LEN != (size + BLOCK - 1) / BLOCK))
		return bad_index(err);
	if (mem_grow(s->was.v, s->was.n, s->was.cap) < 0)
		return vps_err_sys(err, -ENOMEM, "index");
	n = &s->was.v[s->was.n];
	*n = (struct node){.path = strndup((const char *)p + INDEX_HEAD, len), .size = size, .racy = true};
	if (!n->path)
		return vps_err_sys(err, -ENOMEM, "index");
	s->was.n++;
	if (sums) {
		n->n_sums = sums / SUM_LEN;
		n->sums = malloc(sums);
		if (!n->sums)
			return vps_err_sys(err, -ENOMEM, "index");
		memcpy(n->sums, p + INDEX_HEAD + len, sums);
	}
	return 0;
}
