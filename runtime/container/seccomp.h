/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VPS_RUNTIME_SECCOMP_H
#define VPS_RUNTIME_SECCOMP_H

#include "runtime/container/container.h"

struct sock_filter;
#define FILTER_MAX_BYTES (4096u * 8) /* BPF_MAXINSNS of struct sock_filter */

/* Stands among the features for spec_is_migratable(). */
#define FILTER_MIGRATABLE "migratable"

struct filter_input {
	const char *json; /* a profile */
	size_t len;
	char *const *features;
	char *const *cap_add, *const *cap_drop; /* "CAP_SYS_TIME", CAPS_ALL */
};
/* -VPS_ECONF for a bad profile. */
int filter_compile(const struct filter_input *in, struct filter_prog *ret, struct vps_err *err);
/* "2.5.4" */
const char *filter_library(char *buf, size_t size);
/* The built-in profile, seccomp-default.json. */
const char *filter_builtin(size_t *ret_len);

#endif
