/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operator's own programs around the steps of a migration: <conf dir>/hooks/migrate, then hooks/migrate of the
 * VPS's directory, each as `migrate before|after STEP`, with VPS_NAME, VPS_ID, VPS_UUID, VPS_ADDRESSES, VPS_PEER and
 * VPS_ROLE (source, destination) in its environment.
 */
#ifndef VPS_RUNTIME_MIGRATE_HOOK_H
#define VPS_RUNTIME_MIGRATE_HOOK_H

#include "runtime/internal.h"

struct hook {
	struct vps_host *h;
	const struct vps_spec *spec;
	int instance_dir; /* or -1 */
	const char *role, *peer;
};
/* Its failure is -VPS_ESTATE. No such program: 0. */
int hook_run(const struct hook *k, const char *when, const char *step, struct vps_err *err);

#endif
