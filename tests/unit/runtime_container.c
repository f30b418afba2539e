/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The container driver on real namespaces, without cgroups or network: a root file system that holds nothing
 * but vps-init. What is asked inside runs through the driver's own inside(). Wants root.
 */
#include "tests/unit/base_util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/driver.h"

#define ID_BASE 0x6f000000u

struct fix {
	struct test_dir *dir;
	struct vps_spec spec;
	struct vps_conf conf;
	struct vps_run run;
	int layer;
	struct vps_launched l;
	bool up;
};

static char *idle[] = {(char *)"/vps-init", NULL};

static int make_fix(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	char *libexec = getenv("VPS_LIBEXEC");
	autofree char *bin = str_fmt("%s/vps-init", libexec ? libexec : ".");

	if (geteuid() != 0) {
		*state = NULL;
		free(f);
		return 0;
	}
	setenv("VPS_LIBEXEC", libexec ? libexec : ".", 1);
	if (test_dir_make((void **)&f->dir) < 0)
		return -1;
	int d = f->dir->fd;

	/* Others search the root, as they do an image's. */
	if (fchmod(d, 0755) < 0 || mkdirat(d, "layer", 0755) < 0 || mkdirat(d, "disk", 0755) < 0 ||
	    mkdirat(d, "disk/upper", 0755) < 0 || mkdirat(d, "disk/work", 0755) < 0)
		return -1;
	autofree char *text = NULL;
	size_t len;

	if (fs_read(AT_FDCWD, bin, 1 << 20, &text, &len) < 0 ||
	    fs_write_rename(d, "layer/vps-init", text, len, 0755) < 0)
		return -1;
	f->layer = openat(d, "layer", O_PATH | O_DIRECTORY | O_CLOEXEC);
	spec_init(&f->spec);
	f->spec.id_base = ID_BASE;
	f->spec.console = CONSOLE_PIPES;
	strcpy(f->spec.uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
	f->conf.root = f->dir->path;
	f->run = (struct vps_run){
		.spec = &f->spec, .conf = &f->conf, .layers = &f->layer, .n_layers = 1,
		.argv = idle, .lxcfs_root = -1, .checkpoint = -1, .instance_dir = -1, .run_dir = -1,
		.hostname = "inside",
	};
	*state = f;
	return 0;
}

static int drop_fix(void **state)
{
	struct fix *f = *state;

	if (!f)
		return 0;
	if (f->up) {
		sys_pidfd_send_signal(f->l.pidfd, SIGKILL);
		waitid(P_PIDFD, (id_t)f->l.pidfd, &(siginfo_t){0}, WEXITED);
	}
	close(f->layer);
	spec_done(&f->spec);
	int r = test_dir_remove((void **)&f->dir);

	free(f);
	return r;
}

#define fix_test(fn) cmocka_unit_test_setup_teardown(fn, make_fix, drop_fix)
#define need(f)                                              \
	do {                                                 \
		if (!(f)) {                                  \
			print_message("skipped: wants root\n"); \
			skip();                              \
		}                                            \
	} while (0)

static int launch(struct fix *f, struct vps_err *err)
{
	autofree char *disk = str_fmt("%s/disk", f->dir->path);

	autoclose int mnt = sys_open_tree(AT_FDCWD, disk, OPEN_TREE_CLONE);
	assert_true(mnt >= 0);
	f->run.disk_mount = mnt;
	int r = container_driver.launch(&f->run, &f->l, err);

	f->up = r == 0;
	return r;
}

static void up(struct fix *f)
{
	struct vps_err err = {0};

	if (launch(f, &err) < 0)
		fail_msg("launch: %s", err.msg);
	assert_int_equal(container_driver.release(&f->l, &err), 0);
}

static int ended(struct fix *f)
{
	siginfo_t si = {0};

	assert_int_equal(waitid(P_PIDFD, (id_t)f->l.pidfd, &si, WEXITED), 0);
	f->up = false;
	return si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
}

/* ---- asked inside: 0, or the number of the line that is wrong -------------------------- */

#define want(x)                          \
	do {                             \
		if (!(x))                \
			return __LINE__; \
	} while (0)

static int is_empty(const char *path)
{
	char c;
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, &c, 1) == 0;
}

static int ask_walls(void *arg, struct vps_err *err)
{
	struct stat st;
	char host[65];

	want(getuid() == 0 && getgid() == 0 && getpid() != 1);
	want(gethostname(host, sizeof(host)) == 0 && str_eq(host, "inside"));
	want(stat("/proc/1", &st) == 0 && st.st_uid == 0);
	/* Masks hold nothing and stay. */
	want(access("/proc/timer_list", F_OK) < 0 || is_empty("/proc/timer_list"));
	want(access("/proc/keys", F_OK) < 0 || is_empty("/proc/keys"));
	want(umount2("/proc/keys", MNT_DETACH) < 0 && errno == EINVAL);
	want(umount2("/sys/firmware", MNT_DETACH) < 0);
	want(umount2("/proc", MNT_DETACH) < 0);
	want(umount2("/dev", MNT_DETACH) < 0);
	/* Read-only stays so. */
	want(mount(NULL, "/proc/sysrq-trigger", NULL, MS_REMOUNT | MS_BIND, NULL) < 0);
	want(open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC) < 0);
	want(mount(NULL, "/sys", NULL, MS_REMOUNT | MS_BIND, NULL) < 0 && errno == EPERM);
	/* A proc without masks cannot be had. */
	want(mkdir("/p", 0755) == 0);
	want(mount("proc", "/p", "proc", 0, NULL) < 0 && errno == EPERM);
	/* Nor a device, nor a mount of block data. */
	want(mknod("/x", S_IFCHR | 0666, makedev(1, 3)) < 0);
	want(mknod("/dev/x", S_IFBLK | 0666, makedev(254, 0)) < 0);
	want(mount("/dev/vda", "/p", "ext4", 0, NULL) < 0);
	return 0;
}

static int ask_dev(void *arg, struct vps_err *err)
{
	static const struct { const char *path; unsigned maj, min; } nodes[] = {
		{"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7},
		{"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
		{"/dev/ptmx", 5, 2},
	};
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
		want(stat(nodes[i].path, &st) == 0);
		want(S_ISCHR(st.st_mode) && st.st_rdev == makedev(nodes[i].maj, nodes[i].min));
		want(st.st_uid == 0 && (st.st_mode & 0777) == 0666);
	}
	/* The tenant's own: what he does to them, he does to himself. */
	want(chmod("/dev/null", 0600) == 0 && chown("/dev/null", 7, 7) == 0);
	want(unlink("/dev/zero") == 0);
	want(access("/dev/mem", F_OK) < 0 && access("/dev/kmsg", F_OK) < 0);
	return 0;
}

static int ask_write(void *arg, struct vps_err *err)
{
	autoclose int fd = open("/made", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	want(fd >= 0 && write(fd, "x", 1) == 1 && fchown(fd, 33, 44) == 0);
	want(mkdir("/vps-dir", 0755) == 0 && rename("/vps-dir", "/vps-dir2") == 0);
	return 0;
}

static int ask_error(void *arg, struct vps_err *err)
{
	return vps_err_set(err, VPS_ESTATE, "words from %s", "inside");
}

/* ---- tests -------------------------------------------------------------------------------- */

static struct vps_live live_of(const struct fix *f, const struct proc_ident *init)
{
	return (struct vps_live){
		.spec = &f->spec, .conf = &f->conf, .instance_dir = -1, .run_dir = -1, .init = init};
}

static int exec_in(struct fix *f, const struct proc_ident *init, const struct vps_exec *x,
		   struct vps_exec_handle *h, struct vps_err *err)
{
	const struct vps_live live = live_of(f, init);

	return container_driver.exec(&live, x, h, err);
}

static void inside(struct fix *f, int (*fn)(void *arg, struct vps_err *err))
{
	const struct vps_live live = live_of(f, &f->l.init);
	struct vps_err err = {0};
	int r = container_driver.inside(&live, fn, NULL, &err);

	if (r != 0)
		fail_msg("inside: line %d %s", r, err.msg);
}

static void test_walls(void **state)
{
	struct fix *f = *state;

	need(f);
	up(f);
	inside(f, ask_walls);
}

static void test_dev(void **state)
{
	struct fix *f = *state;
	struct stat before, after;

	need(f);
	assert_int_equal(stat("/dev/null", &before), 0);
	up(f);
	inside(f, ask_dev);
	assert_int_equal(stat("/dev/null", &after), 0);
	assert_int_equal(before.st_mode, after.st_mode);
	assert_int_equal(before.st_uid, after.st_uid);
	assert_int_equal(before.st_ino, after.st_ino);
}

/* Nothing of a VPS in the host's mount table, nothing of the host's in a VPS's. */
static void test_mount_tables(void **state)
{
	struct fix *f = *state;
	autofree char *before = NULL, *after = NULL, *theirs = NULL;

	need(f);
	assert_int_equal(fs_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 22, &before, NULL), 0);
	up(f);
	assert_int_equal(fs_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 22, &after, NULL), 0);
	assert_string_equal(before, after);
	autofree char *path = str_fmt("/proc/%d/mountinfo", f->l.init.pid);

	assert_int_equal(fs_read(AT_FDCWD, path, 1 << 20, &theirs, NULL), 0);
	assert_null(strstr(theirs, f->dir->path));
	unsigned n = 0;

	for (char *s = theirs; (s = strchr(s, '\n')); s++)
		n++;
	assert_in_range(n, 8, 26);
}

static void test_ids(void **state)
{
	struct fix *f = *state;
	char buf[4096];
	struct stat st;

	need(f);
	up(f);
	autofree char *status = str_fmt("/proc/%d/status", f->l.init.pid);
	autofree char *map = str_fmt("/proc/%d/uid_map", f->l.init.pid);

	assert_true(fs_read_buf(AT_FDCWD, status, buf, sizeof(buf)) > 0);
	autofree char *uid = str_fmt("Uid:\t%u\t%u\t%u\t%u", ID_BASE, ID_BASE, ID_BASE, ID_BASE);

	assert_non_null(strstr(buf, uid));
	assert_non_null(strstr(buf, "Seccomp:\t2"));
	assert_non_null(strstr(buf, "CapInh:\t0000000000000000"));
	assert_true(fs_read_buf(AT_FDCWD, map, buf, sizeof(buf)) > 0);
	unsigned in, out, count;

	assert_int_equal(sscanf(buf, "%u %u %u", &in, &out, &count), 3);
	assert_int_equal(in, 0);
	assert_int_equal(out, ID_BASE);
	assert_int_equal(count, 65536);
	/* On disk the ids are unshifted. */
	inside(f, ask_write);
	assert_int_equal(fstatat(f->dir->fd, "disk/upper/made", &st, 0), 0);
	assert_int_equal(st.st_uid, 33);
	assert_int_equal(st.st_gid, 44);
}

/* Only 0, 1, 2; and init runs from a memfd. */
static void test_fds(void **state)
{
	struct fix *f = *state;
	char link[256];
	int leak = fcntl(0, F_DUPFD, 60); /* not close-on-exec, on purpose */

	need(f);
	f->run.under_init = true;
	f->run.argv = NULL;
	up(f);
	close(leak);
	autofree char *fds = str_fmt("/proc/%d/fd", f->l.init.pid);
	autofree char *exe = str_fmt("/proc/%d/exe", f->l.init.pid);
	auto_strv names = NULL;
	ssize_t n = -1;

	for (int i = 0; i < 200; i++) { /* until it has left this program */
		n = readlink(exe, link, sizeof(link) - 1);
		if (n > 0 && memcmp(link, "/memfd:vps-init", 15) == 0)
			break;
		usleep(5000);
	}
	assert_true(n > 15 && memcmp(link, "/memfd:vps-init", 15) == 0);
	assert_int_equal(fs_list(AT_FDCWD, fds, &names), 0);
	assert_int_equal(strv_len(names), 3);
	assert_true(strv_has(names, "0") && strv_has(names, "1") && strv_has(names, "2"));
	assert_true(open(exe, O_WRONLY | O_CLOEXEC) < 0); /* sealed, for us too */
	assert_int_equal(sys_pidfd_send_signal(f->l.pidfd, SIGTERM), 0);
	assert_int_equal(ended(f), 0);
}

/* No instruction of the payload before the gate opens; closed, init gives up. */
static void test_gate(void **state)
{
	struct fix *f = *state;
	struct vps_err err = {0};

	need(f);
	assert_int_equal(launch(f, &err), 0);
	struct pollfd p = {.fd = f->l.pidfd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 50), 0);
	close(f->l.gate);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(ended(f), 1);
}

static void test_exec(void **state)
{
	static char *const missing[] = {(char *)"nothere", NULL}, *const data[] = {(char *)"/data", NULL};
	struct fix *f = *state;
	struct vps_err err = {0};
	struct vps_exec x = {.argv = idle, .detach = true, .stdio = {-1, -1, -1}};
	struct vps_exec_handle h;
	unsigned before;

	need(f);
	assert_int_equal(fs_write_rename(f->dir->fd, "layer/data", "x", 1, 0644), 0);
	up(f);
	before = count_fds();
	assert_int_equal(exec_in(f, &f->l.init, &x, &h, &err), 0);
	assert_int_equal(sys_pidfd_send_signal(h.pidfd, SIGTERM), 0);
	int status = vps_exec_wait(&h);

	/* It may be hit before it has blocked its signals. */
	assert_true(status == 0 || status == 128 + SIGTERM);
	x.argv = missing;
	assert_int_equal(exec_in(f, &f->l.init, &x, &h, &err),
			 -VPS_EEXEC);
	assert_non_null(strstr(err.msg, "not found"));
	vps_err_clear(&err);
	x.argv = data;
	assert_int_equal(exec_in(f, &f->l.init, &x, &h, &err),
			 -VPS_EEXEC);
	assert_non_null(strstr(err.msg, "not executable"));
	/* A dead one's pid is never joined. */
	struct proc_ident dead = f->l.init;

	dead.start_time++;
	assert_int_equal(exec_in(f, &dead, &x, &h, NULL),
			 -VPS_ESTATE);
	assert_int_equal(count_fds(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), 0); /* init, and no zombie */
}

/* A caller that does not wait (it was stopped by Ctrl-Z) does not keep the VPS from ending. */
static void test_exec_unwaited(void **state)
{
	struct fix *f = *state;
	struct vps_err err = {0};
	struct vps_exec x = {.argv = idle, .detach = true, .stdio = {-1, -1, -1}};
	struct vps_exec_handle h;

	need(f);
	up(f);
	assert_int_equal(exec_in(f, &f->l.init, &x, &h, &err), 0);
	assert_int_equal(sys_pidfd_send_signal(h.pidfd, SIGKILL), 0);
	struct pollfd p[] = {{.fd = h.pidfd, .events = POLLIN}, {.fd = f->l.pidfd, .events = POLLIN}};

	assert_int_equal(poll(p, 1, 5000), 1);
	assert_int_equal(sys_pidfd_send_signal(f->l.pidfd, SIGKILL), 0);
	assert_int_equal(poll(p + 1, 1, 5000), 1);
	assert_int_equal(ended(f), 128 + SIGKILL);
	assert_int_equal(vps_exec_wait(&h), 128 + SIGKILL);
}

static void test_inside_words(void **state)
{
	struct fix *f = *state;
	struct vps_err err = {0};

	need(f);
	up(f);
	const struct vps_live live = live_of(f, &f->l.init);

	assert_int_equal(container_driver.inside(&live, ask_error, NULL, &err), -VPS_ESTATE);
	assert_string_equal(err.msg, "words from inside");
}

static void test_stopped(void **state)
{
	struct fix *f = *state;
	struct vps_err err = {0};
	struct stat st;
	autofree char *disk = NULL;

	need(f);
	disk = str_fmt("%s/disk", f->dir->path);
	autoclose int mnt = sys_open_tree(AT_FDCWD, disk, OPEN_TREE_CLONE);

	f->run.disk_mount = mnt;
	int r = container_driver.inside_stopped(&f->run, ask_write, NULL, &err);

	if (r != 0)
		fail_msg("line %d %s", r, err.msg);
	assert_int_equal(fstatat(f->dir->fd, "disk/upper/made", &st, 0), 0);
	assert_int_equal(st.st_uid, 33);
}

/* What an image puts in the way of our mounts is an error; the host's tree stays as it is. */
static void test_hostile_roots(void **state)
{
	static const char *const names[] = {"proc", "sys", "dev"};
	struct fix *f = *state;

	need(f);
	assert_int_equal(mkdirat(f->dir->fd, "canary", 0755), 0);
	autofree char *up_there = str_fmt("../../..%s/canary", f->dir->path);
	unsigned before = count_fds();

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		autofree char *in_layer = str_fmt("layer/%s", names[i]);
		struct vps_err err = {0};
		auto_strv found = NULL;

		assert_int_equal(symlinkat(up_there, f->dir->fd, in_layer), 0);
		assert_int_equal(launch(f, &err), -VPS_EBADIMAGE);
		assert_non_null(strstr(err.msg, "symbolic link"));
		assert_int_equal(unlinkat(f->dir->fd, in_layer, 0), 0);
		vps_err_clear(&err);
		assert_int_equal(fs_write_rename(f->dir->fd, in_layer, "", 0, 0644), 0);
		assert_int_equal(launch(f, &err), -VPS_EBADIMAGE);
		assert_int_equal(unlinkat(f->dir->fd, in_layer, 0), 0);
		assert_int_equal(fs_list(f->dir->fd, "canary", &found), 0);
		assert_int_equal(strv_len(found), 0);
	}
	assert_int_equal(count_fds(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
	up(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fix_test(test_walls),	     fix_test(test_dev),
		fix_test(test_mount_tables), fix_test(test_ids),
		fix_test(test_fds),	     fix_test(test_gate),
		fix_test(test_exec),	     fix_test(test_exec_unwaited),
		fix_test(test_inside_words),
		fix_test(test_stopped),	     fix_test(test_hostile_roots),
	};

	return cmocka_run_group_tests_name("container", tests, NULL, NULL);
}
