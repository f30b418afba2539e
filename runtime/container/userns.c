/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The user namespace of a VPS and the procfs it is driven through. */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/fs.h"
#include "base/inroot.h"

int proc_dir(struct vps_err *err)
{
	int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return vps_err_sys(err, -errno, "open /proc");
	int r = inroot_fd_is_fs(fd, PROC_SUPER_MAGIC);
	if (r < 0) {
		close(fd);
		return vps_err_sys(err, r, "/proc is not a proc file system");
	}
	return fd;
}

int proc_pid_open(pid_t pid, const char *what, int flags)
{
	char path[64];
	autoclose int proc = proc_dir(NULL);
	if (proc < 0)
		return proc;
	snprintf(path, sizeof(path), "%d/%s", pid, what);
	int fd = openat(proc, path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* capabilities(7): with SECBIT_NO_SETUID_FIXUP the change of uid leaves them alone. The real uid stays 0:
 * create_user_ns() takes RLIMIT_NPROC as the cap of the whole namespace for any other. */
int userns_become_owner(uint32_t id_base, struct vps_err *err)
{
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) < 0)
		return vps_err_sys(err, -errno, "set securebits");
	if (setresgid((gid_t)-1, id_base, (gid_t)-1) < 0 ||
	    setresuid((uid_t)-1, id_base, (uid_t)-1) < 0)
		return vps_err_sys(err, -errno, "take uid %u", id_base);
	return 0;
}

static int write_map(pid_t pid, const char *file, const char *map)
{
	autoclose int fd = proc_pid_open(pid, file, O_WRONLY);
	if (fd < 0)
		return fd;
	ssize_t n = write(fd, map, strlen(map));
	return n < 0 ? -errno : 0;
}

int userns_map(pid_t pid, uint32_t id_base, struct vps_err *err)
{
	char map[40];
	snprintf(map, sizeof(map), "0 %u %u\n", id_base, VPS_N_IDS);
	int r = write_map(pid, "gid_map", map);
	if (r >= 0)
		r = write_map(pid, "uid_map", map);
	if (r < 0)
		return vps_err_sys(err, r, "map ids %u-%u", id_base, id_base + VPS_N_IDS - 1);
	r = proc_pid_open(pid, "ns/user", O_RDONLY);
	if (r < 0)
		return vps_err_sys(err, r, "open the user namespace");
	return r;
}
