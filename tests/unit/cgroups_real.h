/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of cgroups_real_test. */
#ifndef TESTS_UNIT_CGROUPS_REAL_H
#define TESTS_UNIT_CGROUPS_REAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cgroups/internal.h"

#define MIB	(1ull << 20)
#define WAIT_MS 10000

extern struct cg_host *host;
extern char tag[32];
extern struct vps_err err;

/* One group, "t". */
struct fix {
	struct cg *cg;
	volatile uint64_t *shared; /* a page that children write to */
};
int setup(void **state);
int teardown(void **state);
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

/* Fail with the words of err when r is negative. */
void ok(int r);

/* A child in the group, or in a group of the tenant's; 99 when it cannot enter. */
pid_t start_at(struct cg *cg, int v2_fd, void (*fn)(struct fix *f), struct fix *f);
pid_t start(struct fix *f, void (*fn)(struct fix *f));
pid_t start_outside(void); /* in no group of ours; ends with the test */
int wait_for(pid_t pid);   /* wait status */
int run(struct fix *f, void (*fn)(struct fix *f)); /* exit status */
void count_up(struct fix *f);
void wait_forever(struct fix *f);
void fork_sleepers(struct fix *f); /* how many in shared[0], then errno in shared[1] */
void wait_flag(struct fix *f);	   /* until shared[0] is not 0 */
void sleep_ms(int ms);

int run_limits_tests(void);
int run_device_tests(void);

#endif
