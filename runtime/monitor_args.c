/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/monitor_args.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define AT(member) offsetof(struct monitor_args, member)

const struct monitor_arg monitor_arg_table[] = {
	{"id", ARG_UINT, AT(id)},
	{"name", ARG_STR, AT(name)},
	{"root", ARG_STR, AT(root)},
	{"run", ARG_STR, AT(run)},
	{"conf", ARG_STR, AT(conf)},
	{"run-dir", ARG_FD, AT(run_dir)},
	{"instance-dir", ARG_FD, AT(instance_dir)},
	{"init", ARG_UINT, AT(init.pid)},
	{"init-start", ARG_U64, AT(init.start_time)},
	{"pidfd", ARG_FD, AT(pidfd)},
	{"console", ARG_FD, AT(console)},
	{"stdin", ARG_FD, AT(pipes[0])},
	{"stdout", ARG_FD, AT(pipes[1])},
	{"stderr", ARG_FD, AT(pipes[2])},
	{"notify", ARG_FD, AT(notify)},
	{"oom", ARG_FD, AT(oom)},
	{"oom-stat", ARG_FD, AT(oom_stat)},
	{"gate", ARG_FD, AT(gate)},
	{"lock", ARG_FD, AT(lock)},
	{"report", ARG_FD, AT(report)},
	{"started", ARG_U64, AT(started)},
	{"log-max", ARG_U64, AT(console_log_max)},
	{"restart", ARG_UINT, AT(restart)},
	{"restart-max", ARG_UINT, AT(restart_max)},
	{"restarts", ARG_UINT, AT(restarts)},
	{"failures", ARG_UINT, AT(failures)},
	{"hold", ARG_BOOL, AT(hold_for_attach)},
	{"ready", ARG_BOOL, AT(ready)},
	{"lxcfs", ARG_BOOL, AT(lxcfs)},
	{"adopt", ARG_BOOL, AT(adopt)},
	{0},
};
_Static_assert(ARRAY_LEN(monitor_arg_table) <= MONITOR_N_ARGS, "MONITOR_N_ARGS");
_Static_assert(sizeof(enum monitor_policy) == sizeof(unsigned) && sizeof(pid_t) == sizeof(unsigned),
	       "stored as ARG_UINT");

void monitor_args_init(struct monitor_args *a)
{
	memset(a, 0, sizeof(*a));
	for (const struct monitor_arg *t = monitor_arg_table; t->key; t++)
		if (t->type == ARG_FD)
			*(int *)monitor_arg_at(a, t) = -1;
}

static int set_arg(struct monitor_args *a, const struct monitor_arg *t, const char *value)
{
	void *at = monitor_arg_at(a, t);
	uint64_t v = 0;

	if (t->type == ARG_STR) {
		*(const char **)at = value;
		return 0;
	}
	if (parse_u64(value, t->type == ARG_U64 ? UINT64_MAX : INT_MAX, &v) < 0)
		return -EINVAL;
	switch (t->type) {
	case ARG_U64:
		*(uint64_t *)at = v;
		break;
	case ARG_BOOL:
		*(bool *)at = v != 0;
		break;
	case ARG_UINT:
		*(unsigned *)at = (unsigned)v;
		break;
	case ARG_FD:
		*(int *)at = (int)v;
		break;
	case ARG_STR:
		break;
	}
	return 0;
}

int monitor_args_parse(char *const *argv, struct monitor_args *ret)
{
	struct monitor_args a;

	monitor_args_init(&a);
	for (; *argv; argv++) {
		const struct monitor_arg *t = monitor_arg_table;
		const char *eq = strchr(*argv, '=');

		while (t->key && (!eq || strlen(t->key) != (size_t)(eq - *argv) ||
				  !str_starts(*argv, t->key)))
			t++;
		if (!t->key || set_arg(&a, t, eq + 1) < 0)
			return -EINVAL;
	}
	if (!a.name || !a.root || !a.run || a.run_dir < 0 || a.instance_dir < 0 || a.init.pid <= 0 ||
	    a.restart > MONITOR_RESTART_ALWAYS)
		return -EINVAL;
	snprintf(a.init.boot_id, sizeof(a.init.boot_id), "%s", proc_boot_id());
	*ret = a;
	return 0;
}

char *monitor_program(const char *name, const char *dir, char *buf, size_t size)
{
	const char *env = getenv("VPS_LIBEXEC");

	snprintf(buf, size, "%s/%s", env && *env ? env : dir, name);
	return buf;
}
