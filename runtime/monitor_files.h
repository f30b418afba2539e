/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and writers of the monitor's files; readers are in runtime/monitor.h. */
#ifndef VPS_RUNTIME_MONITOR_FILES_H
#define VPS_RUNTIME_MONITOR_FILES_H

#include "runtime/monitor.h"

#define MONITOR_STATUS_FILE "monitor"
#define MONITOR_LAST_FILE   "last"
#define MONITOR_LOCK_FILE   "monitor.lock"
#define MONITOR_CTL_FILE    "ctl"
#define MONITOR_LOG_FILE    "console.log"
#define MONITOR_LOG_OLD	    "console.log.1"

int monitor_status_write(int run_dir, const struct monitor_status *s);

#endif
