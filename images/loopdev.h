/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loop devices: loop(4), LOOP_CONFIGURE since Linux 5.8.
 *
 * A device keeps the very open file it was given. So an flock(2) on that file lives as long as the
 * device does, through any crash of ours: whoever gets the lock of an image knows that no
 * device has it. A file system mounted through two devices at once would destroy itself.
 */
#ifndef VPS_IMAGES_LOOPDEV_H
#define VPS_IMAGES_LOOPDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define LOOP_PATH_LEN 32

/* A free device on img_fd (open read-write), gone with its last user (autoclear), direct I/O
 * where the file system below can, so that pages are not cached twice. block: logical block size.
 * path: "/dev/loopN". The fd of the device; keep it until it is mounted. */
int loop_attach(int img_fd, unsigned block, char path[LOOP_PATH_LEN], struct vps_err *err);
/* The device that has the file of img_fd; -ENOENT when none. Held open, it cannot go. */
int loop_find(int img_fd, char path[LOOP_PATH_LEN]);
/* Tell the device that its file has another size now. */
int loop_set_capacity(int loop_fd);
/* Devices on files below the directory dir_path that no file system uses and that do not go by
 * themselves: "/dev/loopN <file>" each. fix: detach them. */
int loop_audit(const char *dir_path, bool fix, char ***ret_found);

#endif
