/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The wall around vps-vmm: the namespaces and id range of the VPS, an empty read-only root, an id that owns
 * nothing, and of all capabilities CAP_SYS_BOOT in its own user namespace, which there means to end its own PID
 * namespace as "rebooted" (reboot_pid_ns()). Whoever takes vps-vmm over from inside the machine finds its fds
 * and nothing else.
 */
#include "runtime/microvm/microvm.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/sys.h"

#define NOBODY 65534 /* of the VPS's range; files of no guest are its */

/* ---- B ------------------------------------------------------------------------- */

static int empty_root(struct vps_err *err)
{
	struct mount_attr ro = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
	};
	autoclose int fs = -1;
	autoclose int root = -1;
	int r = 0;

	/* The old mounts came locked; the whole of them may be let go of. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return vps_err_sys(err, -errno, "make mounts private");
	fs = sys_fsopen("tmpfs", 0);
	r = fs < 0 ? fs : sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", "4k", 0);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r >= 0)
		r = root = sys_fsmount(fs, 0, 0);
	if (r >= 0)
		r = sys_move_mount(root, "", AT_FDCWD, "/sys", MOVE_MOUNT_F_EMPTY_PATH);
	if (r >= 0 && fchdir(root) < 0)
		r = -errno;
	if (r >= 0)
		r = sys_pivot_root(".", ".");
	if (r >= 0 && umount2(".", MNT_DETACH) < 0)
		r = -errno;
	if (r >= 0 && chdir("/") < 0)
		r = -errno;
	if (r >= 0)
		r = sys_mount_setattr(AT_FDCWD, "/", 0, &ro, sizeof(ro));
	return r < 0 ? vps_err_sys(err, r, "make an empty root") : 0;
}

/* M's word that the tap is there, and the tap. */
static int take_tap(struct vm_jail *j)
{
	struct box_msg m;
	int fd = -1;
	size_t n = 1;
	ssize_t len = sys_recv_fds(j->up[1], &m, sizeof(m), &fd, &n);

	if (len != sizeof(m))
		return -EPIPE;
	j->fds.tap = n == 1 ? fd : -1;
	return 0;
}

static int become_root(struct vps_err *err)
{
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return vps_err_sys(err, -errno, "become the VPS's root");
	return 0;
}

static int drop(struct vps_err *err)
{
	static char boot[] = "CAP_SYS_BOOT", all[] = CAPS_ALL;
	char *add[] = {boot, NULL}, *less[] = {all, NULL};
	struct rlimit none = {0, 0};
	int r = caps_begin(add, less, err);

	if (r < 0)
		return r;
	/* A core file would hold the guest's memory. */
	if (setrlimit(RLIMIT_CORE, &none) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return vps_err_sys(err, -errno, "become nobody");
	r = caps_regain(err);
	if (r >= 0)
		r = caps_finish(NOBODY, add, less, err);
	if (r >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = vps_err_sys(err, -errno, "no new privileges");
	return r;
}

/* Fds 0 to 2, those of vps-vmm, and for a while those two. */
static int keep_fds(struct vm_jail *j, struct vps_err *err)
{
	int keep[VM_N_FDS + 2], fds[VM_N_FDS];
	size_t n = 0;
	int r = 0;

	if (dup2(j->null, 0) < 0 || dup2(j->null, 1) < 0 || dup2(j->err, 2) < 0)
		return vps_err_sys(err, -errno, "set up fds 0 to 2");
	memcpy(fds, &j->fds, sizeof(fds));
	for (size_t i = 0; i < VM_N_FDS; i++) {
		if (fds[i] < 0)
			continue;
		if (fcntl(fds[i], F_SETFD, 0) < 0)
			return vps_err_sys(err, -errno, "fd %d", fds[i]);
		keep[n++] = fds[i];
	}
	keep[n++] = j->up[1];
	keep[n++] = j->exe;
	r = fds_keep_only(keep, n);
	return r < 0 ? vps_err_sys(err, r, "close fds") : 0;
}

static int inside(struct vm_jail *j, struct vps_err *err)
{
	char *none[] = {NULL};
	auto_strv argv = NULL;
	int r = j->run->cg ? cg_enter_v1(j->run->cg) : 0;

	if (r < 0)
		return vps_err_sys(err, r, "enter the cgroups");
	r = take_tap(j); /* after it A is gone, and our ids are mapped */
	if (r >= 0)
		r = become_root(err);
	/* By its own process, or the root of the cgroup namespace would be A's cgroup. */
	if (r >= 0 && j->run->cg && unshare(CLONE_NEWCGROUP) < 0)
		r = vps_err_sys(err, -errno, "make a cgroup namespace");
	if (r >= 0 && sethostname("vps", 3) < 0)
		r = vps_err_sys(err, -errno, "set the host name");
	if (r >= 0)
		r = empty_root(err);
	if (r >= 0)
		r = keep_fds(j, err);
	if (r >= 0)
		r = vm_argv(j->run, &j->fds, &j->size, &argv);
	if (r < 0)
		return vps_err_sys(err, r, "arguments of vps-vmm");
	umask(077);
	setsid();
	r = drop(err);
	if (r >= 0 && j->fleeting && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		r = vps_err_sys(err, -errno, "end with the caller");
	if (r < 0)
		return r;
	execveat(j->exe, "", argv, none, AT_EMPTY_PATH);
	return vps_err_sys(err, -errno, "run vps-vmm");
}

static _Noreturn void box_vmm(struct vm_jail *j)
{
	struct vps_err err = {0};
	int r;

	close_fd(&j->up[0]);
	payload_signals();
	r = inside(j, &err);
	if (r != -EPIPE || err.code)
		box_fail(j->up[1], r, &err);
	_exit(VMM_EXIT_FAILED);
}

/* ---- A -------------------------------------------------------------------------- */

static int bear(struct vm_jail *j, struct vps_err *err)
{
	struct box_msg m = {.type = BOX_BORN};
	struct clone_args args = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
			 CLONE_NEWNET | CLONE_PARENT,
	};
	int cg = j->run->cg ? cg_clone_fd(j->run->cg) : -1;
	int userns;

	if (j->run->cg && cg < 0)
		return vps_err_sys(err, cg, "open the cgroup");
	if (cg >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cg;
	}
	m.pid = sys_clone3(&args, sizeof(args));
	if (m.pid == 0)
		box_vmm(j);
	if (m.pid < 0)
		return vps_err_sys(err, m.pid, "make the namespaces (user, mount, pid, ipc, uts, net)%s",
				   m.pid == -EPERM ? " (in a chroot the kernel makes no user namespace)"
						   : "");
	userns = userns_map(m.pid, j->id_base, err);
	if (userns < 0) {
		kill(m.pid, SIGKILL);
		return userns;
	}
	close(userns);
	return box_send(j->up[1], &m, NULL, 0);
}

_Noreturn void vm_jail_outside(struct vm_jail *j)
{
	struct vps_err err = {0};
	int r;

	umask(0);
	/* A start by a shielded service must not shield the VPS. */
	fs_write(AT_FDCWD, "/proc/self/oom_score_adj", "0");
	r = payload_rlimits(true, &err);
	if (r >= 0)
		r = userns_become_owner(j->id_base, &err);
	if (r >= 0)
		r = bear(j, &err);
	if (r < 0)
		box_fail(j->up[1], r, &err);
	_exit(r < 0);
}
