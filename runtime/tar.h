/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tar streams for cp: POSIX ustar with pax records (pax(1)), GNU's long names when reading. Our
 * own few hundred lines instead of libarchive: this runs inside a VPS, where a library must not
 * load locales, character sets or name services of the tenant's (CVE-2019-14271), and where
 * hostile trees and streams are the normal case. Bytes of names are passed through as they are.
 */
#ifndef VPS_RUNTIME_TAR_H
#define VPS_RUNTIME_TAR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Write dirfd/name (a tree, links not followed, other file systems included) to fd, its top entry
 * named as ("." or a name without '/'). Sockets are left out; of the kernel's views (proc, sysfs,
 * cgroup, devpts) below the top only the directory comes along. A file that changes while it is read
 * keeps the length that its header says. */
int tar_pack(int dirfd, const char *name, const char *as, int fd, struct vps_err *err);

/* The whole tree of dirfd as ".", with what cp does not carry: extended attributes that are the tree's own
 * (capabilities, ACLs, user.*), as pax records TAR_XATTR. One file system. */
int tar_pack_tree(int dirfd, int fd, struct vps_err *err);
/* Make the tree of dirfd what such a stream says: what is there and the same is not touched (on an overlay:
 * stays in the lower layers), what the stream has not goes. No link is followed. Number of entries left
 * out: device nodes, which no user namespace can make. */
int tar_sync(int dirfd, int fd, struct vps_err *err);

struct tar_unpack_opts {
	const char *as;	     /* the one top entry is renamed to this; NULL: names as they are */
	/* strict: no link is followed anywhere, no set-id bits, owners are not set */
	bool host;
	long uid, gid;	     /* >= 0: instead of the stream's */
	bool sync;	     /* tar_sync's */
};
/* Read a stream to its end and make what it holds below dirfd. Symbolic links are kept as they
 * are, device nodes left out. Existing files are replaced, existing directories kept. -EBADMSG: no
 * tar stream, or broken. Number of entries left out. */
int tar_unpack(int dirfd, const struct tar_unpack_opts *o, int fd, struct vps_err *err);

/* The two for cp, in the process whose root is the tree's: path as vps_copy_out and vps_copy_in
 * (runtime/vps.h) have it, absolute. The second changes the umask. */
int tar_pack_path(const char *path, int fd, struct vps_err *err);
int tar_unpack_path(const char *path, long uid, long gid, int fd, struct vps_err *err);

/* ---- shared by the two ---- */
#define TAR_BLOCK 512
#define TAR_XATTR "VPS.xattr." /* + name = value in hex */
struct tar_header { /* ustar, all fields text */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag,
		linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8],
		prefix[155], pad[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "one block");
/* Sum of the header's bytes with chksum as blanks. */
unsigned tar_checksum(const struct tar_header *h);
/* Does a tree take this attribute along? */
bool tar_wants_xattr(const char *name);

#endif
