/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VPS_RUNTIME_LXCFS_IMPL_H
#define VPS_RUNTIME_LXCFS_IMPL_H

#define LXCFS_DIR      "lxcfs"	   /* the mount point, below the run directory */
#define LXCFS_PID_FILE "lxcfs.pid" /* "BOOT_ID PID START" */
#define LXCFS_LOCK     "lxcfs.lock"

#endif
