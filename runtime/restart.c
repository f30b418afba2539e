/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/restart.h"

#include <signal.h>
#include <sys/wait.h>

enum monitor_cause restart_cause(int wstatus, bool stop, int *ret_exit_code)
{
	int code = WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
	enum monitor_cause cause = WIFEXITED(wstatus) ? MONITOR_EXITED : MONITOR_SIGNALED;

	/* Signals without a handler do not reach such an init, SIGKILL from outside excepted: these
	 * two come from the kernel's reboot_pid_ns() only. */
	if (WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGHUP) {
		cause = MONITOR_REBOOT;
		code = 0;
	} else if (WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGINT) {
		cause = MONITOR_HALT;
		code = 0;
	}
	*ret_exit_code = code;
	return stop ? MONITOR_STOP : cause;
}

static bool wanted(enum monitor_policy policy, enum monitor_cause cause, int exit_code)
{
	switch (cause) {
	case MONITOR_STOP:
	case MONITOR_HALT:
		return false;
	case MONITOR_REBOOT:
		return true;
	case MONITOR_EXITED:
	case MONITOR_SIGNALED:
	case MONITOR_LOST:
		break;
	}
	return policy == MONITOR_RESTART_ALWAYS ||
	       (policy == MONITOR_RESTART_ON_FAILURE && exit_code != 0);
}

struct restart_decision restart_decide(enum monitor_policy policy, unsigned max,
				       enum monitor_cause cause, int exit_code, uint64_t up_s,
				       unsigned failures)
{
	struct restart_decision d = {0};

	if (up_s >= RESTART_HEALTHY)
		failures = 0;
	if (!wanted(policy, cause, exit_code))
		return d;
	/* A reboot is the tenant's right, not a failure to be counted out; but a VPS that does
	 * nothing else backs off like any other. */
	if (cause != MONITOR_REBOOT && max > 0 && failures >= max)
		return d;
	d.restart = true;
	if (cause != MONITOR_REBOOT || failures > 0)
		d.delay_s = failures < 6 ? RESTART_DELAY_FIRST << failures : RESTART_DELAY_MAX;
	if (d.delay_s > RESTART_DELAY_MAX)
		d.delay_s = RESTART_DELAY_MAX;
	d.failures = failures + 1;
	return d;
}
