/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real vps-monitor around a fake init: a shell on a pty or on pipes. `vps` is a script that writes down how it
 * was called, and removes state.json when asked to tear down. */
#ifndef VPS_TESTS_UNIT_RUNTIME_MONITOR_UTIL_H
#define VPS_TESTS_UNIT_RUNTIME_MONITOR_UTIL_H

#include "tests/unit/base_util.h"
#include "runtime/ctl.h"
#include "runtime/monitor.h"

#define ID "101"

struct fix {
	struct test_dir *t;
	char libexec[128], run_path[128];
	int run, dir, inst; /* <run>, <run>/101, the instance */
	pid_t monitor, init;
	struct monitor_args a;
	int notify_path_set;
	uint64_t started_ms;
};

int fix_make(void **state);
int fix_remove(void **state);
#define monitor_test(f) cmocka_unit_test_setup_teardown(f, fix_make, fix_remove)

/* Change what the monitor is told before fix_start: f->a. pty: console; else pipes. */
void fix_start(struct fix *f, bool pty, const char *script);
/* The same without looking at the report: its code. */
int fix_try_start(struct fix *f, bool pty, const char *script);
/* Kill the monitor, reap it. */
void fix_kill_monitor(struct fix *f);
void fix_adopt(struct fix *f);
/* Until the monitor has ended; fails after ten seconds. */
void fix_wait_monitor(struct fix *f);
pid_t keeper_pid(struct fix *f);
/* Poll cond for at most ten seconds. */
#define eventually(cond)                                       \
	do {                                                   \
		int _n = 1000;                                 \
		while (!(cond)) {                              \
			assert_true(_n-- > 0);                 \
			usleep(10000);                         \
		}                                              \
	} while (0)

bool file_has(int dir, const char *path, const char *text);
int attach(struct fix *f, bool exclusive);
/* Read the stream until text has come by (in what is kept of it, the last 64 KiB) or the end: true, false. */
bool expect(int fd, const char *text);
/* Messages until CTL_EXIT: the code; -1000 at the end of file. lost (may be NULL) adds CTL_LOST. */
int read_exit(int fd, uint64_t *ret_bytes, uint64_t *ret_lost);
uint64_t now_ms(void);

#endif
