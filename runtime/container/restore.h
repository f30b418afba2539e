/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lies in a checkpoint of a container beside CRIU's images: checkpoint.c writes it, restore.c reads it. */
#ifndef VPS_RUNTIME_RESTORE_H
#define VPS_RUNTIME_RESTORE_H

#include "runtime/container/container.h"

#define CHECKPOINT_CONTAINER	     "container.json"
#define CHECKPOINT_CONTAINER_VERSION 1
#define CHECKPOINT_DEV		     "dev.tar"
/* What CRIU writes for people, also after everything is sealed: no part of the checkpoint. */
#define CHECKPOINT_WORK		     "work"
#define CHECKPOINT_LOG		     "dump.log"
#define CHECKPOINT_PREDUMP_LOG	     "predump.log"
/* Where the stage is mounted: the processes that criu makes find its mounts by path, as the VPS's root, so everybody must
 * be able to go there; and what lies below it is not to be needed by criu. Not /sys: in sight of a covered one the kernel
 * makes no other for a user namespace. */
#define RESTORE_STAGE		     "/run"
#define RESTORE_LOG		     "restore.log"

/* The directory CHECKPOINT_WORK of a checkpoint, made when missing: fd, or -errno with words. */
int checkpoint_work(int dir, struct vps_err *err);

/* Rounds of pre-copy are the images of pre-dumps, in directories "1" to "N" of the checkpoint: each has the memory that changed
 * since the one before, and the dump itself, beside them, what changed since the last. */
#define CHECKPOINT_ROUNDS_MAX 999u
#define CHECKPOINT_ROUND_STR  12

/* ---- idimage.c ---- */

/* CRIU's image of a user namespace with these ids. Its length. */
#define IDIMAGE_MAX 64
size_t idimage_encode(uint32_t id_base, unsigned char buf[IDIMAGE_MAX]);
/* A directory below work with a checkpoint's images and these ids: fd. */
int idimage_dir(int checkpoint, int work, unsigned rounds, uint32_t id_base, struct vps_err *err);

#endif
