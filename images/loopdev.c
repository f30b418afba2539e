/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "images/loopdev.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define ATTEMPTS 200 /* each lost race means that somebody else won a device */

static int open_node(unsigned n, int flags, char path[LOOP_PATH_LEN])
{
	struct stat st;

	snprintf(path, LOOP_PATH_LEN, "/dev/loop%u", n);
	autoclose int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	/* A stray file in /dev must not get our ioctls. */
	if (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode))
		return -ENOTBLK;
	return take_fd(fd);
}

static int configure(int loop_fd, int img_fd, unsigned block)
{
	struct loop_config cfg = {
		.fd = (uint32_t)img_fd,
		.block_size = block,
		.info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO},
	};
	char link[64], path[PATH_MAX];

	/* For human readers of losetup -l only. The end of a path tells more than its head. */
	snprintf(link, sizeof link, "/proc/self/fd/%d", img_fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (n > 0) {
		path[n] = '\0';
		size_t room = sizeof cfg.info.lo_file_name - 1;
		const char *tail = (size_t)n > room ? path + n - room : path;
		memcpy(cfg.info.lo_file_name, tail, strlen(tail));
	}
	if (ioctl(loop_fd, LOOP_CONFIGURE, &cfg) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	/* Some file systems and kernels refuse direct I/O instead of going without. */
	cfg.info.lo_flags &= ~LO_FLAGS_DIRECT_IO;
	return ioctl(loop_fd, LOOP_CONFIGURE, &cfg) < 0 ? -errno : 0;
}

/* One try: -EAGAIN when another process was quicker with the device we were told of. */
static int attach_once(int control, int img_fd, unsigned block, char path[LOOP_PATH_LEN])
{
	int n = ioctl(control, LOOP_CTL_GET_FREE);
	if (n < 0)
		return -errno;
	autoclose int fd = open_node((unsigned)n, O_RDWR, path);
	/* ENXIO: being removed. ENOENT: devtmpfs or udev has not made the node yet. */
	if (fd == -ENXIO || fd == -ENOENT || fd == -EBUSY)
		return -EAGAIN;
	if (fd < 0)
		return fd;
	int r = configure(fd, img_fd, block);
	if (r == -EBUSY || r == -ENXIO)
		return -EAGAIN;
	return r < 0 ? r : take_fd(fd);
}

int loop_attach(int img_fd, unsigned block, char path[LOOP_PATH_LEN], struct vps_err *err)
{
	autoclose int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int r = -EAGAIN;

	if (control < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "/dev/loop-control: %s; load the loop module (modprobe loop)",
				   strerrordesc_np(errno));
	for (unsigned i = 0; i < ATTEMPTS && r == -EAGAIN; i++) {
		if (i >= 8) /* many starters at once: spread them */
			nanosleep(&(struct timespec){.tv_nsec = 500000 + 37 * (getpid() % 20000)},
				  NULL);
		r = attach_once(control, img_fd, block, path);
	}
	if (r == -EAGAIN)
		return vps_err_set(err, EBUSY, "no free loop device after %d tries", ATTEMPTS);
	return r < 0 ? vps_err_sys(err, r, "set up %s", path) : r;
}

int loop_set_capacity(int loop_fd)
{
	return ioctl(loop_fd, LOOP_SET_CAPACITY, 0) < 0 ? -errno : 0;
}

/* lo_device is the kernel's huge_encode_dev. */
static bool same_file(const struct loop_info64 *li, const struct stat *st)
{
	unsigned maj = (unsigned)(li->lo_device >> 8) & 0xfff;
	unsigned min = (unsigned)((li->lo_device & 0xff) | ((li->lo_device >> 12) & 0xfff00));

	return li->lo_inode == st->st_ino && maj == major(st->st_dev) && min == minor(st->st_dev);
}

/* Calls fn for each device that has a file, with that file's path as the kernel tells it, until
 * it returns other than 0. */
static int each_device(int (*fn)(unsigned n, const char *file, void *arg), void *arg)
{
	auto_strv names = NULL;
	autoclose int block = fs_open_dir(AT_FDCWD, "/sys/block");
	int r = block < 0 ? block : fs_list(block, ".", &names);

	if (r < 0)
		return r;
	for (size_t i = 0; names && names[i]; i++) {
		char attr[64], file[PATH_MAX + 16];
		uint64_t n;

		if (!str_starts(names[i], "loop") || parse_u64(names[i] + 4, 1u << 20, &n) < 0)
			continue;
		snprintf(attr, sizeof attr, "loop%u/loop/backing_file", (unsigned)n);
		if (fs_read_buf(block, attr, file, sizeof file) < 0)
			continue; /* free */
		r = fn((unsigned)n, file, arg);
		if (r != 0)
			return r;
	}
	return 0;
}

struct find {
	struct stat st;
	char *path;
};

static int find_one(unsigned n, const char *file, void *arg)
{
	struct find *f = arg;
	struct loop_info64 li;

	if (!strstr(file, "/disk.")) /* spares opening every device of the host */
		return 0;
	autoclose int fd = open_node(n, O_RDWR, f->path);
	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &li) < 0 || !same_file(&li, &f->st))
		return 0;
	/* Fd 0 cannot be told from "go on"; nobody here runs without stdin, but be exact. */
	return take_fd(fd) + 1;
}

int loop_find(int img_fd, char path[LOOP_PATH_LEN])
{
	struct find f = {.path = path};

	if (fstat(img_fd, &f.st) < 0)
		return -errno;
	int r = each_device(find_one, &f);
	return r > 0 ? r - 1 : r < 0 ? r : -ENOENT;
}

struct audit {
	const char *dir;
	bool fix;
	char **found;
};

static int audit_one(unsigned n, const char *file, void *arg)
{
	struct audit *a = arg;
	size_t len = strlen(a->dir);
	char path[LOOP_PATH_LEN];
	struct loop_info64 li;

	if (strncmp(file, a->dir, len) != 0 || file[len] != '/')
		return 0;
	autoclose int fd = open_node(n, O_RDONLY, path);
	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &li) < 0)
		return 0;
	/* With autoclear it is mounted, about to be, or about to go. Opening such a one O_EXCL, even
	 * for a moment, could fail the mount of a starting VPS. */
	if (li.lo_flags & LO_FLAGS_AUTOCLEAR)
		return 0;
	close_fd(&fd);
	fd = open_node(n, O_RDONLY | O_EXCL, path); /* EBUSY: mounted */
	if (fd < 0)
		return 0;
	int r = strv_addf(&a->found, "%s %s", path, file);
	if (r == 0 && a->fix && ioctl(fd, LOOP_CLR_FD) < 0)
		r = errno == ENXIO ? 0 : -errno;
	return r;
}

int loop_audit(const char *dir_path, bool fix, char ***ret_found)
{
	struct audit a = {.dir = dir_path, .fix = fix};
	int r = each_device(audit_one, &a);

	if (r < 0) {
		strv_free(a.found);
		return r;
	}
	*ret_found = a.found;
	return 0;
}
