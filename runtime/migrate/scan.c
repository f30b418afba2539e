// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/scan_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/inroot.h"
#include "base/mem.h"

#define SLACK_NS 20000000 /* a ctime is a tick old, which is 10 ms at most */
#define STALL_NS 10000000000ll

static void nodes_done(struct nodes *n)
{
	for (size_t i = 0; i < n->n; i++) {
		free(n->v[i].path);
		free(n->v[i].sums);
	}
	free(n->v);
	*n = (struct nodes){0};
}

struct scan *scan_free(struct scan *s)
{
	if (!s)
		return NULL;
	nodes_done(&s->was);
	nodes_done(&s->now);
	free(s->links);
	free(s->written);
	free(s->buf);
	free(s);
	return NULL;
}

int scan_new(int top, enum wire_tree tree, struct scan **ret, struct vps_err *err)
{
	struct scan *s = calloc(1, sizeof(*s));
	struct stat st;

	if (s)
		s->buf = malloc(STREAM_CHUNK);
	if (!s || !s->buf || fstat(top, &st) < 0) {
		scan_free(s);
		return vps_err_sys(err, -ENOMEM, "scan");
	}
	s->top = top;
	s->dev = st.st_dev;
	s->tree = tree;
	*ret = s;
	return 0;
}

static int fail(struct scan *s, int r, const char *path, const char *what)
{
	autofree char *safe = str_escape(path);

	return vps_err_sys(s->err, r, "%s '%.300s'", what, safe ? safe : "?");
}

/* ---- the order of a walk -------------------------------------------------------------- */

int scan_path_cmp(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	int x = *a == '/' ? 1 : *a ? 1 + (unsigned char)*a : 0;
	int y = *b == '/' ? 1 : *b ? 1 + (unsigned char)*b : 0;

	return x - y;
}

static int send_removed(struct scan *s, const char *path)
{
	s->round.entries++;
	return wire_put(s->out, WIRE_REMOVED, path, strlen(path), s->err);
}

/* What was there and comes before path in the walk is not there any more. ret: what was at path, or NULL. */
static int pass(struct scan *s, const char *path, struct node **ret)
{
	*ret = NULL;
	for (; s->was_at < s->was.n; s->was_at++) {
		struct node *n = &s->was.v[s->was_at];
		int c = path ? scan_path_cmp(n->path, path) : -1;
		if (c > 0)
			return 0;
		if (c == 0) {
			*ret = n;
			s->was_at++;
			return 0;
		}
		int r = send_removed(s, n->path);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- inodes of several names ------------------------------------------------------------- */

static struct inode *link_slot(struct inode *v, size_t cap, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15ull >> 20) & (cap - 1);

	while (v[i].node && v[i].ino != ino)
		i = (i + 1) & (cap - 1);
	return &v[i];
}

/* 1 + index of the first name; 0 when index is it. */
static int first_name(struct scan *s, uint64_t ino, size_t index, size_t *ret)
{
	struct inode *slot;

	if (s->n_links * 2 >= s->cap_links) {
		size_t cap = s->cap_links ? s->cap_links * 2 : 256;
		struct inode *v = calloc(cap, sizeof(*v));
		if (!v)
			return -ENOMEM;
		for (size_t i = 0; i < s->cap_links; i++)
			if (s->links[i].node)
				*link_slot(v, cap, s->links[i].ino) = s->links[i];
		free(s->links);
		s->links = v;
		s->cap_links = cap;
	}
	slot = link_slot(s->links, s->cap_links, ino);
	*ret = slot->node;
	if (!slot->node) {
		*slot = (struct inode){ino, index + 1};
		s->n_links++;
	}
	return 0;
}

/* ---- one entry ------------------------------------------------------------------------------- */

static int64_t ns_of(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static int add_xattr(struct wire_entry *e, int fd, const char *name)
{
	char value[4096];
	ssize_t n = fgetxattr(fd, name, value, sizeof(value));
	autofree char *big = NULL;
	struct wire_xattr *x;

	if (n == -1 && errno == ERANGE) {
		big = malloc(WIRE_XATTR_MAX);
		n = big ? fgetxattr(fd, name, big, WIRE_XATTR_MAX) : -1;
	}
	if (n < 0)
		return errno == ENODATA ? 0 : -errno;
	if (e->n_xattrs == WIRE_XATTRS_MAX)
		return -E2BIG;
	x = &e->xattrs[e->n_xattrs];
	x->name = strdup(name);
	x->value = malloc((size_t)n + 1);
	e->n_xattrs++;
	if (!x->name || !x->value)
		return -ENOMEM;
	memcpy(x->value, big ? big : value, (size_t)n);
	x->len = (size_t)n;
	return 0;
}

static int add_xattrs(struct wire_entry *e, int fd)
{
	char buf[4096], *list = buf;
	autofree char *big = NULL;
	ssize_t n = flistxattr(fd, buf, sizeof(buf));
	int r = 0;

	if (n == -1 && errno == ERANGE) {
		list = big = malloc(WIRE_XATTR_MAX);
		n = big ? flistxattr(fd, big, WIRE_XATTR_MAX) : -1;
	}
	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	if (n && !(e->xattrs = calloc(WIRE_XATTRS_MAX, sizeof(*e->xattrs))))
		return -ENOMEM;
	for (char *p = list; r == 0 && p < list + n; p += strlen(p) + 1)
		if (wire_xattr_ok(p))
			r = add_xattr(e, fd, p);
	return r;
}

static int put_entry(struct scan *s, const struct wire_entry *e)
{
	auto_strbuf sb = STRBUF_INIT;
	int r = wire_entry_put(e, &sb);

	if (r < 0)
		return r == -E2BIG ? vps_err_set(s->err, VPS_EUNSUPPORTED, "too many extended attributes") : r;
	s->round.entries++;
	return wire_put(s->out, WIRE_ENTRY, sb.s, sb.len, s->err);
}

static struct wire_entry entry_of(const struct scan *s, enum wire_kind kind, char *path, const struct stat *st)
{
	bool ours = s->tree == TREE_MEMORY; /* not the tenant's files, though a program of his ids wrote some */

	return (struct wire_entry){
		.kind = kind,
		.mode = st->st_mode & 07777,
		.uid = ours ? 0 : st->st_uid,
		.gid = ours ? 0 : st->st_gid,
		.size = kind == KIND_FILE || kind == KIND_PATCH ? (uint64_t)st->st_size : 0,
		.mtime_s = st->st_mtim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
		.path = path,
	};
}

/* path is borrowed: only what was added is freed. */
static void entry_drop(struct wire_entry *e)
{
	e->path = e->link = NULL;
	wire_entry_done(e);
}

/* ---- data of files ---------------------------------------------------------------------------- */

struct copy {
	struct scan *s;
	struct node *n;	       /* its sums are being made */
	const struct node *was; /* those to compare with, or NULL: all of it goes */
	int fd;
};

static bool all_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

int scan_sum(const uint8_t *p, size_t n, uint8_t out[SUM_LEN])
{
	uint8_t raw[DIGEST_RAW_LEN];
	struct digest_ctx *d;

	memset(out, 0, SUM_LEN);
	if (all_zero(p, n))
		return 0; /* as a hole */
	d = digest_new();
	if (!d)
		return -ENOMEM;
	digest_add(d, p, n);
	if (digest_end_raw(d, raw) < 0)
		return -EIO;
	memcpy(out, raw, SUM_LEN);
	out[0] |= 1; /* no data has a hole's sum */
	return 0;
}

static bool sum_zero(const uint8_t *sum)
{
	return all_zero(sum, SUM_LEN);
}

/* Block i now has this sum: must it be sent? */
static bool differs(struct copy *c, size_t i, const uint8_t *sum)
{
	if (c->n->sums)
		memcpy(c->n->sums[i], sum, SUM_LEN);
	if (!c->was)
		return !sum_zero(sum);
	return i >= c->was->n_sums ? !sum_zero(sum) : memcmp(c->was->sums[i], sum, SUM_LEN) != 0;
}

static int put_data(struct copy *c, uint64_t at, const uint8_t *p, size_t n)
{
	struct scan *s = c->s;
	uint8_t head[STREAM_HOLE_LEN];

	if (n == 0)
		return 0;
	stream_put_le(head, at, 8);
	s->round.bytes += n;
	if (progress_tell(s->p, 0, s->what, s->round.bytes, s->total > s->round.bytes ? s->total : 0))
		return vps_err_set(s->err, VPS_EINTERRUPTED, "interrupted");
	return wire_put2(s->out, WIRE_DATA, head, STREAM_FILE_HEAD, p, n, s->err);
}

static int put_hole(struct copy *c, uint64_t at, uint64_t n)
{
	uint8_t rec[STREAM_HOLE_LEN];

	if (n == 0 || !c->was) /* a fresh file has nothing else */
		return 0;
	stream_put_le(rec, at, 8);
	stream_put_le(rec + 8, n, 8);
	return wire_put(c->s->out, WIRE_HOLE, rec, sizeof(rec), c->s->err);
}

/* 0: nothing to send, 1: data, 2: a hole. */
static int block_kind(struct copy *c, size_t i, const uint8_t *p, size_t n)
{
	uint8_t sum[SUM_LEN];
	int r;

	if (!c->was && !c->n->sums)
		return all_zero(p, n) ? 0 : 1;
	r = scan_sum(p, n, sum);
	if (r < 0)
		return r;
	return !differs(c, i, sum) ? 0 : sum_zero(sum) ? 2 : 1;
}

/* Blocks from offset at, whole but for the file's last one; runs that are alike go together. */
static int copy_blocks(struct copy *c, uint64_t at, const uint8_t *p, size_t len)
{
	size_t from = 0, pos = 0;
	int kind = 0, r = 0; /* of the run [from, pos): 0 nothing, 1 data, 2 hole */

	for (; r == 0 && pos < len; pos += BLOCK) {
		size_t n = len - pos < BLOCK ? len - pos : BLOCK;
		int k = block_kind(c, (at + pos) / BLOCK, p + pos, n);
		if (k < 0)
			return k;
		if (k == kind)
			continue;
		r = kind == 1 ? put_data(c, at + from, p + from, pos - from)
		  : kind == 2 ? put_hole(c, at + from, pos - from) : 0;
		kind = k;
		from = pos;
	}
	if (r < 0)
		return r;
	return kind == 1 ? put_data(c, at + from, p + from, len - from)
	     : kind == 2 ? put_hole(c, at + from, len - from) : 0;
}

/* [at, end) is a hole. */
static int copy_hole(struct copy *c, uint64_t at, uint64_t end)
{
	static const uint8_t zero[SUM_LEN];
	uint64_t from = UINT64_MAX;
	int r = 0;

	if (!c->was)
		return 0;
	for (; r == 0 && at < end; at += BLOCK) {
		bool send = differs(c, at / BLOCK, zero);
		if (send && from == UINT64_MAX)
			from = at;
		if (!send && from != UINT64_MAX) {
			r = put_hole(c, from, at - from);
			from = UINT64_MAX;
		}
	}
	return r < 0 || from == UINT64_MAX ? r : put_hole(c, from, end - from);
}

/* From a block on. */
static int copy_range(struct copy *c, uint64_t at, uint64_t end)
{
	int r = 0;

	while (r == 0 && at < end) {
		off_t data = lseek(c->fd, (off_t)at, SEEK_DATA);
		uint64_t next = data < 0 ? end : (uint64_t)data / BLOCK * BLOCK;
		size_t want;
		ssize_t n;
		if (data < 0 && errno != ENXIO)
			return -errno;
		if (next > at) {
			r = copy_hole(c, at, next < end ? next : end);
			at = next;
			continue;
		}
		want = end - at < STREAM_CHUNK ? (size_t)(end - at) : STREAM_CHUNK;
		n = fs_pread_full(c->fd, c->s->buf, want, at);
		if (n <= 0) /* it has become shorter; the next round sees that */
			return (int)n;
		r = copy_blocks(c, at, c->s->buf, (size_t)n);
		at += (size_t)n;
	}
	return r;
}

static bool is_written(const struct scan *s, uint64_t block)
{
	return block >= s->n_written || (s->written[block / 8] >> block % 8 & 1);
}

/* Only what was written, where that is known. */
static int copy_file(struct copy *c, uint64_t size)
{
	uint64_t n = (size + BLOCK - 1) / BLOCK, i = 0;
	int r = 0;

	if (!c->s->written || !c->was)
		return copy_range(c, 0, size);
	while (r == 0 && i < n) {
		uint64_t from = i;

		for (; i < n && i < c->was->n_sums && !is_written(c->s, i); i++)
			memcpy(c->n->sums[i], c->was->sums[i], SUM_LEN);
		if (i > from)
			continue;
		for (; i < n && (i >= c->was->n_sums || is_written(c->s, i)); i++)
			;
		r = copy_range(c, from * BLOCK, i * BLOCK < size ? i * BLOCK : size);
	}
	return r;
}

/* ---- what a name leads to ------------------------------------------------------------------------ */

/* Of a regular file behind an O_PATH fd. */
static int send_file(struct scan *s, int path_fd, struct node *n, struct node *was)
{
	autoclose int fd = inroot_reopen(path_fd, O_RDONLY | O_NOATIME);
	struct copy c = {.s = s, .n = n, .fd = fd};
	struct wire_entry e;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	if (was && was->sums && (was->ino == n->ino || was->ino == 0))
		c.was = was;
	if (((uint64_t)st.st_size >= SUMS_FROM && !s->last) || c.was) { /* for rounds to come */
		n->n_sums = ((uint64_t)st.st_size + BLOCK - 1) / BLOCK;
		n->sums = calloc(n->n_sums + 1, SUM_LEN);
		if (!n->sums)
			return -ENOMEM;
	}
	e = entry_of(s, c.was ? KIND_PATCH : KIND_FILE, n->path, &st);
	r = add_xattrs(&e, fd);
	r = r ?: put_entry(s, &e);
	entry_drop(&e);
	return r ?: copy_file(&c, (uint64_t)st.st_size);
}

static int send_other(struct scan *s, int path_fd, struct node *n, const struct stat *st)
{
	struct wire_entry e = entry_of(s, KIND_SYMLINK, n->path, st);
	char target[PATH_MAX];
	ssize_t len;
	int r;

	if (S_ISLNK(st->st_mode)) {
		len = readlinkat(path_fd, "", target, sizeof(target) - 1);
		if (len < 0)
			return -errno;
		target[len] = '\0';
		e.link = target;
		e.mode = 0;
	} else if (is_whiteout(st)) {
		e.kind = KIND_WHITEOUT;
	} else if (S_ISFIFO(st->st_mode)) {
		e.kind = KIND_FIFO;
	} else if (S_ISSOCK(st->st_mode)) {
		e.kind = KIND_SOCKET;
	} else {
		return vps_err_set(s->err, VPS_EUNSUPPORTED, "a device node on the disk");
	}
	r = put_entry(s, &e);
	entry_drop(&e);
	return r;
}

static int send_dir(struct scan *s, int fd, struct node *n, const struct stat *st)
{
	struct wire_entry e = entry_of(s, KIND_DIR, n->path, st);
	int r = add_xattrs(&e, fd);

	r = r ?: put_entry(s, &e);
	entry_drop(&e);
	return r;
}

static int send_link(struct scan *s, struct node *n, const struct stat *st)
{
	struct wire_entry e = entry_of(s, KIND_HARDLINK, n->path, st);
	int r;

	e.link = s->now.v[n->link - 1].path;
	r = put_entry(s, &e);
	entry_drop(&e);
	return r;
}

/* What is at it is what was sent. */
static bool same(const struct scan *s, const struct node *n, const struct node *was)
{
	if (was && S_ISCHR(n->mode) && S_ISCHR(was->mode))
		return true; /* a whiteout is a whiteout */
	if (!was || was->racy || was->ino != n->ino || was->size != n->size ||
	    was->ctime != n->ctime || was->mode != n->mode || !was->link != !n->link)
		return false;
	return !n->link || str_eq(s->was.v[was->link - 1].path, s->now.v[n->link - 1].path);
}

static int add_node(struct scan *s, const char *path, const struct stat *st, struct node **ret, struct node **ret_was)
{
	struct node *n;
	int r = mem_grow(s->now.v, s->now.n, s->now.cap);

	if (r < 0)
		return r;
	n = &s->now.v[s->now.n];
	*n = (struct node){
		.path = strdup(path),
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.ctime = ns_of(st->st_ctim),
		.mode = st->st_mode,
	};
	if (!n->path)
		return -ENOMEM;
	/* A guest's write shows in its disk's ctime first, and in the data only when the kernel lets it (dirty pages). */
	n->racy = n->ctime >= s->began - (s->tree == TREE_BLOCKS ? STALL_NS : SLACK_NS);
	s->now.n++;
	s->round.seen++;
	/* whiteouts are links to one inode as overlayfs likes it, and nothing to anybody */
	if (!S_ISDIR(st->st_mode) && !is_whiteout(st) && st->st_nlink > 1)
		r = first_name(s, n->ino, s->now.n - 1, &n->link);
	*ret = n;
	return r ?: pass(s, path, ret_was);
}

/* Its sums go on to describe it. */
static void keep_sums(struct node *n, struct node *was)
{
	if (!was || n->sums)
		return;
	n->sums = take_ptr(was->sums);
	n->n_sums = was->n_sums;
}

static bool nothing_written(const struct scan *s, const struct node *n, const struct node *was)
{
	if (!s->written || !was || !was->sums || was->size != n->size || was->ino != n->ino)
		return false;
	for (uint64_t i = 0; i < was->n_sums; i++)
		if (is_written(s, i))
			return false;
	return true;
}

static int visit_file(struct scan *s, int fd, const char *path, const struct stat *st)
{
	struct node *n = NULL, *was = NULL;
	int r = add_node(s, path, st, &n, &was);

	if (r < 0)
		return r;
	if (nothing_written(s, n, was) || same(s, n, was)) {
		keep_sums(n, was);
		return 0;
	}
	if (n->link)
		return send_link(s, n, st);
	return S_ISREG(st->st_mode) ? send_file(s, fd, n, was) : send_other(s, fd, n, st);
}

/* ---- the walk ---------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int scan_list(int fd, char ***ret)
{
	auto_strv names = NULL;
	int dup = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *d = dup < 0 ? NULL : fdopendir(dup);
	struct dirent *e;
	int r = 0;

	if (!d) {
		r = -errno;
		if (dup >= 0)
			close(dup);
		return r;
	}
	rewinddir(d);
	while (r == 0 && (errno = 0, e = readdir(d)))
		if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, ".."))
			r = strv_add(&names, e->d_name);
	if (r == 0)
		r = -errno;
	closedir(d);
	if (r < 0)
		return r;
	if (names)
		qsort(names, strv_len(names), sizeof(*names), by_name);
	*ret = take_ptr(names);
	return 0;
}

static int visit_dir(struct scan *s, int fd, const char *path, const struct stat *st);

static int visit(struct scan *s, int dir, const char *path, const char *name)
{
	autoclose int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r;

	/* gone meanwhile: then it is not in the tree */
	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? 0 : fail(s, -errno, path, "open");
	if (st.st_dev != s->dev)
		return 0; /* somebody's mount: not the disk's */
	if (s->tree == TREE_MEMORY && S_ISLNK(st.st_mode))
		return 0; /* its reader makes his own */
	if (S_ISDIR(st.st_mode)) {
		autoclose int sub = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
		if (sub < 0)
			return fail(s, -errno, path, "open");
		close_fd(&fd); /* one a level is enough */
		return visit_dir(s, sub, path, &st);
	}
	r = visit_file(s, fd, path, &st);
	return r < 0 ? fail(s, r, path, "send") : 0;
}

static int visit_dir(struct scan *s, int fd, const char *path, const struct stat *st)
{
	bool top = str_eq(path, ".");
	struct node *n = NULL, *was = NULL;
	auto_strv names = NULL;
	int r = add_node(s, path, st, &n, &was);

	if (r == 0 && !same(s, n, was))
		r = send_dir(s, fd, n, st);
	r = r ?: scan_list(fd, &names);
	if (r < 0)
		return fail(s, r, path, "send");
	for (char **p = names; r == 0 && p && *p; p++) {
		autofree char *sub = top ? strdup(*p) : str_fmt("%s/%s", path, *p);
		if (!sub)
			return -ENOMEM;
		/* whoever makes such paths by moving directories into each other has to do without them elsewhere */
		if (strlen(sub) >= PATH_MAX)
			return vps_err_set(s->err, VPS_EUNSUPPORTED, "a path on the disk is longer than %d bytes", PATH_MAX);
		if (s->tree == TREE_BLOCKS && !str_eq(sub, WIRE_BLOCKS_FILE))
			continue;
		r = visit(s, fd, sub, *p);
	}
	return r;
}

int scan_written(struct scan *s, int fd)
{
	struct stat st;
	ssize_t n;

	free(take_ptr(s->written));
	s->n_written = 0;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	s->written = malloc((size_t)st.st_size + 1);
	n = s->written ? fs_pread_full(fd, s->written, (size_t)st.st_size, 0) : -ENOMEM;
	if (n == st.st_size) {
		s->n_written = (uint64_t)n * 8;
		return 0;
	}
	free(take_ptr(s->written));
	return n < 0 ? (int)n : -EIO;
}

int scan_send(struct scan *s, struct wire_out *out, bool last, const struct progress *p, const char *what,
	      uint64_t total, struct scan_round *ret, struct vps_err *err)
{
	uint8_t tree = (uint8_t)s->tree;
	struct node *none;
	struct timespec t;
	struct stat st;
	int r;

	s->out = out;
	s->round = (struct scan_round){0};
	s->p = p;
	s->what = what;
	s->total = total;
	s->err = err;
	s->was_at = 0;
	s->last = last;
	clock_gettime(CLOCK_REALTIME, &t);
	s->began = ns_of(t);
	/* of memory, nothing is written meanwhile */
	if (!last && s->tree != TREE_MEMORY && syncfs(s->top) < 0)
		return vps_err_sys(err, -errno, "sync the disk");
	if (s->links)
		memset(s->links, 0, s->cap_links * sizeof(*s->links));
	s->n_links = 0;
	r = wire_put(out, WIRE_TREE, &tree, 1, err);
	if (r == 0 && fstat(s->top, &st) < 0)
		r = vps_err_sys(err, -errno, "disk");
	r = r ?: visit_dir(s, s->top, ".", &st);
	r = r ?: pass(s, NULL, &none);
	if (r < 0)
		return vps_err_sys(err, r, "copying the disk");
	scan_written(s, -1); /* the next round is another */
	nodes_done(&s->was);
	s->was = s->now;
	s->now = (struct nodes){0};
	*ret = s->round;
	return 0;
}

/* ---- measuring -------------------------------------------------------------------------------------------- */

static int measure(int dir, dev_t dev, unsigned depth, uint64_t *bytes, uint64_t *entries)
{
	auto_strv names = NULL;
	int r = scan_list(dir, &names);

	for (char **p = names; r == 0 && p && *p; p++) {
		autoclose int fd = -1;
		struct stat st;
		if (fstatat(dir, *p, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
			continue;
		++*entries;
		*bytes += (uint64_t)st.st_blocks * 512;
		if (!S_ISDIR(st.st_mode) || depth > PATH_MAX / 2)
			continue;
		fd = openat(dir, *p, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			r = measure(fd, dev, depth + 1, bytes, entries);
	}
	return r;
}

int scan_measure(int top, uint64_t *ret_bytes, uint64_t *ret_entries, struct vps_err *err)
{
	uint64_t bytes = 0, entries = 0;
	struct stat st;
	int r = fstat(top, &st) < 0 ? -errno : measure(top, st.st_dev, 0, &bytes, &entries);

	if (r < 0)
		return vps_err_sys(err, r, "look at the disk");
	*ret_bytes = bytes;
	*ret_entries = entries;
	return 0;
}
