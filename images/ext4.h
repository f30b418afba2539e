/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One ext4 file system in an image file: made, measured, grown, shrunk, mounted. The tools of
 * e2fsprogs do what the kernel has no call for. */
#ifndef VPS_IMAGES_EXT4_H
#define VPS_IMAGES_EXT4_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define EXT4_BLOCK 4096u

/* Of the superblock; free counts are exact only after a clean unmount. */
struct ext4_info {
	uint64_t blocks, free_blocks, overhead; /* of block_size bytes */
	uint64_t inodes, free_inodes;
	uint32_t block_size, inodes_per_group;
};

/* Make the file system of img's size; inodes 0: one for 16 KiB (4 KiB below 512 MiB).
 * Everything below the directory skel goes in. */
int ext4_make(int img, int skel, uint64_t size, uint64_t inodes, struct vps_err *err);
/* The inodes a file system of this size would have; 0 when `inodes` cannot be had. */
uint64_t ext4_inodes_for(uint64_t size, uint64_t inodes);
/* Inodes come by the inode table block in each group, so a limit is rounded up. By an eighth at
 * most, else it would be no limit. */
static inline bool ext4_inodes_near(uint64_t have, uint64_t asked)
{
	return have >= asked && have - asked <= asked / 8;
}
/* Read from an image or a block device. -EUCLEAN when it is no ext4. */
int ext4_read(int fd, struct ext4_info *ret);
/* Mount dev (a path), detached. A device that is mounted already gives another mount of the
 * same file system. */
int ext4_mount(const char *dev, bool read_only, int *ret_mount, struct vps_err *err);
/* Grow online to this many blocks. -EPERM without CAP_SYS_RESOURCE. */
int ext4_grow(int mount, uint64_t blocks);
/* Shrink or grow an image that nobody uses, to this many blocks; not crash-safe in itself. */
int ext4_resize(int img, uint64_t blocks, struct vps_err *err);

#endif
