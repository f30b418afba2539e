/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/monitor.h"

static int check_caps(char *const *caps, struct vps_err *err)
{
	for (; caps && *caps; caps++)
		if (!caps_known(*caps))
			return vps_err_set(err, VPS_EUSAGE, "no capability '%s'", *caps);
	return 0;
}

/* The operator's file, before a copy of it becomes the VPS's. */
static int check_profile(const struct vps_spec *s, const struct vps_conf *c, struct vps_err *err)
{
	auto_done(filter_done) struct filter_prog prog = {0};
	if (!s->seccomp || s->seccomp[0] != '/')
		return 0;
	int r = filter_for(s, c->root, -1, &prog, err);
	return r < 0 ? vps_err_wrap(err, r, "'%s'", s->seccomp) : 0;
}

static int container_check(const struct vps_spec *s, const struct vps_conf *c,
			   struct vps_err *err)
{
	char buf[32];
	if (geteuid() != 0)
		return vps_err_set(err, EPERM, "containers want root");
	if (fs_read_buf(AT_FDCWD, "/proc/sys/user/max_user_namespaces", buf, sizeof(buf)) <= 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this kernel has no user namespaces (CONFIG_USER_NS)");
	if (str_eq(buf, "0"))
		return vps_err_set(err, VPS_EUNSUPPORTED, "user namespaces are switched off: sysctl "
							  "user.max_user_namespaces=65536");
	for (size_t i = 0; i < s->n_mounts; i++)
		if (access(s->mounts[i].src, F_OK) < 0)
			return vps_err_sys(err, -errno, "mount '%s'", s->mounts[i].src);
	int r = check_caps(s->cap_add, err);
	if (r >= 0)
		r = check_caps(s->cap_drop, err);
	if (r >= 0)
		r = check_profile(s, c, err);
	return r < 0 ? r : dev_check(s, err);
}

static int container_release(struct vps_launched *l, struct vps_err *err)
{
	ssize_t n = write(l->gate, GATE_WORD, 1);
	if (n != 1)
		return vps_err_sys(err, n < 0 ? -errno : -EIO, "open the gate");
	close_fd(&l->gate);
	return 0;
}

static int container_open_root(const struct proc_ident *init, struct vps_err *err)
{
	/* The pidfd is proof afterwards that the pid still was init's when /proc was asked. */
	autoclose int pidfd = proc_ident_open(init);
	int fd = pidfd < 0 ? pidfd : proc_pid_open(init->pid, "root", O_PATH | O_DIRECTORY);
	if (fd < 0)
		return vps_err_sys(err, fd, "open the root of the VPS");
	int r = sys_pidfd_send_signal(pidfd, 0);
	if (r < 0) {
		close(fd);
		return vps_err_sys(err, r, "open the root of the VPS");
	}
	return fd;
}

const struct vps_driver container_driver = {
	.name = "container",
	.check = container_check,
	.launch = container_launch,
	.release = container_release,
	.exec = container_exec,
	.open_root = container_open_root,
	.inside = container_inside,
	.inside_stopped = container_inside_stopped,
	.checkpoint = container_checkpoint,
	.checkpoint_end = container_checkpoint_end,
	.precopy = container_precopy,
};
