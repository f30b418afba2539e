/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disk tests work as root in a mount namespace of their own, on file systems they make there:
 * a crash of the test leaves no mount and, by autoclear, no loop device. */
#ifndef VPS_TESTS_UNIT_IMAGES_DISK_UTIL_H
#define VPS_TESTS_UNIT_IMAGES_DISK_UTIL_H

#include "tests/unit/base_util.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/proc.h"
#include "base/sys.h"
#include "images/images.h"

#define MIB (1ull << 20)

static inline void need_root_ns(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("SKIP: disk tests need root and a mount namespace: %s\n", strerror(errno));
		exit(77);
	}
}

/* Exit status of a program (whose words go to stderr when it fails), or -errno. */
static inline int run_program(const char *const *argv)
{
	struct proc_opts o = PROC_OPTS_INIT;
	struct vps_err err = {0};
	int r = proc_run((char *const *)(uintptr_t)argv, &o, &err);

	if (r != 0)
		fprintf(stderr, "# %s: %d %s\n", argv[0], r, err.msg);
	return r;
}
#define run_cmd(...) run_program((const char *const[]){__VA_ARGS__, NULL})

/* Devices whose file lies below path, mounted or not. */
static inline unsigned count_loops(const char *path)
{
	auto_strv names = NULL;
	unsigned n = 0;

	assert_int_equal(fs_list(AT_FDCWD, "/sys/block", &names), 0);
	for (size_t i = 0; names && names[i]; i++) {
		char attr[128], file[4200];

		snprintf(attr, sizeof attr, "/sys/block/%s/loop/backing_file", names[i]);
		if (fs_read_buf(AT_FDCWD, attr, file, sizeof file) > 0 && str_starts(file, path))
			n++;
	}
	return n;
}

/* An unmounted device goes a moment after its last user. */
static inline void assert_no_loops(const char *path)
{
	for (int i = 0; i < 400 && count_loops(path); i++)
		usleep(10000);
	assert_int_equal(count_loops(path), 0);
}

/* Write bytes into dir/name until done or an error: bytes written, or the error when nothing
 * could be. The last fsync's error counts. */
static inline int64_t fill_file(int dir, const char *name, uint64_t bytes, int *ret_error)
{
	static char block[65536];
	autoclose int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	uint64_t done = 0;

	*ret_error = 0;
	if (fd < 0) {
		*ret_error = errno;
		return -1;
	}
	memset(block, 'x', sizeof block);
	while (done < bytes) {
		ssize_t n = write(fd, block, sizeof block);

		if (n < 0) {
			*ret_error = errno;
			break;
		}
		done += (uint64_t)n;
	}
	if (fsync(fd) < 0 && !*ret_error)
		*ret_error = errno;
	return (int64_t)done;
}

static inline bool has_cap(unsigned cap)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	assert_int_equal(syscall(SYS_capget, &h, d), 0);
	return d[cap / 32].effective & 1u << cap % 32;
}

/* Put a capability that we have in or out of the effective set. */
static inline void switch_cap(unsigned cap, bool on)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	assert_int_equal(syscall(SYS_capget, &h, d), 0);
	if (!(d[cap / 32].permitted & 1u << cap % 32))
		return;
	d[cap / 32].effective &= ~(1u << cap % 32);
	d[cap / 32].effective |= on ? 1u << cap % 32 : 0;
	assert_int_equal(syscall(SYS_capset, &h, d), 0);
}

/* An overlay with the disk behind `mount` as its upper, an empty lower, at base/merged. Mounted by
 * one who may pass quotas: that must not reach those who write through it. Its root's fd. */
static inline int overlay_on(int mount_fd, const char *base)
{
	char at[128], lower[128], merged[128], opts[512];

	snprintf(at, sizeof at, "%s/at", base);
	snprintf(lower, sizeof lower, "%s/lower", base);
	snprintf(merged, sizeof merged, "%s/merged", base);
	mkdir(at, 0755);
	mkdir(lower, 0755);
	mkdir(merged, 0755);
	assert_int_equal(sys_move_mount(mount_fd, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH), 0);
	snprintf(opts, sizeof opts, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, at, at);
	assert_int_equal(mount("overlay", merged, "overlay", 0, opts), 0);
	int fd = open(merged, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static inline void overlay_off(int *fd, const char *base)
{
	char path[128];

	close_fd(fd);
	snprintf(path, sizeof path, "%s/merged", base);
	assert_int_equal(umount2(path, 0), 0);
	snprintf(path, sizeof path, "%s/at", base);
	assert_int_equal(umount2(path, MNT_DETACH), 0); /* the caller's fd keeps it busy */
}

#define assert_ok(expr)                                                                \
	do {                                                                           \
		struct vps_err *_e = &err;                                             \
		int _r = (expr);                                                       \
		if (_r < 0)                                                            \
			fail_msg("%s = %d: %s", #expr, _r, _e->msg);                   \
	} while (0)
#define assert_refused(expr, want)                                                     \
	do {                                                                           \
		vps_err_clear(&err);                                                   \
		int _r = (expr);                                                       \
		if (_r != -(want))                                                     \
			fail_msg("%s = %d, not %d: %s", #expr, _r, -(want), err.msg);  \
		if (!err.msg[0])                                                       \
			fail_msg("%s: no words", #expr);                               \
		vps_err_clear(&err);                                                   \
	} while (0)

#endif
