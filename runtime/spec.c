// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/spec.h"

#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "runtime/spec_fields.h"

static const char *const isolation_names[] = {"container", "vm", NULL};
static const char *const restart_names[] = {"no", "on-failure", "always", NULL};
static const char *const console_names[] = {"pty", "pipes", NULL};
static const char *const migratable_names[] = {"auto", "on", "off", NULL};

/* The enums are stored as unsigned ints: one width for the table's sake. */
_Static_assert(sizeof(enum spec_isolation) == sizeof(unsigned), "enum width");
_Static_assert(sizeof(unsigned) == sizeof(uint32_t), "unsigned width");

#define F(k, t)                                                                                    \
	{                                                                                          \
#k, t, offsetof(struct vps_spec, k), 0, NULL                                       \
	}
#define FN(k, t, n)                                                                                \
	{                                                                                          \
#k, t, offsetof(struct vps_spec, k), offsetof(struct vps_spec, n), NULL            \
	}
#define FE(k, names)                                                                               \
	{                                                                                          \
#k, SF_ENUM, offsetof(struct vps_spec, k), 0, names                                \
	}

const struct spec_field spec_fields[] = {
	F(id, SF_UINT),
	F(name, SF_STR),
	F(uuid, SF_UUID),
	F(created, SF_U64),
	FE(isolation, isolation_names),
	F(id_base, SF_UINT),
	F(image, SF_STR),
	F(image_digest, SF_STR),
	F(init, SF_STRV),
	F(command, SF_STRV),
	F(env, SF_STRV),
	F(user, SF_STR),
	F(workdir, SF_STR),
	FE(console, console_names),
	F(hostname, SF_STR),
	F(stop_signal, SF_STR),
	F(stop_timeout_ms, SF_LIMIT),
	F(memory, SF_LIMIT),
	F(memory_high, SF_LIMIT),
	F(memory_low, SF_LIMIT),
	F(memory_min, SF_LIMIT),
	F(swap, SF_LIMIT),
	F(cpus, SF_LIMIT),
	F(cpu_weight, SF_LIMIT),
	F(cpuset, SF_STR),
	F(pids, SF_LIMIT),
	F(io_weight, SF_LIMIT),
	FN(io_max, SF_IO_MAX, n_io_max),
	F(disk_backend, SF_STR),
	F(disk, SF_LIMIT),
	F(inodes, SF_LIMIT),
	F(net, SF_STR),
	F(ips, SF_STRV),
	F(addrs, SF_STRV),
	F(mac, SF_STR),
	F(gateway, SF_STR),
	F(gateway6, SF_STR),
	F(rate_in, SF_LIMIT),
	F(rate_out, SF_LIMIT),
	F(pps, SF_LIMIT),
	F(conntrack, SF_LIMIT),
	F(publish, SF_STRV),
	F(dns, SF_STRV),
	F(dns_search, SF_STRV),
	F(kernel, SF_STR),
	F(initrd_modules, SF_STRV),
	F(cmdline, SF_STR),
	FN(mounts, SF_MOUNTS, n_mounts),
	F(devices, SF_STRV),
	F(sysctls, SF_STRV),
	F(cap_add, SF_STRV),
	F(cap_drop, SF_STRV),
	F(seccomp, SF_STR),
	F(features, SF_STRV),
	FE(migratable, migratable_names),
	F(autostart, SF_BOOL),
	F(boot_order, SF_INT),
	FE(restart, restart_names),
	F(restart_max, SF_UINT),
	F(remove_on_exit, SF_BOOL),
	F(snapshot_schedule, SF_STR),
	F(snapshot_pattern, SF_STR),
	F(snapshot_expiry, SF_LIMIT),
	F(ssh_keys, SF_STRV),
	F(user_data, SF_STR),
	F(labels, SF_STRV),
	{NULL, 0, 0, 0, NULL},
};

void spec_init(struct vps_spec *s)
{
	memset(s, 0, sizeof(*s));
	for (const struct spec_field *f = spec_fields; f->key; f++)
		if (f->type == SF_LIMIT)
			*(uint64_t *)spec_member(s, f) = SPEC_UNSET;
}

static void mounts_free(struct spec_mount *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(m[i].src);
		free(m[i].dst);
	}
	free(m);
}

static void io_max_free(struct spec_io_max *m, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(m[i].device);
	free(m);
}

void spec_done(struct vps_spec *s)
{
	if (!s)
		return;
	for (const struct spec_field *f = spec_fields; f->key; f++) {
		void *p = spec_member(s, f);
		switch (f->type) {
		case SF_STR:
			free(*(char **)p);
			break;
		case SF_STRV:
			strv_free(*(char ***)p);
			break;
		case SF_MOUNTS:
			mounts_free(*(struct spec_mount **)p, *spec_member_n(s, f));
			break;
		case SF_IO_MAX:
			io_max_free(*(struct spec_io_max **)p, *spec_member_n(s, f));
			break;
		default:
			break;
		}
	}
	spec_init(s);
}

static int copy_mounts(struct vps_spec *dst, const struct spec_field *f, const struct spec_mount *m,
		       size_t n)
{
	struct spec_mount *copy = calloc(n ? n : 1, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*(struct spec_mount **)spec_member(dst, f) = copy;
	*spec_member_n(dst, f) = n;
	for (size_t i = 0; i < n; i++) {
		copy[i].ro = m[i].ro;
		if (str_set(&copy[i].src, m[i].src) < 0 || str_set(&copy[i].dst, m[i].dst) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int copy_io_max(struct vps_spec *dst, const struct spec_field *f,
		       const struct spec_io_max *m, size_t n)
{
	struct spec_io_max *copy = calloc(n ? n : 1, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*(struct spec_io_max **)spec_member(dst, f) = copy;
	*spec_member_n(dst, f) = n;
	for (size_t i = 0; i < n; i++) {
		copy[i] = m[i];
		copy[i].device = NULL;
	}
	for (size_t i = 0; i < n; i++)
		if (str_set(&copy[i].device, m[i].device) < 0)
			return -ENOMEM;
	return 0;
}

static int copy_field(struct vps_spec *dst, const struct vps_spec *src, const struct spec_field *f)
{
	const void *from = spec_member(src, f);
	void *to = spec_member(dst, f);

	switch (f->type) {
	case SF_STR:
		return str_set(to, *(char *const *)from);
	case SF_STRV:
		if (!*(char **const *)from)
			return 0;
		return strv_copy(to, *(char **const *)from);
	case SF_UUID:
		memcpy(to, from, sizeof(src->uuid));
		return 0;
	case SF_UINT:
	case SF_INT:
	case SF_ENUM:
		memcpy(to, from, sizeof(unsigned));
		return 0;
	case SF_U64:
	case SF_LIMIT:
		memcpy(to, from, sizeof(uint64_t));
		return 0;
	case SF_BOOL:
		memcpy(to, from, sizeof(bool));
		return 0;
	case SF_MOUNTS:
		return copy_mounts(dst, f, *(struct spec_mount *const *)from,
				   *spec_member_n(src, f));
	case SF_IO_MAX:
		return copy_io_max(dst, f, *(struct spec_io_max *const *)from,
				   *spec_member_n(src, f));
	}
	return -EINVAL;
}

int spec_copy(struct vps_spec *dst, const struct vps_spec *src)
{
	spec_init(dst);
	for (const struct spec_field *f = spec_fields; f->key; f++) {
		int r = copy_field(dst, src, f);
		if (r < 0) {
			spec_done(dst);
			return r;
		}
	}
	return 0;
}

bool spec_equal(const struct vps_spec *a, const struct vps_spec *b)
{
	/* The JSON holds every field and one spelling each, so it is the comparison too. */
	auto_strbuf x = STRBUF_INIT, y = STRBUF_INIT;
	struct json_out ox = JSON_OUT(&x, false), oy = JSON_OUT(&y, false);

	spec_to_json(a, &ox, NULL);
	spec_to_json(b, &oy, NULL);
	return sb_ok(&x) == 0 && sb_ok(&y) == 0 && str_eq(sb_str(&x), sb_str(&y));
}

const char *spec_isolation_name(enum spec_isolation v)
{
	return isolation_names[v];
}
const char *spec_restart_name(enum spec_restart v)
{
	return restart_names[v];
}
const char *spec_console_name(enum spec_console v)
{
	return console_names[v];
}

const char *const *spec_features(void)
{
	static const char *const features[] = {
		"nesting", /* an unprivileged container inside: mount of proc and sysfs, keyctl */
		"fuse",	   /* /dev/fuse */
		"keyctl",  /* the kernel's key rings */
		"tun",	   /* /dev/net/tun: a VPN inside */
		"i386",	   /* 32-bit programs (more kernel within reach) */
		NULL,
	};
	return features;
}

bool spec_has_feature(const struct vps_spec *s, const char *feature)
{
	return s->features && strv_has(s->features, feature);
}

bool spec_is_migratable(const struct vps_spec *s)
{
	if (s->isolation != ISOLATION_CONTAINER)
		return false;
	if (s->migratable == MIGRATABLE_AUTO)
		return !spec_has_feature(s, "nesting");
	return s->migratable == MIGRATABLE_ON;
}

/* sigabbrev_np(3) knows the names, but not the real-time ones. */
int spec_signal_parse(const char *s)
{
	uint64_t n;

	if (!s || !*s)
		return -EINVAL;
	if (parse_u64(s, (uint64_t)SIGRTMAX, &n) == 0)
		return n > 0 ? (int)n : -EINVAL;
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	if (strncasecmp(s, "RTMIN", 5) == 0 || strncasecmp(s, "RTMAX", 5) == 0) {
		bool min = strncasecmp(s, "RTMIN", 5) == 0;
		int base = min ? SIGRTMIN : SIGRTMAX;
		if (!s[5])
			return base;
		if (s[5] != (min ? '+' : '-') ||
		    parse_u64(s + 6, (uint64_t)(SIGRTMAX - SIGRTMIN), &n) < 0)
			return -EINVAL;
		return min ? base + (int)n : base - (int)n;
	}
	for (int i = 1; i < SIGRTMIN; i++) {
		const char *name = sigabbrev_np(i);
		if (name && strcasecmp(name, s) == 0)
			return i;
	}
	return -EINVAL;
}
