/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Own views of /proc for each VPS by lxcfs, where it is installed: one instance of ours a host, at
 * <run>/lxcfs, in a session of its own. It outlives commands; each monitor watches it by pidfd. When it
 * dies, `vps _lxcfs-heal ID` takes the dead mounts out of the VPS (its plain files show), starts lxcfs again
 * and binds the new ones, so that a VPS outlives a crash of it.
 */
#ifndef VPS_RUNTIME_LXCFS_H
#define VPS_RUNTIME_LXCFS_H

#include <stdbool.h>

#include "base/err.h"
#include "base/proc.h"
#include "cgroups/cgroups.h"

/* What is bound over the VPS's own: paths below both lxcfs's root and the VPS's, "proc/meminfo" …; ended by
 * NULL. One that lxcfs does not have is skipped. */
extern const char *const lxcfs_files[];

/* Is the view needed? The kernel's own uptime is the VPS's already where there are time namespaces (CONFIG_TIME_NS),
 * and goes on after a resume, where lxcfs would count from init's start. */
bool lxcfs_wanted(const char *file);
/* O_PATH fd of the root of a living lxcfs mount, started when need be. how: vps.conf's lxcfs (auto, off or the
 * program's path). -ENOENT: off, or auto and not installed. run_fd/run: the host's run directory.
 * cg: it then stands in the keepers' cgroup, not its starter's; may be NULL. */
int lxcfs_ensure(int run_fd, const char *run, const char *how, struct cg_host *cg, struct vps_err *err);
/* pidfd of the running instance, or -ESRCH. */
int lxcfs_pidfd(int run_fd);
/* Replace what is dead or missing in the mount namespace of init. Forks. */
int lxcfs_heal(int run_fd, const char *run, const char *how, const struct proc_ident *init, struct cg_host *cg,
	       struct vps_err *err);
/* End our instance (no VPS runs any more) and unmount. Missing is fine. */
int lxcfs_stop(int run_fd, const char *run, struct vps_err *err);

#endif
