/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What exec, cp, stats and top need of a running VPS, without its lock. */
#ifndef VPS_RUNTIME_INSIDE_H
#define VPS_RUNTIME_INSIDE_H

#include "runtime/internal.h"

struct inside {
	unsigned id;
	struct vps_spec spec;
	struct run_state state;
	const struct vps_driver *driver;
	struct cg *cg;
	int dir, run_dir;
	struct vps_live live; /* all of it, for the driver */
};
#define INSIDE_INIT { .dir = -1, .run_dir = -1 }
/* -VPS_ENOVPS, -VPS_ESTATE when it is not running or paused. */
int inside_open(struct vps_host *h, const char *who, struct inside *ret, struct vps_err *err);
void inside_done(struct inside *i);

/* For what looks into a stopped VPS: image's layers and disk as a struct vps_run without payload.
 * l stays the caller's and locked; root_done closes the fds. */
struct stopped_root {
	struct img_info image;
	int *layers;
	size_t n_layers;
	int disk;	/* -1 where a guest kernel has it */
	int erofs, disk_image; /* of a machine: root_open_machine */
};
#define STOPPED_ROOT_INIT { .disk = -1, .erofs = -1, .disk_image = -1 }
/* image's layers, and the disk of a container */
int root_open(struct vps_locked *l, struct stopped_root *ret, struct vps_err *err);
/* The parts of a machine's root: image and layers; then, once, the disk: marked as a guest's from here on. */
int root_open_image(struct vps_locked *l, struct stopped_root *ret, struct vps_err *err);
int root_open_machine_disk(struct vps_locked *l, struct stopped_root *root, struct vps_err *err);
void root_done(struct stopped_root *r);

#endif
