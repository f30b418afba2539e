/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How one option of the table is set; shared by spec_options.c and spec_lists.c. */
#ifndef VPS_RUNTIME_SPEC_SET_H
#define VPS_RUNTIME_SPEC_SET_H

#include <stddef.h>

#include "runtime/spec.h"

struct spec_setter {
	int (*fn)(struct vps_spec *s, const struct spec_setter *how, const char *v,
		  struct vps_err *err);
	size_t off;					/* of the member */
	uint64_t min, max;				/* of a number */
	int (*chk)(const char *v, struct vps_err *err); /* of a string or an entry */
	const char *seps; /* characters between entries of a list in one value */
	bool keyed;	  /* entries are K=V, and K is there once */
};

/* Append one or several entries, "-ENTRY" or "-KEY" removes one, "" clears. */
int spec_set_list(struct vps_spec *s, const struct spec_setter *how, const char *v,
		  struct vps_err *err);
int spec_set_caps(struct vps_spec *s, const struct spec_setter *how, const char *v,
		  struct vps_err *err);
int spec_set_mount(struct vps_spec *s, const struct spec_setter *how, const char *v,
		   struct vps_err *err);
int spec_set_io_max(struct vps_spec *s, const struct spec_setter *how, const char *v,
		    struct vps_err *err);
int spec_set_ssh_key(struct vps_spec *s, const struct spec_setter *how, const char *v,
		     struct vps_err *err);

#endif
