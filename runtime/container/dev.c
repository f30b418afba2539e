/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /dev of a VPS: a tmpfs with nodes of its own, owned by its root. Binding the host's nodes would hand the
 * tenant their inodes: a chmod inside would reach the host's /dev/null.
 */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fs.h"
#include "base/inroot.h"
#include "base/sys.h"
#include "runtime/tar.h"

struct node { const char *name; unsigned maj, min; mode_t mode; };

/* Documentation/admin-guide/devices.txt */
static const struct node nodes[] = {
	{"null", 1, 3, 0666}, {"zero", 1, 5, 0666},    {"full", 1, 7, 0666},
	{"random", 1, 8, 0666}, {"urandom", 1, 9, 0666}, {"tty", 5, 0, 0666},
};
static const struct node fuse = {"fuse", 10, 229, 0666};
static const struct node tun = {"net/tun", 10, 200, 0666};

static const struct { const char *name, *to; } links[] = {
	{"fd", "/proc/self/fd"},	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},	{"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
};

static int make_node(int dev, const char *name, mode_t type_mode, dev_t rdev, struct vps_err *err)
{
	char dir[256];
	const char *slash = strrchr(name, '/');
	if (slash) {
		/* A fresh tmpfs that nobody else sees: no links in it but those above. */
		size_t n = (size_t)(slash - name);
		if (n >= sizeof(dir))
			return vps_err_set(err, ENAMETOOLONG, "device '/dev/%s'", name);
		memcpy(dir, name, n);
		dir[n] = 0;
		autoclose int d = inroot_mkdir_p(dev, dir, 0755, (uid_t)-1, (gid_t)-1);
		if (d < 0)
			return vps_err_sys(err, d, "make /dev/%s", dir);
	}
	/* A restore finds what the tenant had: a node never, for tar streams bring none. */
	fs_remove_tree(dev, name);
	/* umask is 0 here */
	if (mknodat(dev, name, type_mode, rdev) < 0 && errno != EEXIST)
		return vps_err_sys(err, -errno, "make /dev/%s", name);
	autoclose int fd = openat(dev, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return vps_err_sys(err, -errno, "look at /dev/%s", name);
	if ((st.st_mode & S_IFMT) != (type_mode & S_IFMT) || st.st_rdev != rdev)
		return vps_err_set(err, EXDEV, "/dev/%s is not the device asked for", name);
	return 0;
}

static int make_char(int dev, const struct node *n, struct vps_err *err)
{
	return make_node(dev, n->name, S_IFCHR | n->mode, makedev(n->maj, n->min), err);
}

/* "/dev/kvm[:rwm]" to the name below /dev and the host's node. */
static int host_device(const char *s, char *name, size_t size, struct stat *st, struct vps_err *err)
{
	const char *colon = strchr(s, ':');
	size_t n = colon ? (size_t)(colon - s) : strlen(s);
	char path[256];
	if (!str_starts(s, "/dev/") || n <= 5 || n >= sizeof(path) || n - 5 >= size)
		return vps_err_set(err, VPS_EUSAGE, "device '%s': not a path below /dev", s);
	memcpy(path, s, n);
	path[n] = 0;
	memcpy(name, path + 5, n - 5 + 1);
	if (stat(path, st) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "this host has no device %s", path);
	if (!S_ISCHR(st->st_mode) && !S_ISBLK(st->st_mode))
		return vps_err_set(err, VPS_EUSAGE, "%s is not a device", path);
	return 0;
}

int dev_check(const struct vps_spec *s, struct vps_err *err)
{
	char name[256];
	struct stat st;
	for (char **d = s->devices; d && *d; d++) {
		int r = host_device(*d, name, sizeof(name), &st, err);
		if (r < 0)
			return r;
	}
	if (spec_has_feature(s, "fuse") && stat("/dev/fuse", &st) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "feature fuse: this host has no /dev/fuse: modprobe fuse");
	if (spec_has_feature(s, "tun") && stat("/dev/net/tun", &st) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "feature tun: this host has no /dev/net/tun: modprobe tun");
	return 0;
}

static int copy_init(int dev, int from, struct vps_err *err)
{
	struct stat st;
	if (fstat(from, &st) < 0)
		return vps_err_sys(err, -errno, "look at vps-init");
	autoclose int to = openat(dev, INIT_EXE, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0555);
	int r = to < 0 ? -errno : fs_copy_data(from, to, (uint64_t)st.st_size);
	/* nobody's inside: not even the VPS's root can write it */
	if (r >= 0 && fchown(to, 0, 0) < 0)
		r = -errno;
	return r < 0 ? vps_err_sys(err, r, "copy vps-init") : 0;
}

/* What is ours and not the image's. */
static int fill_own(int dev, const struct vps_run *run, int init_exe, struct vps_err *err)
{
	if (init_exe < 0 && !run_wants_whole(run))
		return 0;
	if (mkdirat(dev, ".vps", 0700) < 0)
		return vps_err_sys(err, -errno, "make /dev/.vps");
	if (run_wants_whole(run) && (mkdirat(dev, ".vps/proc", 0755) < 0 || mkdirat(dev, ".vps/sys", 0755) < 0))
		return vps_err_sys(err, -errno, "make /dev/.vps");
	return init_exe < 0 ? 0 : copy_init(dev, init_exe, err);
}

static int fill(int dev, const struct vps_run *run, int init_exe, struct vps_err *err)
{
	const struct vps_spec *s = run->spec;
	static const char *const dirs[] = {"pts", "mqueue", "shm"};
	int r = 0;
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(nodes); i++)
		r = make_char(dev, &nodes[i], err);
	if (r >= 0 && spec_has_feature(s, "fuse"))
		r = make_char(dev, &fuse, err);
	if (r >= 0 && spec_has_feature(s, "tun"))
		r = make_char(dev, &tun, err);
	for (char **d = s->devices; r >= 0 && d && *d; d++) {
		char name[256];
		struct stat st;
		r = host_device(*d, name, sizeof(name), &st, err);
		if (r >= 0)
			r = make_node(dev, name, (st.st_mode & S_IFMT) | 0660, st.st_rdev, err);
	}
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(links); i++)
		if (symlinkat(links[i].to, dev, links[i].name) < 0 && errno != EEXIST)
			r = vps_err_sys(err, -errno, "make /dev/%s", links[i].name);
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(dirs); i++)
		if (mkdirat(dev, dirs[i], 0755) < 0 && errno != EEXIST)
			r = vps_err_sys(err, -errno, "make /dev/%s", dirs[i]);
	if (r >= 0)
		r = fill_own(dev, run, init_exe, err);
	if (r >= 0 && mknodat(dev, "console", S_IFREG | 0600, 0) < 0 && errno != EEXIST)
		r = vps_err_sys(err, -errno, "make /dev/console");
	return r;
}

/* As the VPS's root, and nothing of it followed; ours is put over it afterwards. */
static int unpack_saved(int dev, int saved, struct vps_err *err)
{
	const struct tar_unpack_opts o = {.host = true, .uid = -1, .gid = -1};
	int r = tar_unpack(dev, &o, saved, err);
	return r < 0 ? vps_err_wrap(err, r, "what was in /dev") : fs_remove_tree(dev, ".vps");
}

int dev_make(const struct vps_run *run, int init_exe, int saved, struct vps_err *err)
{
	static const char *const opts[][2] = {
		{"mode", "0755"}, {"size", "1m"}, {"nr_inodes", "4096"},
	};
	autoclose int fs = sys_fsopen("tmpfs", 0);
	int r = fs < 0 ? fs : 0;
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(opts); i++)
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, opts[i][0], opts[i][1], 0);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r < 0)
		return vps_err_sys(err, r, "make /dev");
	autoclose int dev = sys_fsmount(fs, 0, MOUNT_ATTR_NOSUID);
	if (dev < 0)
		return vps_err_sys(err, dev, "mount /dev");
	if (saved >= 0)
		r = unpack_saved(dev, saved, err);
	if (r >= 0)
		r = fill(dev, run, init_exe, err);
	return r < 0 ? r : take_fd(dev);
}

int dev_console(int devpts, int dev, const char *at, struct vps_err *err)
{
	unsigned n;
	int unlock = 0;
	char name[16];
	autoclose int master = openat(devpts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0)
		return vps_err_sys(err, -errno, "open the console's ptmx");
	if (ioctl(master, TIOCGPTN, &n) < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return vps_err_sys(err, -errno, "make the console's pty");
	snprintf(name, sizeof(name), "%u", n);
	autoclose int slave = sys_open_tree(devpts, name, OPEN_TREE_CLONE);
	if (slave < 0)
		return vps_err_sys(err, slave, "open the console's pty");
	int r = sys_move_mount(slave, "", dev, at, MOVE_MOUNT_F_EMPTY_PATH);
	if (r < 0)
		return vps_err_sys(err, r, "bind /dev/console");
	return take_fd(master);
}
