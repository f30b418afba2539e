/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of disks: of each backend, still and in use, by reflink and by bytes. */
#include "tests/unit/images_disk_util.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#define PROJECT 700000u

static int sh(const char *dir, const char *script)
{
	autofree char *cmd = str_fmt("cd '%s' && { %s; }", dir, script);

	return system(cmd);
}

static char *out_of(const char *dir, const char *script)
{
	autofree char *cmd = str_fmt("cd '%s' && { %s; }", dir, script);
	struct strbuf sb = {0};
	FILE *p = popen(cmd, "r");
	char buf[4096];
	size_t n;

	while ((n = fread(buf, 1, sizeof(buf), p)) > 0)
		sb_addn(&sb, buf, n);
	assert_int_equal(pclose(p), 0);
	return sb_take(&sb);
}

/* All of a tree but access times and inode numbers: names, types, owners, times, contents, attributes. */
#define LOOK                                                                                       \
	"find . -printf '%P %y %m %U %G %s %T@ %n %l\\n' | sed -E 's/^([^ ]* d [0-7]+ [0-9]+ [0-9]+) [0-9]+/\\1/' | sort; " \
	"find . -type f -exec sha256sum {} + | sort; find . | sort | xargs -d '\\n' getfattr -dh -m - 2>/dev/null"

static void assert_same_tree(const char *a, const char *b)
{
	autofree char *x = out_of(a, LOOK);
	autofree char *y = out_of(b, LOOK);

	assert_true(strlen(x) > 100);
	assert_string_equal(x, y);
}

#define MAKE_TREE                                                                                  \
	"mkdir -p d/e/f && echo hello >d/a && ln d/a d/e/hard && ln -s ../x d/soft && mkfifo d/p && " \
	"mknod d/gone c 0 0 && setfattr -n trusted.overlay.opaque -v y d/e && chmod 4711 d/a && "   \
	"chown 1000:1001 d/e && setfattr -n user.x -v 1 d/a && truncate -s 20M sparse && "          \
	"echo end >>sparse && head -c 3000000 /dev/urandom >big && setcap cap_net_raw+ep big && "   \
	"touch -d 2001-02-03 d/e/f big && chmod 1777 d && python3 -c 'import socket; "              \
	"socket.socket(socket.AF_UNIX).bind(\"d/s\")'"

static struct img_disk_spec make(struct test_dir *t, int dir, enum img_backend b, uint64_t size, int *ret_mount)
{
	struct img_disk_spec d = {.backend = b, .size = size, .project = PROJECT};
	struct vps_err err = {0};

	if (img_disk_create(dir, &d, &d.backend, &err) < 0)
		fail_msg("%s", err.msg);
	if (ret_mount && img_disk_attach(dir, d.backend, false, ret_mount, &err) < 0)
		fail_msg("%s", err.msg);
	return d;
}

static char *fd_path(int fd, const char *below)
{
	return str_fmt("/proc/%d/fd/%d/%s", (int)getpid(), fd, below);
}

static int subdir(struct test_dir *t, const char *name)
{
	assert_int_equal(mkdirat(t->fd, name, 0700), 0);
	int fd = fs_open_dir(t->fd, name);
	assert_true(fd >= 0);
	return fd;
}

static void copy(int from, const struct img_disk_spec *was, int to, const struct img_disk_spec *d,
		 const struct img_still *still)
{
	struct vps_err err = {0};

	if (img_disk_copy(from, was, to, d, still, NULL, &err) < 0)
		fail_msg("%s", err.msg);
}

/* What somebody does to a disk before it is still; and who counts. */
struct busy {
	const char *dir, *script;
	int frozen, thawed, mount, fail_thaw;
};

static int busy_freeze(void *arg, struct vps_err *err)
{
	struct busy *b = arg;

	b->frozen++;
	if (b->script && sh(b->dir, b->script) != 0)
		return vps_err_set(err, EIO, "script");
	return b->mount >= 0 && ioctl(b->mount, FIFREEZE, 0) < 0 ? vps_err_sys(err, -errno, "freeze") : 0;
}

static int busy_thaw(void *arg, struct vps_err *err)
{
	struct busy *b = arg;

	b->thawed++;
	if (b->mount >= 0 && ioctl(b->mount, FITHAW, 0) < 0)
		return vps_err_sys(err, -errno, "thaw");
	return b->fail_thaw ? vps_err_set(err, ETIMEDOUT, "it was not still") : 0;
}

static void dir_copies(void **state)
{
	struct test_dir *t = *state;
	autoclose int a = subdir(t, "a"), b = subdir(t, "b"), c = subdir(t, "c"), m = -1;
	struct img_disk_spec d = make(t, a, DISK_DIR, 0, &m);
	autofree char *upper = fd_path(m, "upper");
	autofree char *other = fd_path(b, "disk/fs/upper"), *third = fd_path(c, "disk/fs/upper");
	struct vps_err err = {0};

	assert_int_equal(sh(upper, MAKE_TREE), 0);
	assert_int_equal(sh(upper, "setfattr -n trusted.overlay.origin -v 0x00fb d/e"), 0);
	copy(a, &d, b, NULL, NULL);
	assert_int_not_equal(sh(other, "getfattr -n trusted.overlay.origin d/e 2>/dev/null"), 0);
	assert_int_equal(sh(upper, "setfattr -x trusted.overlay.origin d/e"), 0);
	assert_same_tree(upper, other);
	assert_int_equal(sh(other, "[ $(stat -c %b sparse) -lt 1000 ]"), 0);
	assert_int_equal(img_disk_copy(a, &d, b, NULL, NULL, NULL, &err), -VPS_EEXISTS);

	/* In use: between the rounds everything changes that can. */
	struct busy busy = {.dir = upper, .mount = -1, .script =
		"rm d/soft d/gone && mkdir d/gone && echo new >d/gone/x && mv d/e d/moved && rm d/a && "
		"echo other >d/a && printf X | dd of=big bs=1 seek=1000 conv=notrunc 2>/dev/null && "
		"chmod 600 sparse && setfattr -x user.x d/moved/hard && ln big d/big2 && mkfifo q && "
		"rm -r d/p && mkdir d/p && ln -s nowhere r" };
	const struct img_still still = {busy_freeze, busy_thaw, &busy};
	copy(a, &d, c, NULL, &still);
	assert_int_equal(busy.frozen, 1);
	assert_int_equal(busy.thawed, 1);
	assert_same_tree(upper, third);

	/* A thaw that came too early makes the copy worthless. */
	autoclose int e = subdir(t, "e");
	busy = (struct busy){.mount = -1, .fail_thaw = 1};
	vps_err_clear(&err);
	assert_int_equal(img_disk_copy(a, &d, e, NULL, &still, NULL, &err), -ETIMEDOUT);
	assert_false(fs_exists(e, "disk"));
	assert_false(fs_exists(e, "disk.tmp"));
}

/* The image of a file system that is written to all the time. */
static void loop_copies(void **state)
{
	struct test_dir *t = *state;
	autoclose int a = subdir(t, "a"), b = subdir(t, "b"), c = subdir(t, "c"), m = -1, n = -1;
	struct img_disk_spec d = make(t, a, DISK_LOOP, 64 * MIB, &m);
	struct img_disk_spec grown = {.backend = DISK_LOOP, .size = 96 * MIB};
	autofree char *upper = fd_path(m, "upper");
	struct vps_err err = {0};
	int stop[2];

	assert_int_equal(sh(upper, MAKE_TREE), 0);
	assert_int_equal(pipe(stop), 0);
	pid_t writer = fork();
	if (writer == 0) {
		close(stop[1]);
		for (unsigned i = 0; i < 200; i++) {
			autofree char *s = str_fmt("mkdir -p w && echo %u >w/f%u && head -c 100000 /dev/urandom >w/x && "
						   "cp w/f%u w/last && rm -f w/f%u", i, i, i, i / 2);
			sh(upper, s);
		}
		_exit(0);
	}
	close(stop[0]);
	close(stop[1]);
	autoclose int root = openat(m, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct busy busy = {.mount = root};
	const struct img_still still = {busy_freeze, busy_thaw, &busy};
	copy(a, &d, b, NULL, &still);
	assert_int_equal(busy.frozen, 1);
	assert_int_equal(busy.thawed, 1);
	int status;
	assert_int_equal(waitpid(writer, &status, 0), writer);
	assert_int_equal(status, 0);
	autofree char *img = fd_path(b, "disk/disk.img");
	assert_int_equal(run_cmd("e2fsck", "-fn", img), 0);
	/* it is sparse, too */
	struct stat st;
	assert_int_equal(stat(img, &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 < 32 * MIB);

	/* A copy of the copy, larger, and in use at once. */
	copy(b, &d, c, &grown, NULL);
	if (img_disk_attach(c, DISK_LOOP, false, &n, &err) < 0)
		fail_msg("%s", err.msg);
	autofree char *copied = fd_path(n, "upper");
	assert_int_equal(sh(upper, "rm -r w; touch -d 2003-04-05 ."), 0);
	assert_int_equal(sh(copied, "rm -r w; touch -d 2003-04-05 ."), 0);
	assert_same_tree(upper, copied);
	struct statfs sf;
	assert_int_equal(fstatfs(n, &sf), 0);
	assert_true((uint64_t)sf.f_blocks * (uint64_t)sf.f_bsize > 80 * MIB);
}

static void guests_stay_guests(void **state)
{
	struct test_dir *t = *state;
	autoclose int a = subdir(t, "a"), b = subdir(t, "b"), g = -1, m = -1;
	struct img_disk_spec d = make(t, a, DISK_LOOP, 16 * MIB, NULL);
	struct vps_err err = {0};

	assert_int_equal(img_disk_guest_open(a, false, &g, &err), 0);
	copy(a, &d, b, &d, NULL); /* the lock of who writes is no hindrance */
	assert_true(img_disk_is_guests(b));
	assert_int_equal(img_disk_attach(b, DISK_LOOP, false, &m, &err), -VPS_EUNSUPPORTED);
}

static bool no(void *arg, unsigned key, const char *what, uint64_t done, uint64_t total)
{
	return true;
}

static void interrupted(void **state)
{
	struct test_dir *t = *state;
	autoclose int a = subdir(t, "a"), b = subdir(t, "b");
	struct img_disk_spec d = make(t, a, DISK_LOOP, 16 * MIB, NULL);
	const struct progress p = {.fn = no};

	assert_int_equal(img_disk_copy(a, &d, b, NULL, NULL, &p, NULL), -VPS_EINTERRUPTED);
	assert_false(fs_exists(b, "disk"));
	assert_false(fs_exists(b, "disk.tmp"));
}

/* ---- the file systems ------------------------------------------------------------------ */

static bool make_fs(struct test_dir *t, const char *mkfs, const char *opts, int *ret_dir)
{
	autofree char *cmd = str_fmt("truncate -s 512M fs.img && mkdir -p fs && %s fs.img >/dev/null 2>&1 && "
				     "mount -o loop,%s fs.img fs 2>/dev/null", mkfs, opts);

	if (sh(t->path, cmd) != 0) {
		print_message("# SKIP: no %s here\n", mkfs);
		return false;
	}
	*ret_dir = fs_open_dir(t->fd, "fs");
	assert_true(*ret_dir >= 0);
	return true;
}

static int fs_teardown(void **state)
{
	struct test_dir *t = *state;
	autofree char *fs = str_fmt("%s/fs", t->path);

	umount2(fs, MNT_DETACH);
	return test_dir_remove(state);
}
#define fs_test(f) cmocka_unit_test_setup_teardown(f, test_dir_make, fs_teardown)

static uint64_t used(int dir)
{
	struct statfs sf;

	assert_int_equal(syncfs(dir), 0);
	assert_int_equal(fstatfs(dir, &sf), 0);
	return (uint64_t)(sf.f_blocks - sf.f_bfree) * (uint64_t)sf.f_bsize;
}

static int below(int dir, const char *name)
{
	assert_int_equal(mkdirat(dir, name, 0700), 0);
	return fs_open_dir(dir, name);
}

/* 30 MiB in a disk; a copy takes next to nothing of the host's. */
static void shares(struct test_dir *t, int dir, enum img_backend backend, uint64_t size)
{
	autoclose int a = below(dir, "a"), b = below(dir, "b"), c = below(dir, "c"), m = -1, n = -1;
	struct img_disk_spec d = make(t, a, backend, size, &m), other = d;
	autofree char *upper = fd_path(m, "upper");
	struct vps_err err = {0};

	assert_int_equal(sh(upper, MAKE_TREE " && head -c 30000000 /dev/urandom >large && sync"), 0);
	uint64_t before = used(dir);
	copy(a, &d, b, NULL, NULL);
	other.project = PROJECT + 1;
	copy(b, &d, c, &other, NULL);
	assert_true(used(dir) < before + 8 * MIB);
	if (img_disk_attach(c, d.backend, false, &n, &err) < 0)
		fail_msg("%s", err.msg);
	autofree char *copied = fd_path(n, "upper");
	assert_same_tree(upper, copied);
	if (backend == DISK_QUOTA) {
		assert_int_equal(img_disk_project(b), 0);
		assert_int_equal(img_disk_project(c), PROJECT + 1);
	}
	assert_int_equal(img_disk_destroy(b, backend, &err), 0);
	assert_same_tree(upper, copied);
}

static void on_xfs(void **state)
{
	struct test_dir *t = *state;
	autoclose int dir = -1;

	if (make_fs(t, "mkfs.xfs -q -m reflink=1", "noatime", &dir))
		shares(t, dir, DISK_LOOP, 128 * MIB);
}

static void on_xfs_quota(void **state)
{
	struct test_dir *t = *state;
	autoclose int dir = -1;

	if (make_fs(t, "mkfs.xfs -q -m reflink=1", "prjquota", &dir))
		shares(t, dir, DISK_QUOTA, 128 * MIB);
}

static void on_btrfs(void **state)
{
	struct test_dir *t = *state;
	autoclose int dir = -1;

	if (!make_fs(t, "mkfs.btrfs -q", "noatime", &dir))
		return;
	assert_int_equal(sh(t->path, "btrfs quota enable fs"), 0);
	shares(t, dir, DISK_BTRFS, 128 * MIB);
	autoclose int sub = below(dir, "sub");
	shares(t, sub, DISK_LOOP, 128 * MIB);
}

static void on_ext4_quota(void **state)
{
	struct test_dir *t = *state;
	autoclose int dir = -1;

	if (!make_fs(t, "mkfs.ext4 -q -F -O project,quota -E quotatype=prjquota", "prjquota", &dir))
		return;
	autoclose int a = below(dir, "a"), b = below(dir, "b"), m = -1;
	struct img_disk_spec d = make(t, a, DISK_QUOTA, 64 * MIB, &m), small = d;
	autofree char *upper = fd_path(m, "upper"), *other = fd_path(b, "disk/fs/upper");
	struct vps_err err = {0};

	assert_int_equal(sh(upper, MAKE_TREE), 0);
	copy(a, &d, b, NULL, NULL);
	assert_same_tree(upper, other);
	/* Into less than it takes. */
	autoclose int c = below(dir, "c");
	small.size = 1 * MIB;
	small.project = PROJECT + 1;
	assert_int_equal(img_disk_copy(b, &d, c, &small, NULL, NULL, &err), -VPS_ERESOURCE);
	assert_false(fs_exists(c, "disk.tmp"));
}

int main(void)
{
	need_root_ns();
	const struct CMUnitTest tests[] = {
		dir_test(dir_copies),
		dir_test(loop_copies),
		dir_test(guests_stay_guests),
		dir_test(interrupted),
		fs_test(on_xfs),
		fs_test(on_xfs_quota),
		fs_test(on_btrfs),
		fs_test(on_ext4_quota),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
