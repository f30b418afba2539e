/* SPDX-License-Identifier: GPL-2.0-or-later */
/* B: the VPS's PID 1 from its birth to its execve. */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/inroot.h"
#include "base/sys.h"
#include "cgroups/cgroups.h"
#include "runtime/guestconf.h"
#include "runtime/lxcfs.h"

/* uptime and the monotonic clock start at 0; a migration can carry them on. The namespace is made here and not
 * by A, so that it belongs to the VPS's user namespace: `nsenter -a` inside works. */
static int enter_time(struct vps_err *err)
{
	char text[96];
	if (unshare(CLONE_NEWTIME) < 0)
		return errno == EINVAL ? 0 /* kernel without CONFIG_TIME_NS */
				       : vps_err_sys(err, -errno, "make a time namespace");
	snprintf(text, sizeof(text), "monotonic -%llu 0\nboottime -%llu 0\n",
		 (unsigned long long)(sys_now_mono() / 1000000000u),
		 (unsigned long long)(sys_now_boot() / 1000000000u));
	int r = fs_write(AT_FDCWD, "/proc/self/timens_offsets", text);
	if (r < 0)
		return vps_err_sys(err, r, "set the clocks");
	autoclose int ns = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWTIME) < 0)
		return vps_err_sys(err, -errno, "enter the time namespace");
	return 0;
}

static int become_root(struct vps_err *err)
{
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return vps_err_sys(err, -errno, "become the VPS's root");
	/* Own files of /proc are needed. Nobody of the VPS is here yet. */
	if (prctl(PR_SET_DUMPABLE, 1) < 0)
		return vps_err_sys(err, -errno, "become dumpable");
	return 0;
}

static int own_namespaces(struct box *b, struct vps_err *err)
{
	/* By its own process, or the root of the cgroup namespace would be A's cgroup. */
	if (b->run->cg && unshare(CLONE_NEWCGROUP) < 0)
		return vps_err_sys(err, -errno, "make a cgroup namespace");
	int r = enter_time(err);
	if (r < 0 || b->bare)
		return r;
	const char *name = b->run->hostname;
	if (name && sethostname(name, strlen(name)) < 0)
		return vps_err_sys(err, -errno, "set the host name '%s'", name);
	return 0;
}

/* Into a mount namespace of the VPS's own: a copy of A's, every mount locked. */
static int enter_mounts(struct vps_err *err)
{
	if (unshare(CLONE_NEWNS) < 0)
		return vps_err_sys(err, -errno, "make the VPS's mount namespace");
	if (chdir("/") < 0)
		return vps_err_sys(err, -errno, "enter the root");
	return 0;
}

/* Unlocked on purpose: when lxcfs dies, they are taken away and put back (runtime/lxcfs.h). */
static int mount_views(struct box *b, int root, struct vps_err *err)
{
	for (size_t i = 0; i < b->n_views; i++) {
		if (b->views[i] < 0)
			continue;
		int r = sys_move_mount(b->views[i], "", root, lxcfs_files[i],
				       MOVE_MOUNT_F_EMPTY_PATH);
		if (r < 0 && r != -ENOENT)
			return vps_err_sys(err, r, "mount lxcfs' %s", lxcfs_files[i]);
		close_fd(&b->views[i]);
	}
	return 0;
}

/* As the VPS's root, whom the kernel lets write what its namespaces own and nothing else. */
int box_set_sysctls(char *const *sysctls, struct vps_err *err)
{
	for (; sysctls && *sysctls; sysctls++) {
		int r = fs_write_sysctl(*sysctls);

		if (r == -EACCES || r == -EPERM || r == -EROFS)
			return vps_err_set(err, VPS_EUSAGE,
					   "sysctl '%s' belongs to the host, not to a namespace of "
					   "the VPS: it cannot be set for one", *sysctls);
		if (r < 0)
			return vps_err_sys(err, r, "sysctl '%s'", *sysctls);
	}
	return 0;
}

static int take_stdio(struct box *b, struct vps_err *err)
{
	int fds[3];
	if (b->run->spec->console == CONSOLE_PTY) {
		int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (fd < 0)
			return vps_err_sys(err, -errno, "open the console");
		fds[0] = fds[1] = fds[2] = fd;
	} else {
		fds[0] = b->pipes[0][0];
		fds[1] = b->pipes[1][1];
		fds[2] = b->pipes[2][1];
	}
	for (int i = 0; i < 3; i++)
		if (dup2(fds[i], i) < 0)
			return vps_err_sys(err, -errno, "set up fd %d", i);
	return 0;
}

static int base_env(const struct box *b, char ***env)
{
	int r = 0;
	if (b->run->system) {
		r = strv_add(env, "container=vps");
		if (r >= 0)
			r = strv_addf(env, "container_uuid=%s", b->run->spec->uuid);
		if (r >= 0 && b->notify >= 0)
			r = strv_add(env, "NOTIFY_SOCKET=/run/host/notify");
	}
	return r;
}

static int hand_stdio(const struct payload *p, bool pty)
{
	/* The pty's or pipe's owner is the VPS's root; a payload of another user opens /dev/stdout, too. */
	for (int i = 0; i < (pty ? 1 : 3); i++)
		if (p->user.uid != 0 && fchown(i, p->user.uid, (gid_t)-1) < 0)
			return -errno;
	return 0;
}

static int payload_of(struct box *b, const struct filter_prog *seccomp, struct payload *p,
		      struct vps_err *err)
{
	const struct vps_run *run = b->run;
	auto_strv base = NULL;
	int status;
	bool pty = run->spec->console == CONSOLE_PTY;
	*p = (struct payload){
		.spec = run->spec, .argv = run->argv, .seccomp = seccomp, .exe = b->init_exe,
		.under_init = run->under_init, .tty = pty && !run->system,
		.make_cwd = true,
	};
	int r = base_env(b, &base);
	if (r < 0)
		return vps_err_sys(err, r, "environment");
	r = payload_find(p, run->user, run->cwd ? run->cwd : "/", base, run->env, &status, err);
	if (r < 0)
		return r;
	r = hand_stdio(p, pty);
	return r < 0 ? vps_err_sys(err, r, "hand over the console") : 0;
}

/* Returns at the gate's opening. */
static int wait_gate(struct box *b)
{
	char c;
	ssize_t n;
	do {
		n = read(b->gate[0], &c, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : -EPIPE;
}

static int keep_fds(struct box *b)
{
	/* No fd of the host but these from here on: a path of the tenant (cwd, program) could lead through
	 * /proc/self/fd. */
	int keep[16], n = 0;
	keep[n++] = b->up[1];
	keep[n++] = b->gate[0];
	if (b->init_exe >= 0)
		keep[n++] = b->init_exe;
	return fds_keep_only(keep, (size_t)n);
}

/* Through our own mounts, by which the program is known from here on. */
static int take_init_exe(struct box *b, int root, struct vps_err *err)
{
	if (b->init_exe < 0)
		return 0;
	int fd = sys_openat2(root, "dev/" INIT_EXE, O_PATH, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (fd < 0)
		return vps_err_sys(err, fd, "open /dev/" INIT_EXE);
	close(b->init_exe);
	b->init_exe = fd;
	return 0;
}

static int settle(struct box *b, struct vps_err *err)
{
	autoclose int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return vps_err_sys(err, -errno, "open the root");
	int r = take_init_exe(b, root, err);
	if (r >= 0)
		r = mount_views(b, root, err);
	if (r >= 0)
		r = box_set_sysctls(b->run->spec->sysctls, err);
	if (r >= 0)
		r = guestconf_apply(root, b->run->files, b->run->n_files, err);
	if (r >= 0)
		r = take_stdio(b, err);
	return r;
}

static int work(struct box *b, struct payload *p, struct vps_err *err)
{
	int r = b->run->cg ? cg_enter_v1(b->run->cg) : 0;
	if (r < 0)
		return vps_err_sys(err, r, "enter the cgroups");
	r = box_step_wait(b->ab[1]);
	if (r >= 0)
		r = become_root(err);
	if (r >= 0)
		r = own_namespaces(b, err);
	if (r >= 0)
		r = box_step_tell(b->ab[1]);
	if (r >= 0)
		r = box_step_wait(b->ab[1]);
	if (r >= 0)
		r = enter_mounts(err);
	if (r >= 0)
		r = box_step_tell(b->ab[1]);
	if (r < 0 || b->bare)
		return r;
	umask(022);
	setsid();
	r = settle(b, err);
	if (r >= 0)
		r = keep_fds(b);
	if (r >= 0)
		r = payload_of(b, b->seccomp, p, err);
	if (r >= 0)
		r = payload_drop(p, err);
	return r;
}

/* inside_stopped: fn works on the root that is now "/". */
static void work_bare(struct box *b)
{
	struct box_msg m = {.type = BOX_READY};
	m.result = b->fn(b->arg, &m.err);
	box_send(b->up[1], &m, NULL, 0);
	_exit(0);
}

_Noreturn void box_inside(struct box *b)
{
	struct vps_err err = {0};
	struct payload p = {0};
	/* Only the other side's going away must be seen, so its ends may not stay open here. */
	close(b->ab[0]);
	close(b->gate[1]);
	payload_signals();
	int r = work(b, &p, &err);
	if (r < 0) {
		if (r != -EPIPE || err.code)
			box_fail(b->up[1], r, &err);
		_exit(1);
	}
	if (b->bare)
		work_bare(b);
	struct box_msg m = {.type = BOX_READY};
	if (box_send(b->up[1], &m, NULL, 0) < 0 || wait_gate(b) < 0)
		_exit(1);
	r = payload_exec(&p);
	/* The console is all that is left to tell it. */
	dprintf(2, "vps: cannot run %s: %s\n", p.path, strerror(-r));
	_exit(r == -ENOENT ? 127 : 126);
}
