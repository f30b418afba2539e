/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A: host root in a mount namespace of its own. It bears B, makes everything B will see, and ends. */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/sys.h"
#include "cgroups/cgroups.h"

static int bear(struct box *b, int *ret_pidfd, pid_t *ret_pid, struct vps_err *err)
{
	int pidfd = -1;
	int cg = b->run->cg ? cg_clone_fd(b->run->cg) : -1;
	struct clone_args args = {
		.flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET |
			 CLONE_PARENT | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
	};
	if (b->run->cg && cg < 0)
		return vps_err_sys(err, cg, "open the cgroup");
	if (cg >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cg;
	}
	pid_t pid = sys_clone3(&args, sizeof(args));
	if (pid < 0)
		return vps_err_sys(err, pid, "make the namespaces (user, pid, ipc, uts, net)%s",
				   pid == -EPERM ? " (in a chroot the kernel makes no user namespace)"
						 : "");
	if (pid == 0)
		box_inside(b);
	*ret_pidfd = pidfd;
	*ret_pid = pid;
	struct box_msg m = {.type = BOX_BORN, .pid = pid};
	return box_send(b->up[1], &m, NULL, 0);
}

struct proc_job {
	struct mnt_made *made;
	bool two;
	int r;
};

static int one_proc(void)
{
	autoclose int fs = sys_fsopen("proc", 0);
	int r = fs < 0 ? fs : sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return r < 0 ? r : sys_fsmount(fs, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

static int proc_child(void *arg)
{
	struct proc_job *j = arg;
	for (int i = 0; i < 1 + j->two && j->r >= 0; i++)
		j->r = j->made->proc[i] = one_proc();
	return 0;
}

/* A proc mount shows the PID namespace of who makes it; before Linux 6.17 that cannot be said otherwise. The child
 * shares memory and fds with us, so its mounts are ours. */
static int make_proc(const struct box *b, struct mnt_made *made, struct vps_err *err)
{
	static char stack[16384] __attribute__((aligned(16)));
	struct proc_job job = {.made = made, .two = run_wants_whole(b->run)};
	pid_t pid = clone(proc_child, stack + sizeof(stack),
			  CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &job);
	if (pid < 0)
		return vps_err_sys(err, -errno, "mount proc");
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return job.r < 0 ? vps_err_sys(err, job.r, "mount proc") : 0;
}

/* bind(2) wants a path; the directory is ours, fresh and reached by fd. */
int box_bind_notify(int sock, int host, struct vps_err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	autoclose int proc = proc_dir(err);
	if (proc < 0)
		return proc;
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/notify", host);
	if (bind(sock, (struct sockaddr *)&a, sizeof(a)) < 0)
		return vps_err_sys(err, -errno, "bind the notify socket");
	return 0;
}

static int write_file(int dir, const char *name, const char *text)
{
	autoclose int fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* systemd's CONTAINER_INTERFACE: /run/host. In a tmpfs that only we have seen. */
static int fill_run(struct box *b, int root, struct vps_err *err)
{
	int r = 0;
	autoclose int run = openat(root, "run", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (run < 0 || mkdirat(run, "host", 0755) < 0)
		return vps_err_sys(err, -errno, "make /run/host");
	autoclose int host = openat(run, "host", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = host < 0 ? -errno : write_file(host, "container-manager", "vps\n");
	if (r >= 0)
		r = write_file(host, "container-uuid", b->run->spec->uuid);
	if (r < 0)
		return vps_err_sys(err, r, "fill /run/host");
	return b->notify >= 0 ? box_bind_notify(b->notify, host, err) : 0;
}

static int send_console(struct box *b, const struct mnt_made *made, struct vps_err *err)
{
	if (b->run->spec->console != CONSOLE_PTY)
		return 0;
	autoclose int master = dev_console(made->devpts, made->dev, "console", err);
	if (master < 0)
		return master;
	struct box_msg m = {.type = BOX_CONSOLE};
	int r = box_send(b->up[1], &m, &master, 1);
	return r < 0 ? vps_err_sys(err, r, "hand over the console") : 0;
}

static int enter_namespaces(int pidfd, struct vps_err *err)
{
	/* Linux 5.8. Not the user namespace: we stay host root. NEWPID is for the children. */
	if (setns(pidfd, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWPID) < 0)
		return vps_err_sys(err, -errno, "enter the VPS's namespaces");
	return 0;
}

static int make_mounts(struct box *b, int root, int userns, int pidfd, struct vps_err *err)
{
	struct mnt_made made = {.proc = {-1, -1}, .devpts = -1, .dev = -1};
	autoclose int stage = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (stage < 0)
		return vps_err_sys(err, -errno, "open the stage");
	int r = enter_namespaces(pidfd, err);
	if (r >= 0)
		r = make_proc(b, &made, err);
	if (r >= 0)
		r = mounts_apply(b, root, stage, userns, &made, err);
	if (r >= 0)
		r = send_console(b, &made, err);
	if (r >= 0 && b->run->system)
		r = fill_run(b, root, err);
	return r;
}

/* The VPS's root becomes that of this mount namespace and of everybody in it, B too; the host's mounts go. */
static int pivot(int root, struct vps_err *err)
{
	int r = fchdir(root) < 0 ? -errno : sys_pivot_root(".", ".");
	if (r >= 0 && umount2(".", MNT_DETACH) < 0)
		r = -errno;
	return r < 0 ? vps_err_sys(err, r, "change the root") : 0;
}

int box_hand_pipes(struct box *b, struct vps_err *err)
{
	/* So that "/dev/stdout" can be opened inside: a pipe belongs to who made it. */
	for (int i = 0; i < 3; i++)
		if (b->pipes[i][0] >= 0 &&
		    fchown(b->pipes[i][0], b->id_base, b->id_base) < 0)
			return vps_err_sys(err, -errno, "hand over the pipes");
	return 0;
}

static int work(struct box *b, struct vps_err *err)
{
	int pidfd = -1;
	pid_t pid = 0;
	int r = rootfs_collect(b, err);
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0)
		return vps_err_sys(err, -errno, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return vps_err_sys(err, -errno, "make mounts private");
	/* A start by a shielded service must not shield the VPS. */
	fs_write(AT_FDCWD, "/proc/self/oom_score_adj", "0");
	r = box_hand_pipes(b, err);
	if (r >= 0)
		r = payload_rlimits(true, err);
	if (r >= 0)
		r = userns_become_owner(b->id_base, err);
	if (r >= 0)
		r = bear(b, &pidfd, &pid, err);
	if (r < 0)
		return r;
	close_fd(&b->ab[1]); /* or B's end would not be seen */
	int userns = userns_map(pid, b->id_base, err);
	if (userns < 0)
		return userns;
	r = box_step_tell(b->ab[0]);
	if (r < 0)
		return r;
	int root = rootfs_mount(b, userns, err);
	if (root < 0)
		return root;
	r = box_step_wait(b->ab[0]);
	if (r >= 0 && !b->bare)
		r = make_mounts(b, root, userns, pidfd, err);
	if (r >= 0)
		r = pivot(root, err);
	if (r >= 0)
		r = box_step_tell(b->ab[0]);
	/* B copies the mount namespace now; it is ours to take the old one apart, which waits for RCU. */
	if (r >= 0)
		r = box_step_wait(b->ab[0]);
	return r;
}

_Noreturn void box_outside(struct box *b)
{
	struct vps_err err = {0};
	umask(0);
	int r = work(b, &err);
	/* Without words it was B that failed, and B has told. */
	if (r < 0 && (r != -EPIPE || err.code))
		box_fail(b->up[1], r, &err);
	_exit(r < 0);
}
