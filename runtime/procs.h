/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What /proc/PID tells of a process, for top: the host's of a container, the agent's of a guest. */
#ifndef VPS_RUNTIME_PROCS_H
#define VPS_RUNTIME_PROCS_H

#include "runtime/vps.h"

/* From the text of /proc/PID/stat: state, cpu_us, rss; *ret_ppid may be NULL. -EINVAL. proc(5) */
int procs_stat(const char *text, struct vps_proc *p, pid_t *ret_ppid);
/* The real uid in the text of /proc/PID/status. -EINVAL. */
int procs_uid(const char *text, uint32_t *ret);
/* Of the directory /proc/PID: its arguments between blanks, or "[name]"; raw bytes. NULL: no memory. */
char *procs_cmdline(int dir, const char *stat);

#endif
