/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Placing the entries of a hostile archive into a layer: all that happens on disk, nothing that knows
 * archives. Names resolve below the layer's root only; the whiteouts of OCI become those of
 * overlayfs. Memory does not grow with the number of entries. Inside images/ only.
 */
#ifndef VPS_IMAGES_PLACE_H
#define VPS_IMAGES_PLACE_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "images/images.h"

struct place_xattr {
	const char *name;
	const void *value;
	size_t len;
};

struct place_item {
	const char *path; /* as the archive has it */
	mode_t type;	  /* S_IFMT bits; 0 with hardlink */
	mode_t mode;	  /* 07777 */
	int64_t uid, gid;
	uint64_t size; /* of a regular file */
	int64_t mtime;
	long mtime_ns;
	const char *symlink, *hardlink;
	unsigned major, minor;
	const struct place_xattr *xattrs;
	size_t n_xattrs;
};

struct place_stats {
	_Atomic uint64_t entries, bytes; /* file data written */
	uint64_t logical;		 /* sizes as files tell them: holes count */
	int64_t newest;
	uint64_t refused, xattrs_dropped;
};

struct place {
	int root;
	const int *lower; /* the layers below, top first */
	size_t n_lower;
	const struct img_caps *caps;
	bool plain;	/* members of an image archive: no ids, no whiteouts, files only */
	int refused_fd; /* NUL-ended lines; -1: none */
	struct place_stats *st;

	/* The parent of the last entry. Its times are put right when it is left. */
	int dir; /* -1: none */
	struct timespec dir_mtime;
	bool dirty; /* something was made or removed in it */
	bool odd;   /* new entries inherit: set-gid or default ACL */
	char dir_path[PATH_MAX]; /* as the archive names it */
	char dir_real[PATH_MAX]; /* where that leads, through no links */
	char path[PATH_MAX]; /* the entry's, made plain */
	const char *name;    /* its last part */
	size_t refused_bytes;
	uint64_t steps; /* parts looked up one by one: bounded, or links of links take hours */

	int file; /* open regular file; -1: none */
	uint64_t file_size;
	uint64_t file_end; /* end of the data written */
};

int place_begin(struct place *p, struct vps_err *err);
/* One entry. A regular file with size stays open for place_data until place_close. */
int place_add(struct place *p, const struct place_item *it, struct vps_err *err);
int place_data(struct place *p, const void *data, size_t len, uint64_t off, struct vps_err *err);
int place_close(struct place *p, const struct place_item *it, struct vps_err *err);
/* The end: times of the last folder. */
int place_end(struct place *p, struct vps_err *err);
void place_done(struct place *p);

/* ---- between place.c and place_path.c ---- */

#define WH_PREFIX ".wh."
#define WH_META	  ".wh..wh."
#define WH_OPAQUE ".wh..wh..opq"
#define XATTR_OPAQUE "trusted.overlay.opaque"

/* "<words>: '<path, escaped>'" */
int place_bad(const char *path, struct vps_err *err, const char *words);
int place_sys(const char *path, int r, struct vps_err *err, const char *words);
/* Without leading '/', "." and doubled '/'; ".." is refused. Result may be "". */
int place_plain_path(struct place *p, const char *raw, char *out, struct vps_err *err);
/* Make the parent of p->path current, set p->name. Missing parents are made. */
int place_enter(struct place *p, struct vps_err *err);
int place_leave(struct place *p, struct vps_err *err);
/* O_PATH fd of path in the layers below as overlayfs would show it, -ENOENT. */
int place_lower(struct place *p, const char *path);
/* Is dir (plain) or a parent of it opaque in this layer? */
bool place_cut_off(struct place *p, const char *dir);
/* openat2 below root, through plain folders only: -ELOOP at a symbolic link. */
int place_open_plain(int root, const char *path, int flags);
/* The root's mode and owner before the archive says otherwise. */
int place_root_face(struct place *p, struct vps_err *err);
int place_count(struct place *p, struct vps_err *err); /* one entry more */
int place_opaque(int fd);
static inline bool place_is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

#endif
