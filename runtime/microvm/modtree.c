/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel's modules as an EROFS, for guests: an image has none for the host's kernel, and its tenant wants
 * iptables to work. Made once a kernel, in the cache folder; one for all machines, whose page cache they share.
 *
 *   <root>/cache/modules-<release>-<key>.erofs     never changed, only replaced by one of another name
 *   instances/<id>/modules                         a hard link to what its machine has: it stays for a checkpoint
 *   instances/<id>/modules-<release>-<key>.erofs   of a machine that came from another host, as long as it runs on
 */
#include "runtime/microvm/modtree.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/lock.h"
#include "base/proc.h"
#include "base/str.h"
#include "images/images.h"

#define FORMAT	 "2" /* changes with what is put into it */
#define PREFIX	 "modules-"
#define SUFFIX	 ".erofs"
#define LOCK	 "modules.lock"
#define TEMP	 "modules.tmp"
#define LINK	 "modules"
/* Hosts with the same package make the same file. */
#define UUID	 "76707300-0000-4000-8000-000000000001"
#define UNUSED_S (7 * 24 * 3600)

/* Drivers of hardware that no machine of ours has: two thirds of a distribution's tree. */
#define NOT_NEEDED                                                                                 \
	"^(build|source|kernel/sound|kernel/drivers/"                                              \
	"(accessibility|ata|bluetooth|comedi|edac|firewire|gpu|hwmon|iio|infiniband|input|isdn|leds|media|" \
	"memstick|message|mfd|mmc|mtd|nfc|nvme|parport|pcmcia|pinctrl|platform|power|regulator|rtc|scsi|" \
	"soundwire|spi|i2c|staging|target|thunderbolt|ufs|usb|video|"                              \
	"net/(arcnet|can|ethernet|fddi|hamradio|hippi|phy|plip|thunderbolt|usb|wan|wireless)))$"

bool modtree_is_name(const char *name)
{
	return str_starts(name, PREFIX) && str_ends(name, SUFFIX) && !strchr(name, '/') &&
	       strlen(name) < MODTREE_NAME;
}

/* depmod(8) writes modules.dep anew whenever a package changes the tree. */
static int name_of(int modules, const char *release, char name[MODTREE_NAME], struct vps_err *err)
{
	char key[DIGEST_LEN], text[256];
	struct stat st;
	int n;

	if (fstatat(modules, "modules.dep", &st, 0) < 0)
		return vps_err_sys(err, -errno, "the kernel's modules.dep (depmod makes it)");
	snprintf(text, sizeof(text), FORMAT " %s %lld %lld.%09ld", release, (long long)st.st_size,
		 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	digest_of(text, strlen(text), key);
	n = snprintf(name, MODTREE_NAME, PREFIX "%s-%.16s" SUFFIX, release,
		     strchr(key, ':') ? strchr(key, ':') + 1 : "");
	return n >= MODTREE_NAME ? vps_err_sys(err, -ENAMETOOLONG, "kernel release '%s'", release) : 0;
}

/* One that an instance has is linked there as well. */
static void clean(int cache, const char *keep)
{
	auto_strv names = NULL;
	struct stat st;

	if (fs_list(cache, ".", &names) < 0)
		return;
	for (char **n = names; n && *n; n++)
		if (modtree_is_name(*n) && !str_eq(*n, keep) &&
		    fstatat(cache, *n, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink == 1 &&
		    st.st_mtime < time(NULL) - UNUSED_S)
			unlinkat(cache, *n, 0);
}

/* With the lock: what lies there of this name is a killed one's. */
static int make(int cache, int modules, const char *name, struct vps_err *err)
{
	/* Its only fds are 0 to 2: the tree is its stdin, the file its stdout. */
	static const char *const argv[] = {"mkfs.erofs", "--quiet", "--all-root", "-T0", "-U" UUID, "--exclude-regex=" NOT_NEEDED,
					   "/proc/self/fd/1", "/proc/self/fd/0/", NULL};
	struct proc_opts o = PROC_OPTS_INIT;
	autoclose int out = -1;
	int r;

	if (unlinkat(cache, TEMP, 0) < 0 && errno != ENOENT)
		return vps_err_sys(err, -errno, "remove " TEMP);
	out = openat(cache, TEMP, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return vps_err_sys(err, -errno, "make " TEMP);
	o.in_fd = modules;
	o.out_fd = out;
	r = proc_run_ok((char *const *)argv, &o, err);
	if (r == 0 && (fchmod(out, 0400) < 0 || fsync(out) < 0 || renameat(cache, TEMP, cache, name) < 0))
		r = vps_err_sys(err, -errno, "place the kernel's modules");
	if (r < 0)
		unlinkat(cache, TEMP, 0);
	else
		clean(cache, name);
	return r;
}

int modtree_reopen(int cache, int instance_dir, const char *name)
{
	int fd = -1;

	if (!modtree_is_name(name))
		return -EPROTO;
	/* one that came from another host first: the name tells the kernel, not who made the file and how */
	if (instance_dir >= 0)
		fd = openat(instance_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (instance_dir < 0 || (fd < 0 && errno == ENOENT))
		fd = openat(cache, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int modtree_take(int dir, const char *file, const char *name, int instance_dir)
{
	if (!modtree_is_name(name))
		return -EPROTO;
	/* Never into the cache: to other machines it is a stranger's. */
	return linkat(dir, file, instance_dir, name, 0) < 0 && errno != EEXIST ? -errno : 0;
}

int modtree_give(int instance_dir, const char *name, int dir, const char *file)
{
	if (linkat(instance_dir, name, dir, file, 0) == 0)
		return 0;
	return errno == ENOENT && linkat(instance_dir, LINK, dir, file, 0) == 0 ? 0 : -errno;
}

int modtree_own(int instance_dir, const char *name)
{
	int fd = openat(instance_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		fd = openat(instance_dir, LINK, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int modtree_same(int cache, const char *digest, const char *name, int instance_dir)
{
	auto_strv names = NULL;
	int r = modtree_is_name(name) ? fs_list(cache, ".", &names) : -EPROTO;

	for (char **n = names; r == 0 && n && *n; n++) {
		char have[DIGEST_LEN];
		autoclose int fd = modtree_is_name(*n) ? openat(cache, *n, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
		if (fd < 0 || img_erofs_digest(fd, have, NULL) < 0 || !str_eq(have, digest))
			continue;
		futimens(fd, NULL); /* in use */
		return instance_dir < 0 ? 0 : modtree_take(cache, *n, name, instance_dir);
	}
	return r ?: -ENOENT;
}

/* PREFIX release "-" key SUFFIX */
int modtree_release(const char *name, char release[MODTREE_NAME])
{
	const char *end = modtree_is_name(name) ? strrchr(name, '-') : NULL;

	if (!end || end < name + strlen(PREFIX))
		return -EPROTO;
	snprintf(release, MODTREE_NAME, "%.*s", (int)(end - name - (ptrdiff_t)strlen(PREFIX)), name + strlen(PREFIX));
	return 0;
}

int modtree_open(int cache, int modules, const char *release, char name[MODTREE_NAME], struct vps_err *err)
{
	autoclose int lock = -1;
	int fd, r = name_of(modules, release, name, err);

	if (r < 0)
		return r;
	fd = modtree_reopen(cache, -1, name);
	if (fd == -ENOENT) {
		lock = lock_take(cache, LOCK, true, LOCK_FOREVER);
		if (lock < 0)
			return vps_err_sys(err, lock, "lock the kernel's modules");
		r = fs_exists(cache, name) ? 0 : make(cache, modules, name, err);
		if (r < 0)
			return vps_err_wrap(err, r, "modules of kernel %s as a disk for machines", release);
		fd = modtree_reopen(cache, -1, name);
	}
	if (fd < 0)
		return vps_err_sys(err, fd, "open the kernel's modules");
	futimens(fd, NULL); /* in use */
	return fd;
}

void modtree_keep(int cache, const char *name, int instance_dir)
{
	auto_strv names = NULL;

	unlinkat(instance_dir, LINK, 0);
	if (fs_list(instance_dir, ".", &names) == 0)
		for (char **n = names; n && *n; n++)
			if (modtree_is_name(*n) && !(name && str_eq(*n, name)))
				unlinkat(instance_dir, *n, 0);
	if (name && linkat(cache, name, instance_dir, LINK, 0) < 0)
		return; /* it is only kept less surely then */
}
