// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

static const char *const names[] = {
	[FAULT_KILL] = "kill",
	[FAULT_KILL_AFTER] = "kill-after",
	[FAULT_CUT] = "cut",
	[FAULT_FULL] = "full",
	[FAULT_HALF] = "half",
	[FAULT_TWICE] = "twice",
};

void fault_kill(enum fault f)
{
	if (f == FAULT_KILL || f == FAULT_KILL_AFTER)
		kill(getpid(), SIGKILL);
}

enum fault fault_at(const char *role, unsigned step)
{
	const char *s = secure_getenv("VPS_FAULT_MIGRATE");
	size_t n = strlen(role);
	char want[40];

	if (!s || strncmp(s, role, n) != 0 || s[n] != ':')
		return FAULT_NONE;
	for (size_t f = FAULT_KILL; f < ARRAY_LEN(names); f++) {
		snprintf(want, sizeof(want), "%s:%u", names[f], step);
		if (!str_eq(s + n + 1, want))
			continue;
		if (f == FAULT_KILL)
			fault_kill(FAULT_KILL);
		return (enum fault)f;
	}
	return FAULT_NONE;
}
