/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Our lxcfs: started on demand, replaced when it died. runtime/lxcfs.h. */
#include "runtime/lxcfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "runtime/lxcfs_impl.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif
#define UP_MS	      5000
#define LOCK_MS	      10000
#define END_MS	      2000
#define HEAL_MS	      10000
#define STACKED_MAX   8 /* dead mounts on one file: one a crash that nobody healed */

/* Mount API, <linux/mount.h> clashes with <sys/mount.h> in glibc 2.36. */
#define OPEN_TREE_CLONE_	 1u
#define MOVE_MOUNT_F_EMPTY_PATH_ 4u

const char *const lxcfs_files[] = {
	"proc/cpuinfo", "proc/diskstats", "proc/loadavg", "proc/meminfo", "proc/slabinfo",
	"proc/stat",	"proc/swaps",	  "proc/uptime",  "sys/devices/system/cpu/online", NULL,
};
#define N_FILES (ARRAY_LEN(lxcfs_files) - 1)

bool lxcfs_wanted(const char *file)
{
	return !str_eq(file, "proc/uptime") || access("/proc/self/ns/time", F_OK) < 0;
}

/* ---- the instance ---------------------------------------------------------------- */

/* O_PATH fd of the mount when its server lives. */
static int open_living(int run_fd)
{
	struct statfs fs;
	autoclose int pidfd = lxcfs_pidfd(run_fd);

	if (pidfd < 0)
		return pidfd;

	autoclose int fd = openat(run_fd, LXCFS_DIR, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	return fs.f_type == FUSE_SUPER_MAGIC ? take_fd(fd) : -ENOENT;
}

/* Whatever is mounted there, dead or alive. */
static void unmount_all(int run_fd)
{
	char path[64];
	autoclose int dir = openat(run_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/self/fd/%d/" LXCFS_DIR, dir);
	for (int i = 0; i < STACKED_MAX && umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0; i++)
		;
}

static int write_pid(int run_fd, pid_t pid)
{
	struct proc_ident id;
	char line[96];
	int n, r = proc_ident_of(pid, &id);

	if (r < 0)
		return r;
	n = snprintf(line, sizeof(line), "%s %d %llu\n", id.boot_id, id.pid,
		     (unsigned long long)id.start_time);
	return fs_write_rename(run_fd, LXCFS_PID_FILE, line, (size_t)n, 0600);
}

/* In the child: a session of its own, nothing of ours open, and not our child for long. */
static void __attribute__((noreturn)) exec_lxcfs(const char *program, const char *run, struct cg_host *cg,
						int told)
{
	autofree char *dir = str_fmt("%s/" LXCFS_DIR, run);
	autofree char *own = str_fmt("%s/lxcfs.own-pid", run); /* else it takes /run/lxcfs.pid */
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;
	pid_t pid;

	setsid();
	pid = fork();
	if (pid != 0) {
		(void)!write(told, &pid, sizeof(pid));
		_exit(0);
	}
	for (int i = 0; i < 3 && null >= 0; i++)
		dup2(null, i);
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (cg)
		(void)cg_enter_monitors(cg); /* it works elsewhere, too */
	(void)!chdir("/");
	umask(022);
	sys_close_range(3, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */);
	if (dir && own)
		execl(program, "lxcfs", "-f", "-l", "--enable-pidfd", "-p", own, dir, NULL);
	_exit(127);
}

static pid_t spawn(const char *program, const char *run, struct cg_host *cg)
{
	pid_t child, pid = -1;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0)
		exec_lxcfs(program, run, cg, p[1]);

	int r = child < 0 ? -errno : 0;

	close(p[1]);
	if (r == 0 && fs_read_full(p[0], &pid, sizeof(pid)) != sizeof(pid))
		r = -EIO;
	close(p[0]);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return r < 0 ? r : pid;
}

/* Its mount appears some milliseconds after its start; nothing tells of it but looking. */
static int wait_up(int run_fd)
{
	uint64_t end = sys_now_mono() + UP_MS * 1000000ull;

	for (long ns = 1000000; sys_now_mono() < end; ns = ns < 32000000 ? ns * 2 : ns) {
		int fd = open_living(run_fd);

		if (fd >= 0 || fd == -ESRCH)
			return fd;
		nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
	}
	return -ETIMEDOUT;
}

static void end_by_pidfd(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	if (pidfd >= 0 && sys_pidfd_send_signal(pidfd, SIGKILL) == 0)
		(void)!poll(&p, 1, END_MS); /* the unmount has cut it off already */
}

static int start(int run_fd, const char *run, const char *program, struct cg_host *cg,
		 struct vps_err *err)
{
	pid_t pid;
	int r;

	if (cg && cg_monitors_fd(cg, NULL) < 0)
		cg = NULL;
	unmount_all(run_fd);
	r = fs_mkdir_p(run_fd, LXCFS_DIR, 0755);
	if (r < 0)
		return vps_err_sys(err, r, "make '%s/" LXCFS_DIR "'", run);
	pid = spawn(program, run, cg);
	r = pid < 0 ? pid : write_pid(run_fd, pid);
	if (r == 0)
		r = wait_up(run_fd);
	if (r < 0) {
		autoclose int pidfd = lxcfs_pidfd(run_fd);

		end_by_pidfd(pidfd);
		unmount_all(run_fd);
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "'%s' does not start (%s); is /dev/fuse there? `lxcfs = off` in vps.conf "
				   "does without it",
				   program, vps_code_str(r));
	}
	return r;
}

/* Its full name in *ret, or -ENOENT. */
static int find_program(const char *how, char **ret, struct vps_err *err)
{
	if (!how || str_eq(how, "off"))
		return -ENOENT;
	*ret = str_eq(how, "auto") ? proc_find("lxcfs") : strdup(how);
	if (*ret && access(*ret, X_OK) == 0)
		return 0;
	if (str_eq(how, "auto"))
		return -ENOENT;
	return vps_err_set(err, VPS_ECONF, "lxcfs = %s: not a program", how);
}

int lxcfs_ensure(int run_fd, const char *run, const char *how, struct cg_host *cg,
		 struct vps_err *err)
{
	autofree char *program = NULL;
	int fd, r = find_program(how, &program, err);

	if (r < 0)
		return r;
	fd = open_living(run_fd);
	if (fd >= 0)
		return fd;

	autoclose int lock = lock_take(run_fd, LXCFS_LOCK, true, LOCK_MS);

	if (lock < 0)
		return vps_err_sys(err, lock, "lock '%s/" LXCFS_LOCK "'", run);
	fd = open_living(run_fd);
	return fd >= 0 ? fd : start(run_fd, run, program, cg, err);
}

int lxcfs_stop(int run_fd, const char *run, struct vps_err *err)
{
	static const char *const files[] = {LXCFS_PID_FILE, "lxcfs.own-pid"};
	autoclose int lock = lock_take(run_fd, LXCFS_LOCK, true, LOCK_MS);

	if (lock < 0)
		return vps_err_sys(err, lock, "lock '%s/" LXCFS_LOCK "'", run);

	autoclose int pidfd = lxcfs_pidfd(run_fd);

	unmount_all(run_fd);
	end_by_pidfd(pidfd);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		unlinkat(run_fd, files[i], 0);
	if (unlinkat(run_fd, LXCFS_DIR, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return vps_err_sys(err, -errno, "remove '%s/" LXCFS_DIR "'", run);
	unlinkat(run_fd, LXCFS_LOCK, 0);
	return 0;
}

/* ---- healing -------------------------------------------------------------------------- */

struct heal {
	int pidfd;
	int fresh[N_FILES]; /* detached mounts of the new instance, -1: plain file */
};

/* The directory of a file of the list inside the VPS: verified to be the kernel's, since the tenant may mount
 * anything there. */
static int open_place(int root, const char *file, const char **ret_name)
{
	const char *slash = strrchr(file, '/');
	char dir[64];
	struct statfs fs;

	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - file), file);

	autoclose int fd = sys_openat2(root, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
				       RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);

	if (fd < 0)
		return fd;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != (str_starts(file, "proc/") ? PROC_SUPER_MAGIC : SYSFS_MAGIC))
		return -EXDEV;
	*ret_name = slash + 1;
	return take_fd(fd);
}

enum cover { COVER_NONE, COVER_DEAD, COVER_ALIVE, COVER_OTHER };

/* What lies on the file? A FUSE file whose server is gone answers ENOTCONN. */
static enum cover cover_of(int dir, const char *name)
{
	struct statfs fs;
	autoclose int fd = sys_openat2(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0,
				       RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);

	if (fd < 0)
		return fd == -ENOTCONN ? COVER_DEAD : COVER_OTHER;
	if (fstatfs(fd, &fs) < 0)
		return errno == ENOTCONN ? COVER_DEAD : COVER_OTHER;
	if (fs.f_type == FUSE_SUPER_MAGIC)
		return COVER_ALIVE;
	return fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ? COVER_NONE : COVER_OTHER;
}

/* Relative to the directory's fd, one component: no path of the tenant's is walked. */
static int heal_one(int root, const char *file, int fresh)
{
	const char *name = NULL;
	autoclose int dir = open_place(root, file, &name);
	enum cover c;

	if (dir < 0 || fchdir(dir) < 0)
		return dir < 0 ? dir : -errno;
	for (int i = 0; (c = cover_of(dir, name)) == COVER_DEAD && i < STACKED_MAX; i++)
		if (umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return -errno;
	if (c != COVER_NONE || fresh < 0)
		return 0;
	return sys_move_mount(fresh, "", dir, name, MOVE_MOUNT_F_EMPTY_PATH_);
}

/* In a child of its own: the mount namespace of a process changes for good. */
static int heal_inside(const struct heal *h)
{
	int bad = 0;

	if (setns(h->pidfd, CLONE_NEWNS) < 0)
		return -errno;

	autoclose int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return -errno;
	/* One place that the tenant made unusable does not keep the others from healing. */
	for (size_t i = 0; i < N_FILES; i++) {
		int r = heal_one(root, lxcfs_files[i], h->fresh[i]);

		if (r < 0 && r != -ENOENT && r != -EXDEV)
			bad = r;
	}
	return bad;
}

static int wait_child(pid_t pid)
{
	autoclose int pidfd = sys_pidfd_open(pid, 0);
	uint64_t end = sys_now_mono() + HEAL_MS * 1000000ull;
	int status;

	for (;;) {
		pid_t r = waitpid(pid, &status, WNOHANG);

		if (r == pid)
			return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (sys_now_mono() > end) {
			/* A tenant's own FUSE mount can hold it up; not for ever. */
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -ETIMEDOUT;
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* Private, as runtime/container/rootfs.c makes them. */
static int clone_view(int root, const char *path)
{
	struct mount_attr a = {.propagation = MS_PRIVATE};
	autoclose int tree = sys_open_tree(root, path, OPEN_TREE_CLONE_ | O_CLOEXEC);
	int r = tree < 0 ? tree : sys_mount_setattr(tree, "", AT_EMPTY_PATH, &a, sizeof(a));

	return r < 0 ? r : take_fd(tree);
}

int lxcfs_heal(int run_fd, const char *run, const char *how, const struct proc_ident *init,
	       struct cg_host *cg, struct vps_err *err)
{
	struct heal h;
	autoclose int pidfd = proc_ident_open(init);
	struct vps_err why = {0};

	if (pidfd < 0)
		return vps_err_sys(err, pidfd, "init");

	autoclose int root = lxcfs_ensure(run_fd, run, how, cg, &why);
	pid_t pid;

	h.pidfd = pidfd;
	for (size_t i = 0; i < N_FILES; i++)
		h.fresh[i] = root < 0 || !lxcfs_wanted(lxcfs_files[i]) ? -1 : clone_view(root, lxcfs_files[i]);
	pid = fork();
	if (pid == 0)
		_exit(-heal_inside(&h));

	int r = pid < 0 ? -errno : wait_child(pid);

	for (size_t i = 0; i < N_FILES; i++)
		close_fd(&h.fresh[i]);
	if (r < 0)
		return vps_err_sys(err, r, "replace the dead views");
	if (root < 0)
		return vps_err_set(err, why.code ? why.code : ENOENT, "%s",
				   why.code ? why.msg : "lxcfs is not there any more");
	return 0;
}
