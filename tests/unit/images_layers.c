/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Benign archives: the same as GNU tar unpacks; layers over layers; out and in again. */
#include "images_tar.h"

#include <sched.h>
#include <sys/mount.h>

#include "base/proc.h"
#include "base/sys.h"

/* Before any fd is opened: overlayfs takes layers of its own mount namespace only. */
static bool own_mounts;

static int sh(const char *cmd)
{
	char *argv[] = { (char *)"sh", (char *)"-ec", (char *)cmd, NULL };
	struct proc_opts o = PROC_OPTS_INIT;
	struct vps_err err = { 0 };
	int r = proc_run(argv, &o, &err);
	if (r)
		print_message("%s: %d %s\n", cmd, r, err.msg);
	return r;
}

/* ---- beside GNU tar --------------------------------------------------------------- */

static void set_time(int dirfd, const char *path, time_t s, long ns)
{
	struct timespec ts[2] = { { s, ns }, { s, ns } };
	assert_int_equal(utimensat(dirfd, path, ts, AT_SYMLINK_NOFOLLOW), 0);
}

static void put_xattr(int dirfd, const char *path, const char *name, const void *v, size_t n)
{
	autoclose int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW);
	assert_true(fd >= 0);
	assert_int_equal(fsetxattr(fd, name, v, n, 0), 0);
}

static void make_sample(int d)
{
	static const char *const dirs[] = { "bin", "etc/deep/er", "tmp", "var/empty", "setgid" };
	char longname[200];
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		assert_int_equal(fs_mkdir_p(d, dirs[i], 0755), 0);
	put_file(d, "bin/su", "suid");
	assert_int_equal(fchownat(d, "bin/su", 0, 4, 0), 0);
	assert_int_equal(fchmodat(d, "bin/su", 06755, 0), 0);
	assert_int_equal(fchmodat(d, "tmp", 01777, 0), 0);
	put_file(d, "setgid/child", "x");
	assert_int_equal(fchownat(d, "setgid", 0, 50, 0), 0);
	assert_int_equal(fchmodat(d, "setgid", 02775, 0), 0);
	assert_int_equal(fchmodat(d, "var/empty", 0, 0), 0);
	put_file(d, "etc/passwd", "root:x:0:0::/:/bin/sh\n");
	assert_int_equal(fchownat(d, "etc/passwd", 1000, 65535, 0), 0);
	assert_int_equal(linkat(d, "etc/passwd", d, "etc/passwd-", 0), 0);
	assert_int_equal(linkat(d, "etc/passwd", d, "etc/deep/er/link", 0), 0);
	assert_int_equal(symlinkat("../bin/su", d, "etc/su"), 0);
	assert_int_equal(fchownat(d, "etc/su", 7, 8, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(symlinkat("/absolute/nowhere", d, "etc/abs"), 0);
	assert_int_equal(linkat(d, "etc/abs", d, "etc/abs2", 0), 0);
	assert_int_equal(mkfifoat(d, "tmp/fifo", 0640), 0);
	put_file(d, "etc/e\xcc\x81nfd", "decomposed");
	put_file(d, "etc/\xc3\xa9nfd", "composed");
	put_file(d, "etc/bad\xff\xfe utf8", "raw");
	put_file(d, "etc/new\nline", "raw");
	memset(longname, 'n', sizeof(longname));
	longname[199] = 0;
	put_file(d, longname, "long");
	assert_int_equal(fs_mkdir_p(d, "var/a/b/c", 0755), 0);
	autofree char *deep = str_fmt("var/a/b/c/%s", longname);
	assert_int_equal(fs_mkdir_p(d, deep, 0700), 0);
	autofree char *deepf = str_fmt("%s/%s", deep, longname);
	put_file(d, deepf, "deep");
	put_file(d, "empty", "");

	autoclose int sparse = openat(d, "sparse", O_RDWR | O_CREAT, 0600);
	assert_int_equal(pwrite(sparse, "begin", 5, 0), 5);
	assert_int_equal(pwrite(sparse, "middle", 6, 3 << 20), 6);
	assert_int_equal(ftruncate(sparse, 64 << 20), 0);
	autoclose int hole = openat(d, "hole", O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(hole, 5 << 20), 0);

	static const unsigned char cap[20] = { 1, 0, 0, 2, 0, 0x20 };
	static const unsigned char acl[] = { 2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
					     2, 0, 4, 0, 0xe8, 3, 0, 0,
					     4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
					     0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
					     0x20, 0, 4, 0, 0xff, 0xff, 0xff, 0xff };
	put_file(d, "bin/ping", "capable");
	put_xattr(d, "bin/ping", "security.capability", cap, sizeof(cap));
	put_xattr(d, "etc/passwd", "user.note", "a\0b=c\n", 6);
	put_xattr(d, "etc/deep", "user.dir", "v", 1);
	put_file(d, "etc/acl", "x");
	put_xattr(d, "etc/acl", "system.posix_acl_access", acl, sizeof(acl));
	put_xattr(d, "etc/deep", "system.posix_acl_default", acl, sizeof(acl));
	set_time(d, "etc/passwd", 1234567890, 123456789);
	set_time(d, "etc/su", 1100000000, 0);
	set_time(d, "tmp/fifo", 1, 0);
	set_time(d, "empty", -3600, 0); /* before 1970 */
	set_time(d, "etc/deep/er", 1200000001, 5);
	set_time(d, "etc/deep", 1200000002, 0);
	set_time(d, "etc", 1200000003, 0);
	set_time(d, "setgid", 1200000004, 0);
	set_time(d, "bin", 1200000005, 0);
	set_time(d, "tmp", 1200000006, 0);
	set_time(d, ".", 1200000007, 0);
}

static void import_file(struct img_store *s, const char *path, const char *ref, struct img_info *i)
{
	struct vps_err err = { 0 };
	assert_ok(img_import(s, path, IMG_AUTO, ref, NULL, i, &err), &err);
}

static char *layer_text(struct img_store *s, const char *chain)
{
	struct vps_err err = { 0 };
	autoclose int fs = img_layer_open(s, chain, &err);
	assert_true(fs >= 0);
	return tree_text(fs, ".", true);
}

static uint64_t blocks(int dirfd, const char *path)
{
	struct stat st;
	assert_int_equal(fstatat(dirfd, path, &st, 0), 0);
	return (uint64_t)st.st_blocks;
}

static void beside(struct test_dir *t, struct img_store *s, const char *make, const char *extract)
{
	auto_done(img_info_done) struct img_info i = { 0 };
	autofree char *cmd = str_fmt("cd %s; rm -rf ref; mkdir ref; tar -C sample %s -cf a.tar .; "
				     "tar -C ref %s -xpf a.tar --numeric-owner", t->path, make, extract);
	assert_int_equal(sh(cmd), 0);
	autofree char *path = str_fmt("%s/a.tar", t->path);
	import_file(s, path, "beside:1", &i);
	autofree char *ours = layer_text(s, i.layers[0]);
	autofree char *theirs = tree_text(t->fd, "ref", true);
	if (!str_eq(ours, theirs)) {
		put_file(t->fd, "ours", ours);
		put_file(t->fd, "theirs", theirs);
		autofree char *diff = str_fmt("cd %s; diff -a theirs ours >&2; true", t->path);
		if (system(diff))
			print_message("no diff\n");
		fail_msg("tar %s: differs from GNU tar", make);
	}
	if (!strstr(make, "--sparse"))
		return;
	autoclose int fs = img_layer_open(s, i.layers[0], NULL);
	assert_true(blocks(fs, "sparse") < 128);
	assert_true(blocks(fs, "hole") < 16);
}

static void test_beside_tar(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	assert_int_equal(fs_mkdir_p(t->fd, "sample", 0755), 0);
	autoclose int d = fs_open_dir(t->fd, "sample");
	make_sample(d);
	beside(t, s, "--format=gnu", "");
	beside(t, s, "--format=gnu --sparse", "");
	beside(t, s, "--format=pax", "");
	beside(t, s, "--format=pax --sparse --xattrs --xattrs-include=* --acls",
	       "--xattrs --xattrs-include=* --acls");
	beside(t, s, "--format=pax --sparse --sparse-version=0.1 --hard-dereference", "");
	beside(t, s, "--format=oldgnu --sparse", "");
	img_store_close(s);
}

/* The same content is the same image, however it is packed and wherever it comes from. */
static void test_packings(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	static const char *const filters[] = { "gzip", "xz", "zstd", "bzip2" };
	char first[DIGEST_LEN] = "";
	auto_tar tar = { 0 };
	tar_file(&tar, "etc/hostname", "a");
	tar_file(&tar, "etc/issue", "b");
	tar_end(&tar);
	for (size_t k = 0; k <= ARRAY_LEN(filters); k++) {
		auto_done(img_info_done) struct img_info i = { 0 };
		autoclose int fd = k == ARRAY_LEN(filters) ?
					   mem_fd(tar.b.s, tar.b.len) :
					   packed_fd(tar.b.s, tar.b.len, filters[k], NULL);
		assert_ok(img_import_rootfs_fd(s, fd, "same:1", NULL, &i, &err), &err);
		if (!first[0])
			memcpy(first, i.digest, DIGEST_LEN);
		assert_string_equal(first, i.digest);
	}
	img_store_close(s);
}

/* No digest is known of a root file system: the packing's own checksum must hold. */
static void test_gzip(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	auto_tar tar = { 0 };
	struct stat st;
	char text[4096];
	unsigned refused = 0, flips = 0;
	for (unsigned i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)('!' + (i * i * 7 + i / 3) % 90);
	text[sizeof(text) - 1] = 0;
	tar_file(&tar, "etc/text", text);
	tar_end(&tar);
	autoclose int fd = packed_fd(tar.b.s, tar.b.len, "gzip", NULL);
	assert_int_equal(fstat(fd, &st), 0);
	size_t n = (size_t)st.st_size;
	autofree char *p = malloc(3 * n + 512);
	assert_int_equal(read(fd, p, n), n);
	for (size_t i = 10; i < n; i += 7, flips++) {
		p[i] ^= 4;
		autoclose int bad = mem_fd(p, n);
		p[i] ^= 4;
		int r = img_import_rootfs_fd(s, bad, "x:1", NULL, NULL, NULL);
		refused += r == -VPS_EBADIMAGE;
	}
	assert_int_equal(refused, flips);
	/* several members are one stream; padding is fine, junk is not */
	autoclose int head = packed_fd(tar.b.s, 700, "gzip", NULL);
	autoclose int tail = packed_fd(tar.b.s + 700, tar.b.len - 700, "gzip", NULL);
	ssize_t a = read(head, p, n), b = a > 0 ? read(tail, p + a, 2 * n) : -1;
	assert_true(b > 0);
	memset(p + a + b, 0, 512);
	autoclose int two = mem_fd(p, (size_t)(a + b) + 512);
	auto_done(img_info_done) struct img_info i = { 0 };
	assert_ok(img_import_rootfs_fd(s, two, "x:1", NULL, &i, &err), &err);
	autoclose int fs = img_layer_open(s, i.layers[0], &err);
	assert_file(fs, "etc/text", text);
	p[a + b] = 'j';
	autoclose int junk = mem_fd(p, (size_t)(a + b) + 512);
	assert_int_equal(img_import_rootfs_fd(s, junk, "x:1", NULL, NULL, NULL), -VPS_EBADIMAGE);
	img_store_close(s);
}

/* ---- layers over layers -------------------------------------------------------------- */

static bool is_whiteout(int fs, const char *path)
{
	struct stat st;
	return fstatat(fs, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == 0;
}

static bool is_opaque(int fs, const char *path)
{
	char y = 0;
	autoclose int fd = openat(fs, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	return fd >= 0 && fgetxattr(fd, "trusted.overlay.opaque", &y, 1) == 1 && y == 'y';
}

static void make_base(struct tar *t)
{
	t->mode = 0711;
	tar_dir(t, "./");
	t->mode = 0;
	tar_dir(t, "usr/");
	tar_dir(t, "usr/lib/");
	tar_file(t, "usr/lib/old", "1");
	tar_file(t, "usr/lib/kept", "1");
	tar_sym(t, "lib", "usr/lib");
	t->mode = 01777;
	tar_dir(t, "tmp/");
	t->mode = 0750;
	t->uid = 33;
	t->mtime = 1111111111;
	tar_dir(t, "srv/");
	t->mode = 0;
	t->uid = 0;
	t->mtime = 0;
	tar_file(t, "srv/a", "1");
	tar_file(t, "srv/b", "1");
	tar_dir(t, "opt/");
	tar_file(t, "opt/x", "1");
	tar_file(t, "etc/gone", "1");
	tar_file(t, "etc/stays", "1");
	tar_end(t);
}

static void make_upper(struct tar *t)
{
	tar_file(t, "usr/.wh..wh..opq", "");
	tar_file(t, "tmp/new", "2"); /* parent not listed: keeps 1777 */
	tar_file(t, "srv/c", "2");
	tar_file(t, "srv/.wh.a", "");
	tar_file(t, "lib/more", "2"); /* through the lower layer's link */
	tar_file(t, "lib/.wh.old", "");
	tar_file(t, ".wh.opt", ""); /* gone, and made anew */
	tar_dir(t, "opt/");
	tar_file(t, "opt/y", "2");
	tar_file(t, ".wh.nothing", ""); /* nothing there to hide */
	tar_file(t, "srv/b", "2");
	tar_file(t, "srv/.wh.b", ""); /* speaks of below only */
	tar_dir(t, "usr/");
	tar_file(t, "etc/.wh.gone", "");
	tar_end(t);
}

static void test_whiteouts(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	struct stat st;
	auto_work struct img_work w = IMG_WORK_INIT;
	auto_tar base = { 0 }, upper = { 0 };
	auto_done(img_layer_done) struct img_layer lb = { 0 }, lu = { 0 };
	make_base(&base);
	make_upper(&upper);
	assert_ok(img_work_begin(s, &w, &err), &err);
	assert_ok(test_layer(&w, &base, NULL, NULL, &lb, &err), &err);
	assert_ok(test_layer(&w, &upper, lb.chain, NULL, &lu, &err), &err);
	assert_string_not_equal(lu.chain, lu.diff_id);
	autoclose int fs = img_layer_open(s, lu.chain, &err);
	assert_true(fs >= 0);
	assert_int_equal(fstat(fs, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_int_equal(fstatat(fs, "tmp", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 01777);
	assert_int_equal(fstatat(fs, "srv", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(st.st_uid, 33);
	assert_int_equal(st.st_mtim.tv_sec, 1111111111);
	assert_true(is_whiteout(fs, "srv/a"));
	assert_file(fs, "srv/b", "2");
	assert_file(fs, "usr/lib/more", "2");
	assert_false(fs_exists(fs, "usr/lib/old"));
	assert_true(is_whiteout(fs, "etc/gone"));
	assert_false(fs_exists(fs, "lib"));
	assert_true(is_opaque(fs, "opt"));
	assert_file(fs, "opt/y", "2");
	assert_false(fs_exists(fs, "nothing"));
	assert_true(is_opaque(fs, "usr"));
	assert_false(is_opaque(fs, "srv"));
	img_work_end(&w);
	/* nobody registered them */
	assert_int_equal(img_layer_open(s, lu.chain, NULL), -VPS_ENOIMAGE);
	img_store_close(s);
}

/* As the kernel's overlayfs sees it. */
static void test_overlay(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	auto_work struct img_work w = IMG_WORK_INIT;
	auto_tar base = { 0 }, upper = { 0 };
	auto_done(img_layer_done) struct img_layer lb = { 0 }, lu = { 0 };
	make_base(&base);
	make_upper(&upper);
	assert_ok(img_work_begin(s, &w, &err), &err);
	assert_ok(test_layer(&w, &base, NULL, NULL, &lb, &err), &err);
	assert_ok(test_layer(&w, &upper, lb.chain, NULL, &lu, &err), &err);
	autoclose int f1 = img_layer_open(s, lu.chain, &err), f2 = img_layer_open(s, lb.chain, &err);
	autofree char *opts = str_fmt("lowerdir=/proc/self/fd/%d:/proc/self/fd/%d", f1, f2);
	autofree char *at = str_fmt("%s/mnt", t->path);
	assert_int_equal(mkdir(at, 0700), 0);
	if (!own_mounts || mount("o", at, "overlay", MS_RDONLY, opts) < 0) {
		print_message("skipped: no overlayfs here: %s\n", strerror(errno));
		skip();
	}
	autofree char *cmd = str_fmt("cd %s; find . ! -type d | sort > ../list", at);
	int r = sh(cmd);
	umount2(at, MNT_DETACH);
	assert_int_equal(r, 0);
	assert_file(t->fd, "list", "./etc/stays\n./lib\n./opt/y\n./srv/b\n./srv/c\n./tmp/new\n./usr/lib/more\n");
	img_work_end(&w);
	img_store_close(s);
}

/* ---- being wrong, late --------------------------------------------------------------- */

static void test_diff_id(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	char wrong[DIGEST_LEN];
	auto_tar tar = { 0 };
	tar_file(&tar, "f", "x");
	tar_end(&tar);
	digest_of("other", 5, wrong);
	assert_int_equal(img_gc(s, false, NULL, NULL), 0);
	autofree char *before = tree_text(t->fd, "root", false);
	{
		auto_work struct img_work w = IMG_WORK_INIT;
		assert_ok(img_work_begin(s, &w, &err), &err);
		assert_int_equal(test_layer(&w, &tar, NULL, wrong, NULL, &err), -VPS_EDIGEST);
	}
	autofree char *after = tree_text(t->fd, "root", false);
	assert_string_equal(before, after);
	img_store_close(s);
}

/* An OCI tar of two layers by our own export, then one byte after the other flipped in steps. */
static void test_bit_flips(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root"), *s2 = test_store(t->fd, "root2");
	struct vps_err err = { 0 };
	auto_tar tar = { 0 };
	tar_file(&tar, "etc/hostname", "flip me");
	tar_end(&tar);
	autoclose int fd = mem_fd(tar.b.s, tar.b.len);
	assert_ok(img_import_rootfs_fd(s, fd, "flip:1", NULL, NULL, &err), &err);
	autofree char *path = str_fmt("%s/out.tar", t->path);
	autofree char *bad = str_fmt("%s/bad.tar", t->path);
	assert_ok(img_export(s, "flip:1", path, IMG_AUTO, NULL, &err), &err);
	autofree char *text = NULL;
	size_t len;
	assert_int_equal(fs_read(t->fd, "out.tar", 1 << 20, &text, &len), 0);
	assert_int_equal(img_gc(s2, false, NULL, NULL), 0);
	autofree char *before = tree_text(t->fd, "root2", false);
	unsigned refused = 0, taken = 0;
	for (size_t i = 0; i < len; i += 37) {
		text[i] ^= 1;
		autoclose int out = open(bad, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(fs_write_all(out, text, len), 0);
		text[i] ^= 1;
		struct vps_err e = { 0 };
		auto_done(img_info_done) struct img_info info = { 0 };
		if (img_import(s2, bad, IMG_AUTO, "flip:1", NULL, &info, &e) < 0) {
			autofree char *after = tree_text(t->fd, "root2", false);
			assert_string_equal(before, after);
			refused++;
			continue;
		}
		/* only what does not belong to the image may change: padding, names, annotations */
		autoclose int fs = img_layer_open(s2, info.layers[0], &e);
		assert_file(fs, "etc/hostname", "flip me");
		assert_int_equal(img_remove(s2, "flip:1", true, NULL), 0);
		assert_int_equal(img_gc(s2, false, NULL, NULL), 0);
		taken++;
	}
	print_message("%u flips refused, %u without effect\n", refused, taken);
	assert_true(refused > 50);
	img_store_close(s);
	img_store_close(s2);
}

/* ---- out and in again ------------------------------------------------------------------ */

static void round_trip(struct test_dir *t, struct img_store *s, enum img_format fmt)
{
	struct vps_err err = { 0 };
	struct img_store *s2 = test_store(t->fd, "root2");
	autofree char *a = str_fmt("%s/a.img", t->path), *b = str_fmt("%s/b.img", t->path);
	auto_done(img_info_done) struct img_info i1 = { 0 }, i2 = { 0 };
	assert_ok(img_inspect(s, "trip:1", &i1, &err), &err);
	assert_ok(img_export(s, "trip:1", a, fmt, NULL, &err), &err);
	assert_ok(img_import(s2, a, IMG_AUTO, NULL, NULL, &i2, &err), &err);
	assert_string_equal(i2.refs[0], "trip:1");
	assert_int_equal(i1.n_layers, i2.n_layers);
	for (size_t k = 0; k < i1.n_layers; k++) {
		autofree char *one = layer_text(s, i1.layers[k]);
		autofree char *two = layer_text(s2, i2.layers[k]);
		assert_string_equal(one, two);
	}
	/* a layer made anew comes out the same the next time */
	assert_ok(img_export(s2, "trip:1", b, fmt, NULL, &err), &err);
	autofree char *cmd = str_fmt("cmp %s %s", a, b);
	assert_int_equal(sh(cmd), 0);
	img_store_close(s2);
	assert_int_equal(fs_remove_tree(t->fd, "root2"), 0);
}

static void test_round_trip(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	assert_int_equal(fs_mkdir_p(t->fd, "sample", 0755), 0);
	autoclose int d = fs_open_dir(t->fd, "sample");
	make_sample(d);
	autofree char *cmd = str_fmt("tar -C %s/sample --format=pax --xattrs --xattrs-include='*' --acls "
				     "--sparse -cf %s/s.tar .", t->path, t->path);
	autofree char *path = str_fmt("%s/s.tar", t->path);
	auto_done(img_info_done) struct img_info i = { 0 };
	assert_int_equal(sh(cmd), 0);
	import_file(s, path, "trip:1", &i);
	round_trip(t, s, IMG_OCI_TAR);
	round_trip(t, s, IMG_DOCKER_ARCHIVE);
	img_store_close(s);
}

/* Two layers with whiteouts, registered by hand. */
static void test_round_trip_layers(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	auto_tar base = { 0 };
	auto_tar upper = { 0 };
	auto_done(img_layer_done) struct img_layer lb = { 0 }, lu = { 0 };
	char digest[DIGEST_LEN];
	make_base(&base);
	make_upper(&upper);
	{
		auto_work struct img_work w = IMG_WORK_INIT;
		assert_ok(img_work_begin(s, &w, &err), &err);
		assert_ok(test_layer(&w, &base, NULL, NULL, &lb, &err), &err);
		assert_ok(test_layer(&w, &upper, lb.chain, NULL, &lu, &err), &err);
		autofree char *conf = str_fmt("{\"architecture\":\"%s\",\"os\":\"linux\",\"rootfs\":{\"type\":"
					      "\"layers\",\"diff_ids\":[\"%s\",\"%s\"]},\"x\":[1,{\"y\":2}]}",
					      img_arch(), lb.diff_id, lu.diff_id);
		struct img_desc c = { .size = strlen(conf), .media_type = IMG_MT_CONFIG };
		struct img_desc l[2] = { { .size = lb.tar_size, .media_type = IMG_MT_LAYER },
					 { .size = lu.tar_size, .media_type = IMG_MT_LAYER } };
		memcpy(l[0].digest, lb.diff_id, DIGEST_LEN);
		memcpy(l[1].digest, lu.diff_id, DIGEST_LEN);
		assert_ok(img_blob_put(&w, conf, strlen(conf), c.digest, &err), &err);
		assert_ok(img_manifest_put(&w, &c, l, 2, digest, &err), &err);
		assert_ok(img_register(&w, digest, "trip:1", &err), &err);
	}
	round_trip(t, s, IMG_OCI_TAR);
	round_trip(t, s, IMG_DOCKER_ARCHIVE);
	img_store_close(s);
}

/* Kept blobs come out as they came in. */
static void test_keep(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root"), *s2 = test_store(t->fd, "root2");
	struct vps_err err = { 0 };
	struct img_opts o = { .keep_blobs = true };
	auto_tar tar = { 0 };
	tar_file(&tar, "no/parents/f", "x");
	tar_end(&tar);
	autoclose int fd = packed_fd(tar.b.s, tar.b.len, "gzip", NULL);
	auto_done(img_info_done) struct img_info i1 = { 0 }, i2 = { 0 };
	autofree char *path = str_fmt("%s/out", t->path);
	assert_ok(img_import_rootfs_fd(s, fd, "keep:1", &o, &i1, &err), &err);
	assert_ok(img_export(s, "keep:1", path, IMG_AUTO, NULL, &err), &err);
	assert_ok(img_import(s2, path, IMG_AUTO, NULL, &o, &i2, &err), &err);
	assert_string_equal(i1.digest, i2.digest);
	struct img_gc_result g;
	assert_ok(img_gc(s, false, &g, &err), &err);
	assert_int_equal(g.blobs + g.layers + g.images, 0);
	img_store_close(s);
	img_store_close(s2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_beside_tar), dir_test(test_packings),
		dir_test(test_gzip),
		dir_test(test_whiteouts),  dir_test(test_overlay),
		dir_test(test_diff_id),	   dir_test(test_bit_flips),
		dir_test(test_round_trip), dir_test(test_round_trip_layers),
		dir_test(test_keep),
	};
	if (geteuid() != 0) {
		printf("skipped: unpacking needs root\n");
		return 77;
	}
	own_mounts = unshare(CLONE_NEWNS) == 0 &&
		     mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
