/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What PID 1 is to be, from the definition, the image and what is found in the root: pure. */
#ifndef VPS_RUNTIME_INITPLAN_H
#define VPS_RUNTIME_INITPLAN_H

#include <stdbool.h>

#include "base/err.h"
#include "images/images.h"
#include "runtime/guestconf.h"
#include "runtime/spec.h"

struct init_plan {
	char **argv; /* empty: vps-init alone, which only reaps */
	/* complete: PATH, TERM, container, container_uuid, the image's, the definition's */
	char **env;
	char *user, *cwd;
	bool under_init, system; /* as in struct vps_run */
	/* What fits this init, where the definition (which `set` changes live) says nothing. */
	int stop_signal;
	unsigned stop_timeout_ms;
};
void init_plan_done(struct init_plan *p);
int init_plan_make(const struct vps_spec *s, const struct img_info *image,
		    const struct guest_facts *facts, struct init_plan *ret, struct vps_err *err);

/* Name servers for the inside: the definition's, else vps.conf's, else those of the host's
 * resolv.conf that can be reached from elsewhere. strv each, may be NULL. */
int init_plan_dns(const struct vps_spec *s, char *const *conf_dns, char ***ret_dns,
		  char ***ret_search);
/* The pure half, for tests: nameserver and search lines of a resolv.conf(5), loopback left out. */
int init_plan_parse_resolv(const char *text, char ***dns, char ***search);

#endif
