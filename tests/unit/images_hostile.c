/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hostile archives: each one is imported while a canary tree stands outside; whatever happens, the
 * canary is byte-identical, and a refused archive leaves the store as it was.
 */
#include "images_tar.h"

struct lab {
	struct test_dir *t;
	struct img_store *s;
	char canary[128]; /* absolute path */
};

struct hostile {
	const char *name;
	void (*make)(struct tar *t, const struct lab *l);
	int want; /* 0: taken; else the code */
	void (*check)(int fs);
	struct img_caps caps;
	bool no_end;
	const char *words; /* in the message */
};

/* ---- names ---- */

static void dotdot(struct tar *t, const struct lab *l) { tar_file(t, "a/../../../x", "pwn"); }
static void dotdot_first(struct tar *t, const struct lab *l)
{
	autofree char *p = str_fmt("../../../../../../../../..%s/f", l->canary);
	tar_file(t, p, "pwn");
}
static void absolute(struct tar *t, const struct lab *l)
{
	autofree char *p = str_fmt("%s/f", l->canary);
	tar_file(t, p, "pwn");
}
static void pax_dotdot(struct tar *t, const struct lab *l)
{
	tar_pax(t, "path", "ok/../../../../x");
	tar_file(t, "harmless", "pwn");
}
static void long_part(struct tar *t, const struct lab *l)
{
	char n[300];
	memset(n, 'a', sizeof(n));
	n[299] = 0;
	tar_pax(t, "path", n);
	tar_file(t, "x", "");
}
static void long_path(struct tar *t, const struct lab *l)
{
	char n[5000];
	for (size_t i = 0; i < sizeof(n); i++)
		n[i] = i % 50 == 49 ? '/' : 'a';
	n[4999] = 0;
	tar_gnu_long(t, 'L', n);
	tar_file(t, "x", "");
}
static void no_name(struct tar *t, const struct lab *l) { tar_file(t, "", "x"); }
static void root_link(struct tar *t, const struct lab *l) { tar_sym(t, "./", l->canary); }
static void root_file(struct tar *t, const struct lab *l) { tar_file(t, ".", "x"); }

/* ---- through links ---- */

static void link_then_file(struct tar *t, const struct lab *l)
{
	tar_sym(t, "out", l->canary);
	tar_file(t, "out/f", "pwn");
}
static void check_inside(int fs)
{
	/* followed as the guest would: inside the root */
	struct stat st;
	assert_int_equal(fstatat(fs, "out", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(st.st_mode));
}
static void link_up_then_file(struct tar *t, const struct lab *l)
{
	autofree char *up = str_fmt("../../../../../../../../../../..%s", l->canary);
	tar_sym(t, "out", up);
	tar_file(t, "out/f", "pwn");
}
static void link_chain(struct tar *t, const struct lab *l)
{
	tar_sym(t, "a", "..");
	tar_sym(t, "b", "a/../..");
	tar_sym(t, "c", "b/..");
	tar_file(t, "c/tmp/x", "pwn");
}
static void link_loop(struct tar *t, const struct lab *l)
{
	tar_sym(t, "a", "b");
	tar_sym(t, "b", "a");
	tar_file(t, "a/x", "pwn");
}
static void link_swap(struct tar *t, const struct lab *l)
{
	/* the cached folder is replaced by a link */
	tar_dir(t, "d/");
	tar_file(t, "d/one", "1");
	tar_sym(t, "d", l->canary);
	tar_file(t, "d/f", "pwn");
}
static void link_overwrite(struct tar *t, const struct lab *l)
{
	autofree char *p = str_fmt("%s/f", l->canary);
	tar_sym(t, "f", p);
	tar_file(t, "f", "mine");
}
static void check_overwrite(int fs) { assert_file(fs, "f", "mine"); }
static void below_file(struct tar *t, const struct lab *l)
{
	tar_file(t, "f", "x");
	tar_file(t, "f/g", "x");
}
static void link_fanout(struct tar *t, const struct lab *l)
{
	/* links of links of "..": work must stay bounded */
	char up[91];
	for (int i = 0; i < 30; i++)
		memcpy(up + 3 * i, "../", 3);
	up[90] = 0;
	for (int i = 0; i < 39; i++) {
		autofree char *n = str_fmt("l%d", i);
		autofree char *to = str_fmt("%sl%d", up, i + 1);
		tar_sym(t, n, to);
	}
	tar_dir(t, "l39/");
	for (int i = 0; i < 12000; i++) {
		autofree char *n = str_fmt(i % 2 ? "l0/x%d" : "l39/x%d", i);
		tar_file(t, n, "");
	}
}

/* ---- hard links ---- */

static void hard_out(struct tar *t, const struct lab *l)
{
	autofree char *p = str_fmt("../../../../../../../..%s/f", l->canary);
	tar_hard(t, "h", p);
}
static void hard_abs(struct tar *t, const struct lab *l)
{
	autofree char *p = str_fmt("%s/f", l->canary);
	tar_hard(t, "h", p);
}
static void hard_through(struct tar *t, const struct lab *l)
{
	tar_sym(t, "out", l->canary);
	tar_hard(t, "h", "out/f");
	tar_file(t, "h", "pwn");
}
static void hard_through_inside(struct tar *t, const struct lab *l)
{
	tar_dir(t, "d/");
	tar_file(t, "d/f", "x");
	tar_sym(t, "s", "d");
	tar_hard(t, "h", "s/f");
}
static void hard_to_link(struct tar *t, const struct lab *l)
{
	/* a link to the link itself is fine; writing to it later replaces the name */
	autofree char *p = str_fmt("%s/f", l->canary);
	tar_sym(t, "s", p);
	tar_hard(t, "h", "s");
	tar_file(t, "h", "mine");
}
static void check_hard_to_link(int fs) { assert_file(fs, "h", "mine"); }
static void hard_dir(struct tar *t, const struct lab *l)
{
	tar_dir(t, "d/");
	tar_hard(t, "h", "d");
}
static void hard_missing(struct tar *t, const struct lab *l) { tar_hard(t, "h", "nowhere"); }
static void hard_root(struct tar *t, const struct lab *l) { tar_hard(t, "h", "/"); }
static void hard_self(struct tar *t, const struct lab *l)
{
	tar_file(t, "f", "keep");
	tar_hard(t, "f", "f");
	tar_hard(t, "g", "./f");
	tar_hard(t, "g", "f");
}
static void check_hard_self(int fs)
{
	assert_file(fs, "f", "keep");
	assert_file(fs, "g", "keep");
}
static void hard_in_replaced(struct tar *t, const struct lab *l)
{
	tar_dir(t, "d/");
	tar_file(t, "d/f", "x");
	tar_hard(t, "d", "d/f");
}

/* ---- whiteouts ---- */

static void wh_bare(struct tar *t, const struct lab *l) { tar_file(t, "d/.wh.", ""); }
static void wh_dot(struct tar *t, const struct lab *l) { tar_file(t, "d/.wh..", ""); }
static void wh_dotdot(struct tar *t, const struct lab *l) { tar_file(t, "d/.wh...", ""); }
static void wh_meta(struct tar *t, const struct lab *l) { tar_file(t, ".wh..wh.plnk", ""); }
static void wh_dir(struct tar *t, const struct lab *l) { tar_dir(t, "d/.wh.x/"); }
static void wh_parent(struct tar *t, const struct lab *l) { tar_file(t, ".wh.d/f", "x"); }
static void wh_content(struct tar *t, const struct lab *l) { tar_file(t, ".wh.x", "content"); }
static void wh_link(struct tar *t, const struct lab *l) { tar_sym(t, ".wh.x", l->canary); }
static void wh_hard(struct tar *t, const struct lab *l)
{
	tar_file(t, "f", "");
	tar_hard(t, ".wh.x", "f");
}
static void wh_opq_link(struct tar *t, const struct lab *l)
{
	tar_sym(t, "out", l->canary);
	tar_file(t, "out/.wh..wh..opq", "");
	tar_file(t, "out/.wh.f", "");
}
static void wh_forged(struct tar *t, const struct lab *l)
{
	tar_file(t, "passwd", "x");
	tar_dev(t, "shadow", '3', 0, 0);
}
static void check_forged(int fs) { assert_false(fs_exists(fs, "shadow")); }
static void hard_refused(struct tar *t, const struct lab *l)
{
	tar_dev(t, "dev/sda", '4', 8, 0);
	tar_hard(t, "dev/disk", "dev/sda");
}
static void check_nodev(int fs)
{
	assert_false(fs_exists(fs, "dev/sda"));
	assert_false(fs_exists(fs, "dev/disk"));
}
static void many_devs(struct tar *t, const struct lab *l)
{
	for (int i = 0; i < 70000; i++)
		tar_dev(t, "n", '3', 1, 3);
}

/* ---- replacing ---- */

static void replace(struct tar *t, const struct lab *l)
{
	tar_file(t, "x", "file");
	tar_dir(t, "x/");
	tar_file(t, "x/deep/f", "1");
	tar_sym(t, "x", l->canary);
	tar_dir(t, "x/");
	tar_file(t, "x/f", "2");
	tar_head(t, "x/f", '6', 0, NULL);
	tar_file(t, "x/f", "last");
}
static void check_replace(int fs)
{
	assert_file(fs, "x/f", "last");
	assert_false(fs_exists(fs, "x/deep"));
}
static void deep(struct tar *t, const struct lab *l)
{
	char n[4001];
	for (int i = 0; i < 4000; i++)
		n[i] = i % 2 ? '/' : 'd';
	n[4000] = 0;
	tar_pax(t, "path", n);
	tar_dir(t, "x");
	tar_file(t, "d", "and now a file");
}

/* ---- ids, xattrs ---- */

static void big_uid(struct tar *t, const struct lab *l)
{
	t->uid = 65536;
	tar_file(t, "f", "x");
}
static void top_uid(struct tar *t, const struct lab *l)
{
	t->uid = t->gid = 65535;
	tar_file(t, "f", "x");
}
static void check_top_uid(int fs)
{
	struct stat st;
	assert_int_equal(fstatat(fs, "f", &st, 0), 0);
	assert_int_equal(st.st_uid, 65535);
}
static void negative_uid(struct tar *t, const struct lab *l)
{
	unsigned char *h = tar_head(t, "f", '0', 0, NULL);
	memset(h + 108, 0xff, 8);
	tar_sum(h);
}
static void pax_uid(struct tar *t, const struct lab *l)
{
	tar_pax(t, "uid", "4294967295");
	tar_file(t, "f", "x");
}
static void overlay_xattr(struct tar *t, const struct lab *l)
{
	tar_pax(t, "SCHILY.xattr.trusted.overlay.opaque", "y");
	tar_dir(t, "d/");
	tar_pax(t, "SCHILY.xattr.user.overlay.opaque", "y");
	tar_dir(t, "e/");
	tar_pax(t, "SCHILY.xattr.security.selinux", "u");
	tar_dir(t, "f/");
	tar_pax(t, "SCHILY.xattr.trusted.overlay.redirect", "/etc");
	tar_dir(t, "g/");
	tar_pax(t, "SCHILY.xattr.user.fine", "v");
	tar_dir(t, "h/");
}
static ssize_t n_xattrs(int fs, const char *path)
{
	char names[512];
	autoclose int fd = openat(fs, path, O_RDONLY | O_NOFOLLOW);
	assert_true(fd >= 0);
	return flistxattr(fd, names, sizeof(names));
}
static void check_overlay(int fs)
{
	assert_int_equal(n_xattrs(fs, "d"), 0);
	assert_int_equal(n_xattrs(fs, "e"), 0);
	assert_int_equal(n_xattrs(fs, "f"), 0);
	assert_int_equal(n_xattrs(fs, "g"), 0);
	assert_int_equal(n_xattrs(fs, "h"), sizeof("user.fine"));
}
static void bad_cap(struct tar *t, const struct lab *l)
{
	tar_pax(t, "SCHILY.xattr.security.capability", "nonsense");
	tar_file(t, "f", "x");
}
static void many_xattrs(struct tar *t, const struct lab *l)
{
	auto_strbuf sb = STRBUF_INIT;
	for (int i = 0; i < 400; i++)
		sb_addf(&sb, "%d SCHILY.xattr.user.k%03d=v\n", 27, i);
	tar_head(t, "pax", 'x', sb.len, NULL);
	tar_body(t, sb.s, sb.len);
	tar_file(t, "f", "x");
}
static void fat_xattr(struct tar *t, const struct lab *l)
{
	autofree char *v = malloc(200000);
	memset(v, 'v', 200000);
	tar_paxn(t, "SCHILY.xattr.user.fat", v, 200000);
	tar_file(t, "f", "x");
}

/* ---- sizes and bombs ---- */

static void huge_size(struct tar *t, const struct lab *l)
{
	unsigned char *h = tar_head(t, "f", '0', 0, NULL);
	memset(h + 124, 0, 12);
	h[124] = 0x80;
	h[128] = 0x3f;
	tar_sum(h);
}
static void negative_size(struct tar *t, const struct lab *l)
{
	unsigned char *h = tar_head(t, "f", '0', 0, NULL);
	memset(h + 124, 0xff, 12);
	tar_sum(h);
}
static void many_entries(struct tar *t, const struct lab *l)
{
	for (int i = 0; i < 3000; i++) {
		autofree char *n = str_fmt("f%d", i);
		tar_file(t, n, "");
	}
}
static void implied_entries(struct tar *t, const struct lab *l)
{
	for (int i = 0; i < 400; i++) {
		autofree char *n = str_fmt("a%d/b/c/d/e/f", i);
		tar_file(t, n, "");
	}
}
static void many_bytes(struct tar *t, const struct lab *l)
{
	autofree char *v = calloc(1, 3 << 20);
	tar_head(t, "f", '0', 3 << 20, NULL);
	tar_body(t, v, 3 << 20);
}
static void pax_bomb(struct tar *t, const struct lab *l)
{
	autofree char *v = malloc(8 << 20);
	memset(v, 'p', 8 << 20);
	tar_paxn(t, "comment", v, 8 << 20);
	tar_file(t, "f", "x");
}
static void pax_claim(struct tar *t, const struct lab *l)
{
	unsigned char *h = tar_head(t, "pax", 'x', 0, NULL);
	memset(h + 124, 0, 12);
	h[124] = 0x80;
	h[131] = 4;
	tar_sum(h);
	tar_file(t, "f", "x");
}
static void long_bomb(struct tar *t, const struct lab *l)
{
	autofree char *v = malloc((8 << 20) + 1);
	memset(v, 'L', 8 << 20);
	v[8 << 20] = 0;
	tar_gnu_long(t, 'L', v);
	tar_file(t, "f", "x");
}
static void pax_rec(struct strbuf *sb, const char *key, const char *value)
{
	size_t n = strlen(key) + strlen(value) + 3, digits = 1;
	for (size_t d = 10; n + digits >= d; d *= 10)
		digits++;
	sb_addf(sb, "%zu %s=%s\n", n + digits, key, value);
}
/* A hole that costs nothing here and everything to whoever copies it. */
static void sparse_bomb(struct tar *t, const struct lab *l)
{
	auto_strbuf sb = STRBUF_INIT;
	pax_rec(&sb, "GNU.sparse.major", "1");
	pax_rec(&sb, "GNU.sparse.minor", "0");
	pax_rec(&sb, "GNU.sparse.name", "bomb");
	pax_rec(&sb, "GNU.sparse.realsize", "4398046511104");
	tar_head(t, "pax", 'x', sb.len, NULL);
	tar_body(t, sb.s, sb.len);
	tar_head(t, "bomb", '0', 512, NULL);
	tar_body(t, "1\n4398046511104\n0\n", 18);
}
static void sparse_map_bomb(struct tar *t, const struct lab *l)
{
	/* old GNU: a chain of map blocks, each held in memory */
	unsigned char *h = tar_head(t, "f", 'S', 0, NULL);
	memcpy(h + 257, "ustar  ", 8);
	h[482] = 1;
	tar_oct(h + 483, 11, 07777777);
	tar_sum(h);
	for (int i = 0; i < 100000; i++) {
		unsigned char x[512] = { 0 };
		for (int k = 0; k < 21; k++) {
			tar_oct(x + 24 * k, 11, (uint64_t)(i * 21 + k));
			tar_oct(x + 24 * k + 12, 11, 0);
		}
		x[504] = 1;
		sb_addn(&t->b, x, 512);
	}
}

/* ---- broken ---- */

static void bad_sum(struct tar *t, const struct lab *l)
{
	tar_file(t, "a", "x");
	tar_head(t, "b", '0', 0, NULL)[148] ^= 7;
}
static void cut_data(struct tar *t, const struct lab *l)
{
	tar_head(t, "f", '0', 100000, NULL);
	tar_body(t, "short", 5);
}
static void cut_header(struct tar *t, const struct lab *l)
{
	tar_file(t, "a", "x");
	sb_addn(&t->b, "b\0\0", 3);
}
static void cut_end(struct tar *t, const struct lab *l) { tar_file(t, "a", "x"); }
static void garbage(struct tar *t, const struct lab *l)
{
	for (int i = 0; i < 4096; i++)
		sb_addc(&t->b, (char)(i * 7 + 3));
}
static void nothing(struct tar *t, const struct lab *l) {}

static const struct hostile corpus[] = {
	{ "dotdot", dotdot, VPS_EBADIMAGE },
	{ "dotdot_first", dotdot_first, VPS_EBADIMAGE },
	{ "absolute", absolute, 0 },
	{ "pax_dotdot", pax_dotdot, VPS_EBADIMAGE },
	{ "long_part", long_part, VPS_EBADIMAGE },
	{ "long_path", long_path, VPS_EBADIMAGE },
	{ "no_name", no_name, VPS_EBADIMAGE },
	{ "root_link", root_link, VPS_EBADIMAGE },
	{ "root_file", root_file, VPS_EBADIMAGE },
	{ "link_then_file", link_then_file, 0, check_inside },
	{ "link_up_then_file", link_up_then_file, 0, check_inside },
	{ "link_chain", link_chain, 0 },
	{ "link_loop", link_loop, VPS_EBADIMAGE, .words = "too many symbolic links" },
	{ "link_swap", link_swap, 0 },
	{ "link_overwrite", link_overwrite, 0, check_overwrite },
	{ "below_file", below_file, VPS_EBADIMAGE },
	{ "link_fanout", link_fanout, VPS_EBADIMAGE },
	{ "hard_out", hard_out, VPS_EBADIMAGE },
	{ "hard_abs", hard_abs, VPS_EBADIMAGE },
	{ "hard_through", hard_through, VPS_EBADIMAGE },
	{ "hard_through_inside", hard_through_inside, VPS_EBADIMAGE },
	{ "hard_to_link", hard_to_link, 0, check_hard_to_link },
	{ "hard_dir", hard_dir, VPS_EBADIMAGE },
	{ "hard_missing", hard_missing, VPS_EBADIMAGE },
	{ "hard_root", hard_root, VPS_EBADIMAGE },
	{ "hard_self", hard_self, 0, check_hard_self },
	{ "hard_in_replaced", hard_in_replaced, VPS_EBADIMAGE },
	{ "wh_bare", wh_bare, VPS_EBADIMAGE },
	{ "wh_dot", wh_dot, VPS_EBADIMAGE },
	{ "wh_dotdot", wh_dotdot, VPS_EBADIMAGE },
	{ "wh_meta", wh_meta, VPS_EBADIMAGE },
	{ "wh_dir", wh_dir, VPS_EBADIMAGE },
	{ "wh_parent", wh_parent, VPS_EBADIMAGE },
	{ "wh_content", wh_content, VPS_EBADIMAGE },
	{ "wh_link", wh_link, VPS_EBADIMAGE },
	{ "wh_hard", wh_hard, VPS_EBADIMAGE },
	{ "wh_opq_link", wh_opq_link, 0 },
	{ "wh_forged", wh_forged, 0, check_forged },
	{ "hard_refused", hard_refused, 0, check_nodev },
	{ "many_devs", many_devs, VPS_EBADIMAGE },
	{ "replace", replace, 0, check_replace },
	{ "deep", deep, 0 },
	{ "big_uid", big_uid, VPS_EBADIMAGE },
	{ "top_uid", top_uid, 0, check_top_uid },
	{ "negative_uid", negative_uid, VPS_EBADIMAGE },
	{ "pax_uid", pax_uid, VPS_EBADIMAGE },
	{ "overlay_xattr", overlay_xattr, 0, check_overlay },
	{ "bad_cap", bad_cap, VPS_EBADIMAGE },
	{ "many_xattrs", many_xattrs, VPS_EBADIMAGE },
	{ "fat_xattr", fat_xattr, VPS_EBADIMAGE },
	{ "huge_size", huge_size, VPS_EBADIMAGE },
	{ "negative_size", negative_size, VPS_EBADIMAGE },
	{ "many_entries", many_entries, VPS_EBADIMAGE, NULL, { .entries = 1000 } },
	{ "implied_entries", implied_entries, VPS_EBADIMAGE, NULL, { .entries = 1000 } },
	{ "many_headers", many_entries, VPS_EBADIMAGE, NULL, { .bytes = 1 << 20 } },
	{ "many_bytes", many_bytes, VPS_EBADIMAGE, NULL, { .bytes = 1 << 20 } },
	{ "pax_bomb", pax_bomb, VPS_EBADIMAGE },
	{ "pax_claim", pax_claim, VPS_EBADIMAGE },
	{ "long_bomb", long_bomb, VPS_EBADIMAGE },
	{ "sparse_bomb", sparse_bomb, VPS_EBADIMAGE, .words = "over the cap" },
	{ "sparse_map_bomb", sparse_map_bomb, VPS_EBADIMAGE },
	{ "bad_sum", bad_sum, VPS_EBADIMAGE },
	{ "cut_data", cut_data, VPS_EBADIMAGE, .no_end = true },
	{ "cut_header", cut_header, VPS_EBADIMAGE, .no_end = true },
	{ "cut_end", cut_end, VPS_EBADIMAGE, .no_end = true },
	{ "garbage", garbage, VPS_EBADIMAGE, .no_end = true },
	{ "nothing", nothing, VPS_EBADIMAGE, .no_end = true },
	{ "only_end", nothing, VPS_EBADIMAGE },
};

static void lab_open(struct lab *l, struct test_dir *t)
{
	l->t = t;
	l->s = test_store(t->fd, "root");
	snprintf(l->canary, sizeof(l->canary), "%s/canary", t->path);
	assert_int_equal(fs_mkdir_p(t->fd, "canary/sub", 0755), 0);
	put_file(t->fd, "canary/f", "the canary sings");
	put_file(t->fd, "canary/sub/g", "too");
	assert_int_equal(symlinkat("f", t->fd, "canary/link"), 0);
}

static int import(struct lab *l, int fd, const struct img_caps *caps, struct img_info *i,
		  struct vps_err *err)
{
	struct img_opts o = { .caps = *caps };
	return img_import_rootfs_fd(l->s, fd, "hostile:1", &o, i, err);
}

static void run_one(struct lab *l, const struct hostile *h)
{
	auto_tar t = { 0 };
	struct vps_err err = { 0 };
	auto_done(img_info_done) struct img_info i = { 0 };
	h->make(&t, l);
	if (!h->no_end)
		tar_end(&t);
	autoclose int fd = mem_fd(t.b.s ? t.b.s : "", t.b.len);
	autofree char *canary = tree_text(l->t->fd, "canary", true);
	autofree char *store = tree_text(l->t->fd, "root", false);
	unsigned fds = count_fds();
	int r = import(l, fd, &h->caps, &i, &err);
	autofree char *canary2 = tree_text(l->t->fd, "canary", true);
	assert_string_equal(canary, canary2);
	assert_int_equal(fds, count_fds());
	if (getenv("VPS_TEST_VERBOSE"))
		print_message("%s: %d %s\n", h->name, r, err.msg);
	if (r != -h->want)
		fail_msg("%s: %d (%s), not %d", h->name, r, err.msg, -h->want);
	if (h->words && !strstr(err.msg, h->words))
		fail_msg("%s: %s", h->name, err.msg);
	if (r < 0) {
		autofree char *store2 = tree_text(l->t->fd, "root", false);
		if (!str_eq(store, store2))
			fail_msg("%s: the store changed:\n%s\nnow\n%s", h->name, store, store2);
		assert_true(err.msg[0]);
		return;
	}
	autoclose int fs = img_layer_open(l->s, i.layers[0], &err);
	assert_true(fs >= 0);
	autoclose int dir = fs_open_dir(fs, ".");
	if (h->check)
		h->check(dir);
	assert_int_equal(img_remove(l->s, "hostile:1", false, &err), 0);
	assert_int_equal(img_gc(l->s, false, NULL, &err), 0);
}

static void test_corpus(void **state)
{
	struct lab l;
	lab_open(&l, *state);
	/* the first gc makes the lock file, which stays */
	assert_int_equal(img_gc(l.s, false, NULL, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(corpus); i++)
		run_one(&l, &corpus[i]);
	img_store_close(l.s);
}

/* ---- what is recorded ---------------------------------------------------------------- */

static void test_refused_list(void **state)
{
	struct lab l;
	auto_tar t = { 0 };
	struct vps_err err = { 0 };
	struct img_caps caps = { 0 };
	auto_done(img_info_done) struct img_info i = { 0 };
	lab_open(&l, *state);
	tar_dev(&t, "dev/sda", '4', 8, 0);
	tar_dev(&t, "dev/\033[2Jevil", '3', 1, 3);
	tar_file(&t, "etc/passwd", "root:x:0:0\n");
	tar_end(&t);
	autoclose int fd = mem_fd(t.b.s, t.b.len);
	assert_int_equal(import(&l, fd, &caps, &i, &err), 0);
	assert_int_equal(strv_len(i.refused), 2);
	assert_string_equal(i.refused[0], "dev/sda b 8:0");
	assert_string_equal(i.refused[1], "dev/\\x1b[2Jevil c 1:3");
	img_store_close(l.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_corpus),
		dir_test(test_refused_list),
	};
	if (geteuid() != 0) {
		printf("skipped: unpacking needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
