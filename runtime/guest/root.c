/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Modules, disks, the stacked root and the switch to it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/inroot.h"
#include "base/sys.h"
#include "runtime/guest/guest.h"

#define DISK_WAIT_MS 10000

int root_views(struct vps_err *err)
{
	static const struct { const char *fs, *dir; unsigned long flags; } views[] = {
		{"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"devtmpfs", "/dev", MS_NOSUID},
	};

	for (size_t i = 0; i < ARRAY_LEN(views); i++) {
		mkdir(views[i].dir, 0755);
		if (mount(views[i].fs, views[i].dir, views[i].fs, views[i].flags, NULL) < 0)
			return vps_err_sys(err, -errno, "mount %s", views[i].dir);
	}
	return 0;
}

/* ---- modules ------------------------------------------------------------------- */

/* One that fails is told, and missed where it matters: a device without driver says more. */
int root_load_modules(void)
{
	autofree char *text = NULL;
	char *rest, *line;
	int r = fs_read(AT_FDCWD, "/vps/modules", 1 << 20, &text, NULL);

	rest = text;
	while (r >= 0 && (line = strsep(&rest, "\n")) && *line) {
		autoclose int fd = open(line, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			dprintf(2, "vps-guest: %s: %s\n", line, strerror(errno));
	}
	/* they are in the kernel now, and these files are memory */
	fs_remove_tree(AT_FDCWD, "/modules");
	return 0;
}

/* ---- disks --------------------------------------------------------------------- */

static bool has_serial(const char *block, const char *serial)
{
	char path[300], got[64];

	snprintf(path, sizeof(path), "/sys/block/%s/serial", block);
	return fs_read_buf(AT_FDCWD, path, got, sizeof(got)) > 0 && str_eq(got, serial);
}

/* "/dev/vda" of a virtio disk; drivers probe in their own time. */
static int find_disk(const char *serial, char *ret, size_t size, struct vps_err *err)
{
	const struct timespec nap = {.tv_nsec = 5000000};
	uint64_t end = sys_now_mono() + DISK_WAIT_MS * 1000000ull;

	do {
		auto_strv names = NULL;

		fs_list(AT_FDCWD, "/sys/block", &names);
		for (char **n = names; n && *n; n++) {
			if (!has_serial(*n, serial))
				continue;
			snprintf(ret, size, "/dev/%s", *n);
			return 0;
		}
		nanosleep(&nap, NULL);
	} while (sys_now_mono() < end);
	return vps_err_set(err, ENODEV, "there is no disk '%s'", serial);
}

static int mount_disk(const char *serial, const char *dir, const char *fs, unsigned long flags,
		      const char *opts, struct vps_err *err)
{
	char dev[64];
	int r = find_disk(serial, dev, sizeof(dev), err);

	if (r < 0)
		return r;
	if (mkdir(dir, 0755) < 0 || mount(dev, dir, fs, flags, opts) < 0)
		return vps_err_sys(err, -errno, "mount disk '%s' (%s)", serial, fs);
	return 0;
}

int root_make(struct guest *g, struct vps_err *err)
{
	/* what is deleted goes back to the host: the VMM punches holes */
	int r = mount_disk(GUEST_SERIAL_IMAGE, "/image", "erofs", MS_RDONLY | MS_NODEV, "", err);

	if (r >= 0)
		r = mount_disk(GUEST_SERIAL_DISK, "/disk", "ext4", MS_NODEV, "discard", err);
	if (r < 0)
		return r;
	g->disk = open("/disk", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (g->disk >= 0)
		disk_grow(g->disk); /* it may have got more while nobody was there */
	if (g->disk < 0 || mkdir(MERGED, 0755) < 0 ||
	    mount("vps", MERGED, "overlay", 0,
		  "lowerdir=/image,upperdir=/disk/upper,workdir=/disk/work," ROOT_OVERLAY_OPTIONS) < 0)
		return vps_err_sys(err, -errno, "stack image and disk (overlay)");
	g->root = open(MERGED, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return g->root < 0 ? vps_err_sys(err, -errno, "open the root") : 0;
}

/* Who has nothing to load modules with has no use for them; and systemd's kmod-static-nodes, for one, would fail there. */
static bool loads_modules(int root)
{
	static const char *const loaders[] = {"/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe"};

	for (size_t i = 0; i < ARRAY_LEN(loaders); i++)
		if (inroot_exists(root, loaders[i]) == 1)
			return true;
	return false;
}

/* An image has no modules of the host's kernel, and its tenant may want some: iptables, a tunnel. */
int root_modules(struct guest *g, struct vps_err *err)
{
	char dev[64], dep[200], dir[150], self[32];
	struct utsname u;
	int r;

	uname(&u);
	snprintf(dir, sizeof(dir), "/lib/modules/%s", u.release);
	snprintf(dep, sizeof(dep), "%s/modules.dep", dir);
	if (!g->cfg.modules || !loads_modules(g->root) || inroot_exists(g->root, dep) == 1)
		return 0;
	r = find_disk(GUEST_SERIAL_MODULES, dev, sizeof(dev), err);
	if (r < 0)
		return r;

	autoclose int to = inroot_mkdir_p(g->root, dir, 0755, 0, 0);

	snprintf(self, sizeof(self), "/proc/self/fd/%d", to);
	/* what a tenant made of his /lib/modules is no reason not to start */
	if (to < 0 || mount(dev, self, "erofs", MS_RDONLY | MS_NODEV | MS_NOSUID, "") < 0)
		dprintf(2, "vps-guest: mount %s: %s\n", dir, strerror(to < 0 ? -to : errno));
	return 0;
}

/* ---- the switch ---------------------------------------------------------------- */

/* A directory of the root to mount on: made when missing, no link followed on the way. */
static int mount_point(int root, const char *path, mode_t mode)
{
	int fd = inroot_mkdir_p(root, path, mode, 0, 0);

	if (fd >= 0)
		close(fd);
	return sys_openat2(root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
			   RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
}

static int move_view(int root, const char *name, mode_t mode)
{
	char from[16];
	autoclose int to = mount_point(root, name, mode);

	snprintf(from, sizeof(from), "/%s", name);
	return to < 0 ? to
		      : sys_move_mount(AT_FDCWD, from, to, "", MOVE_MOUNT_F_EMPTY_PATH |
				       MOVE_MOUNT_T_EMPTY_PATH);
}

static int mount_new(int root, const char *name, const char *fs, const char *opts, unsigned long flags)
{
	char self[32];
	autoclose int to = mount_point(root, name, 0755);

	if (to < 0)
		return to;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", to);
	return mount(fs, self, fs, flags, opts) < 0 ? -errno : 0;
}

/* What a container of a command finds, too; an init of the image mounts its own, but for /run, where
 * our socket is. */
static int mount_rest(struct guest *g, struct vps_err *err)
{
	static const struct {
		const char *dir, *fs, *opts;
		unsigned long flags;
		bool system, command;
	} rest[] = {
		{"run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV, true, false},
		{"dev/pts", "devpts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC, true, true},
		{"dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, false, true},
		{"dev/mqueue", "mqueue", "", MS_NOSUID | MS_NODEV | MS_NOEXEC, false, true},
		{"sys/fs/cgroup", "cgroup2", "", MS_NOSUID | MS_NODEV | MS_NOEXEC, false, true},
	};
	bool system = g->cfg.role == GUEST_SYSTEM;

	for (size_t i = 0; i < ARRAY_LEN(rest); i++) {
		if (!(system ? rest[i].system : rest[i].command))
			continue;

		int r = mount_new(g->root, rest[i].dir, rest[i].fs, rest[i].opts, rest[i].flags);

		/* a kernel without mqueue or cgroups is still a kernel */
		if (r < 0 && r != -ENODEV && r != -ENOENT)
			return vps_err_sys(err, r, "mount /%s", rest[i].dir);
	}
	return 0;
}

static int link_in(int root, const char *dir, const char *name, const char *to)
{
	autoclose int fd = inroot_mkdir_p(root, dir, 0755, 0, 0);

	if (fd < 0)
		return fd;
	return symlinkat(to, fd, name) < 0 && errno != EEXIST ? -errno : 0;
}

/* Container images often have systemd and no udev. Then no unit can wait for a device, and networkd may not for
 * the word of udev: both believe so when /sys is read-only (udev_available() in their source). The console's
 * getty would wait as well: another stands in for it, in /run, so that nothing stays on the disk. */
static int without_udev(struct guest *g, struct vps_err *err)
{
	static const char *const udevs[] = {"/usr/lib/systemd/systemd-udevd",
					    "/lib/systemd/systemd-udevd"};
	int r;

	for (size_t i = 0; i < ARRAY_LEN(udevs); i++)
		if (inroot_exists(g->root, udevs[i]) == 1)
			return 0;
	if (mount(NULL, MERGED "/sys", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  NULL) < 0)
		return vps_err_sys(err, -errno, "make /sys read-only");
	r = link_in(g->root, "/run/systemd/system", "serial-getty@ttyS0.service", "/dev/null");
	if (r >= 0)
		r = link_in(g->root, "/run/systemd/system/getty.target.wants", "console-getty.service",
			    "/lib/systemd/system/console-getty.service");
	return r < 0 ? vps_err_sys(err, r, "a getty for the console") : 0;
}

int root_enter(struct guest *g, struct vps_err *err)
{
	int r = move_view(g->root, "dev", 0755);

	if (r >= 0)
		r = move_view(g->root, "sys", 0755);
	if (r < 0)
		return vps_err_sys(err, r, "mount /dev, /sys");
	r = mount_rest(g, err);
	if (r >= 0 && g->cfg.role == GUEST_SYSTEM)
		r = without_udev(g, err);
	if (r < 0)
		return r;
	r = move_view(g->root, "proc", 0555); /* last, as fds are named by it */
	if (r < 0)
		return vps_err_sys(err, r, "mount /proc");
	fs_remove_tree(AT_FDCWD, "/vps");
	unlink("/init");
	/* switch_root(8): what lies below stays where no path leads */
	if (fchdir(g->root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return vps_err_sys(err, -errno, "switch to the root");
	return 0;
}

/* ---- the end ------------------------------------------------------------------- */

void root_leave(struct guest *g)
{
	char disk[32];

	sync();
	if (g->disk < 0)
		return;
	/* Clean, if nobody holds a file open for writing; else the journal will say. */
	snprintf(disk, sizeof(disk), "/proc/self/fd/%d", g->disk);
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
		mount(NULL, disk, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	sync();
}

_Noreturn void root_power(int how)
{
	reboot(how);
	for (;;)
		pause();
}
