/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What follows the end of a run: pure, so that it is tested without waiting. */
#ifndef VPS_RUNTIME_RESTART_H
#define VPS_RUNTIME_RESTART_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/monitor.h"

#define RESTART_DELAY_FIRST 1	/* seconds; doubles */
#define RESTART_DELAY_MAX   60
#define RESTART_HEALTHY	    600 /* up this long: earlier failures are forgotten */

/* The cause and exit code of a wait status (waitid's si_code/si_status folded into wait(2)'s
 * word). A PID namespace's init that dies by SIGHUP or SIGINT called reboot(2): pid_namespaces(7).
 * stop: the operator asked for it. */
enum monitor_cause restart_cause(int wstatus, bool stop, int *ret_exit_code);

struct restart_decision {
	bool restart;
	unsigned delay_s;
	unsigned failures; /* the counter of the next run */
};
/* failures: in a row before this run; max: of failures in a row, 0: no cap. */
struct restart_decision restart_decide(enum monitor_policy policy, unsigned max,
				       enum monitor_cause cause, int exit_code, uint64_t up_s,
				       unsigned failures);

#endif
