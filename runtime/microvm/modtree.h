/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel's modules as a read-only disk for guests. */
#ifndef VPS_RUNTIME_MICROVM_MODTREE_H
#define VPS_RUNTIME_MICROVM_MODTREE_H

#include <stdbool.h>

#include "base/err.h"

#define MODTREE_NAME 200

/* Of the tree `modules` (a folder of /lib/modules), from the cache folder; made when it is not there: mkfs.erofs
 * must be installed. name: its name there. O_RDONLY fd. */
int modtree_open(int cache, int modules, const char *release, char name[MODTREE_NAME], struct vps_err *err);
/* The very one again, of this host or as another one gave it with a VPS. -ENOENT: it is gone; -EPROTO: no such name. */
int modtree_reopen(int cache, int instance_dir, const char *name);
/* A machine comes from another host: file in dir is its modules of that name; a link of it stays with the instance. */
int modtree_take(int dir, const char *file, const char *name, int instance_dir);
/* And the way there: a link of an instance's. */
int modtree_give(int instance_dir, const char *name, int dir, const char *file);
/* The one of an instance whose machine has them. O_RDONLY fd, -ENOENT. */
int modtree_own(int instance_dir, const char *name);
/* Another host's machine has those of that digest, by that name: one of the cache that is the same byte for byte is the
 * instance's from now on; instance_dir -1: only looked for. 0, -ENOENT. */
int modtree_same(int cache, const char *digest, const char *name, int instance_dir);
/* Of a name, the kernel's release. */
int modtree_release(const char *name, char release[MODTREE_NAME]);
bool modtree_is_name(const char *name);
/* This instance has it (NULL: none) from now on, so it is not cleaned away. */
void modtree_keep(int cache, const char *name, int instance_dir);

#endif
