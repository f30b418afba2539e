/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The members of struct vps_spec as a table: spec.c frees, copies and compares by it, spec_json.c
 * reads and writes by it. A member that is not in the table is lost: the unit test sets each. */
#ifndef VPS_RUNTIME_SPEC_FIELDS_H
#define VPS_RUNTIME_SPEC_FIELDS_H

#include <stddef.h>

#include "runtime/spec.h"

enum spec_type {
	SF_STR,	   /* char *; NULL is left out of the JSON */
	SF_STRV,   /* char **; NULL is left out */
	SF_UUID,   /* char[37] */
	SF_UINT,   /* unsigned or uint32_t; 0 is left out */
	SF_U64,	   /* uint64_t; 0 is left out */
	SF_LIMIT,  /* uint64_t; SPEC_UNSET is left out, SPEC_MAX is "max" */
	SF_INT,	   /* int; 0 is left out */
	SF_BOOL,   /* false is left out */
	SF_ENUM,   /* enum by names */
	SF_MOUNTS, /* struct spec_mount *, size_t in the next member */
	SF_IO_MAX, /* struct spec_io_max *, size_t in the next member */
};

struct spec_field {
	const char *key;
	enum spec_type type;
	size_t off;
	size_t off_n;		  /* of the count: SF_MOUNTS, SF_IO_MAX */
	const char *const *names; /* SF_ENUM, NULL-terminated */
};
extern const struct spec_field spec_fields[]; /* ended by a NULL key */

static inline void *spec_member(const struct vps_spec *s, const struct spec_field *f)
{
	return (char *)(uintptr_t)s + f->off;
}
static inline size_t *spec_member_n(const struct vps_spec *s, const struct spec_field *f)
{
	return (size_t *)((char *)(uintptr_t)s + f->off_n);
}

/* One entry of a list or one string, each -VPS_EUSAGE with words and an example. Used when an
 * option is set and again when a whole definition is checked (spec_check.c). */
int spec_chk_ip(const char *v, struct vps_err *err);
int spec_chk_dns(const char *v, struct vps_err *err);
int spec_chk_domain(const char *v, struct vps_err *err);
int spec_chk_hostname(const char *v, struct vps_err *err);
int spec_chk_net(const char *v, struct vps_err *err);
int spec_chk_mac(const char *v, struct vps_err *err);
int spec_chk_publish(const char *v, struct vps_err *err);
int spec_chk_keyval(const char *v, struct vps_err *err);
int spec_chk_sysctl(const char *v, struct vps_err *err);
int spec_chk_device(const char *v, struct vps_err *err);
int spec_chk_cap(const char *v, struct vps_err *err);
int spec_chk_feature(const char *v, struct vps_err *err);
int spec_chk_cpuset(const char *v, struct vps_err *err);
int spec_chk_signal(const char *v, struct vps_err *err);
int spec_chk_schedule(const char *v, struct vps_err *err);
int spec_chk_pattern(const char *v, struct vps_err *err);
int spec_chk_user(const char *v, struct vps_err *err);
int spec_chk_abs_path(const char *v, struct vps_err *err);
int spec_chk_ssh_key(const char *v, struct vps_err *err);
int spec_chk_backend(const char *v, struct vps_err *err);
int spec_chk_io_device(const char *v, struct vps_err *err);
int spec_chk_module(const char *v, struct vps_err *err);
int spec_chk_cmdline(const char *v, struct vps_err *err);

/* Ranges that options and spec_check share. */
#define SPEC_MEMORY_LEAST (4ull << 20)
#define SPEC_DISK_LEAST	  (16ull << 20)
/* A stock kernel with its initramfs, and room for an init. */
#define SPEC_VM_MEMORY_LEAST (96ull << 20)
#define SPEC_VM_CPUS_MOST    64000 /* thousandths */
#define SPEC_BYTES_MOST	  (1ull << 60)
/* Bits a second, and tracked connections: what netns can hold to. */
#define SPEC_RATE_LEAST	     8000ull
#define SPEC_EXPIRY_MOST     (36525ull * 86400000) /* ms: 100 years */
#define SPEC_RATE_MOST	     100000000000ull
#define SPEC_CONNTRACK_LEAST 64
#define SPEC_CONNTRACK_MOST  1048576

struct net_publish;
/* "[ADDR:]HOST:GUEST[/tcp|udp]", an IPv6 ADDR in brackets. 0 or -EINVAL. */
int spec_publish_parse(const char *s, struct net_publish *ret);
/* "02:00:00:aa:bb:cc", unicast. 0 or -EINVAL. */
int spec_mac_parse(const char *s, uint8_t ret[6]);
/* Words separated by blanks; '…' and "…" hold blanks together, \ takes the next character as it is.
 * No other shell syntax. strv; -EINVAL for an open quote. */
int spec_words(const char *s, char ***ret);

#endif
