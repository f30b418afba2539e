/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies of disks: for snapshots, and of snapshots. Reflinks where the host's file system has them. Elsewhere a
 * disk in use is copied in two rounds, the long first one while its VPS runs; it is still only for the second,
 * which reads all and writes what has changed.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/sys.h"
#include "images/disk.h"
#include "images/tree_copy.h"

#define PART  (64u << 20) /* between two looks at progress */
#define CHUNK (1u << 20)
#define BLOCK (64u << 10)

/* ---- stillness --------------------------------------------------------------------- */

int disk_still(const struct disk_copying *c, struct vps_err *err)
{
	return c->still ? c->still->freeze(c->still->arg, err) : 0;
}

/* r: of what was done meanwhile, which counts first. */
int disk_go_on(const struct disk_copying *c, int r, struct vps_err *err)
{
	int t = c->still ? c->still->thaw(c->still->arg, r < 0 ? NULL : err) : 0;

	return r < 0 ? r : t;
}

static bool stop_asked(const struct disk_copying *c, uint64_t done, uint64_t total)
{
	return progress_tell(c->progress, 0, "copy the disk", done, total);
}

/* ---- images ---------------------------------------------------------------------------- */

static int rewind_both(int a, int b)
{
	return lseek(a, 0, SEEK_SET) < 0 || lseek(b, 0, SEEK_SET) < 0 ? -errno : 0;
}

static int first_round(int in, int out, uint64_t size, const struct disk_copying *c)
{
	int r = rewind_both(in, out);

	for (uint64_t at = 0; r == 0 && at < size;) {
		uint64_t part = size - at < PART ? size - at : PART;

		r = fs_copy_data(in, out, part);
		at += part;
		if (r == 0 && stop_asked(c, at, size))
			r = -VPS_EINTERRUPTED;
	}
	return r;
}

/* Make [at, end) of out what it is in in, where that has data; writing only what differs. */
static int mend_data(int in, int out, off_t at, off_t end, char *a, char *b)
{
	while (at < end) {
		size_t n = end - at < (off_t)CHUNK ? (size_t)(end - at) : CHUNK;
		int r = fs_pread_all(in, a, n, (uint64_t)at);

		r = r ?: fs_pread_all(out, b, n, (uint64_t)at);
		for (size_t i = 0; r == 0 && i < n; i += BLOCK) {
			size_t len = n - i < BLOCK ? n - i : BLOCK;

			if (memcmp(a + i, b + i, len) != 0)
				r = fs_pwrite_all(out, a + i, len, (uint64_t)at + i);
		}
		if (r < 0)
			return r;
		at += (off_t)n;
	}
	return 0;
}

static int mend_hole(int out, off_t at, off_t end)
{
	off_t data = lseek(out, at, SEEK_DATA);

	if ((data < 0 && errno == ENXIO) || data >= end)
		return 0;
	return fallocate(out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, end - at) < 0 ? -errno : 0;
}

static int second_round(int in, int out, off_t size)
{
	autofree char *a = malloc(CHUNK);
	autofree char *b = malloc(CHUNK);
	int r = a && b ? 0 : -ENOMEM;

	for (off_t at = 0; r == 0 && at < size;) {
		off_t data = lseek(in, at, SEEK_DATA), hole;

		if (data < 0 || data > size)
			data = errno == ENXIO || data > size ? size : at;
		r = data > at ? mend_hole(out, at, data) : 0;
		hole = data < size ? lseek(in, data, SEEK_HOLE) : size;
		if (hole <= data || hole > size)
			hole = size;
		r = r ?: mend_data(in, out, data, hole, a, b);
		at = hole;
	}
	return r;
}

static int copy_by_rounds(int in, int out, off_t size, const struct disk_copying *c, struct vps_err *err)
{
	int r = ftruncate(out, size) < 0 ? -errno : first_round(in, out, (uint64_t)size, c);

	if (r < 0)
		return vps_err_sys(err, r, "copy the image");
	if (!c->still)
		return 0;
	/* What the first round made dirty is not to be waited for with everything still. */
	if (fdatasync(out) < 0)
		return vps_err_sys(err, -errno, "write the copy");
	r = disk_still(c, err);
	if (r < 0)
		return r;
	r = second_round(in, out, size);
	return disk_go_on(c, r < 0 ? vps_err_sys(err, r, "copy the image") : 0, err);
}

int disk_copy_image(int in, int out, const struct disk_copying *c, struct vps_err *err)
{
	struct stat st;
	int r = 0;

	if (fstat(in, &st) < 0)
		return vps_err_sys(err, -errno, "copy the image");
	if (ioctl(out, FICLONE, in) < 0) {
		r = copy_by_rounds(in, out, st.st_size, c, err);
	} else if (c->still) {
		/* That one wrote out what was dirty; now for good. */
		r = disk_still(c, err);
		if (r < 0)
			return r;
		r = ioctl(out, FICLONE, in) < 0 ? vps_err_sys(err, -errno, "reflink the image") : 0;
		r = disk_go_on(c, r, err);
	}
	if (r == 0 && fsync(out) < 0)
		r = vps_err_sys(err, -errno, "write the copy");
	return r;
}

/* ---- trees ------------------------------------------------------------------------------- */

static int copy_upper(int from, int to, uint64_t since, bool live, const struct disk_copying *c, struct vps_err *err)
{
	const struct tree_copy o = {
		.since = since, .live = live, .progress = c->progress, .what = "copy the disk"};

	return tree_copy(from, to, &o, err);
}

static int two_rounds(int from, int to, const struct disk_copying *c, struct vps_err *err)
{
	uint64_t since = sys_now_real();
	int r = syncfs(from) < 0 ? vps_err_sys(err, -errno, "write the disk") : 0;

	r = r ?: copy_upper(from, to, 0, true, c, err);
	r = r ?: disk_still(c, err);
	if (r < 0)
		return r;
	r = copy_upper(from, to, since, false, c, err);
	return disk_go_on(c, r, err);
}

int disk_copy_tree(int disk, int tmp, const struct disk_copying *c, struct vps_err *err)
{
	autoclose int from = fs_open_dir(disk, DISK_FS "/upper");
	autoclose int to = fs_open_dir(tmp, DISK_FS "/upper");
	int r = from < 0 ? from : to < 0 ? to : 0;

	if (r < 0)
		return vps_err_sys(err, r, "open the tree");
	r = c->still ? two_rounds(from, to, c, err) : copy_upper(from, to, 0, false, c, err);
	if (r == 0 && syncfs(to) < 0)
		r = vps_err_sys(err, -errno, "write the copy");
	return r;
}
