/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How struct monitor_args travels through execve: "key=value" words, fds by number. One table for
 * both ends, monitor_args.c. */
#ifndef VPS_RUNTIME_MONITOR_ARGS_H
#define VPS_RUNTIME_MONITOR_ARGS_H

#include "runtime/monitor.h"

enum arg_type { ARG_UINT, ARG_U64, ARG_BOOL, ARG_STR, ARG_FD };
struct monitor_arg {
	const char *key;
	enum arg_type type;
	size_t off;
};
extern const struct monitor_arg monitor_arg_table[]; /* ended by a NULL key */
#define MONITOR_N_ARGS 32

static inline void *monitor_arg_at(const struct monitor_args *a, const struct monitor_arg *t)
{
	return (char *)(uintptr_t)a + t->off;
}

/* Strings of ret point into argv. 0, or -EINVAL for a word that is not known or a bad value. */
int monitor_args_parse(char *const *argv, struct monitor_args *ret);

/* $VPS_LIBEXEC/name, or dir/name. Returns buf. */
char *monitor_program(const char *name, const char *dir, char *buf, size_t size);

#endif
