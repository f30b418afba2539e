// SPDX-License-Identifier: GPL-2.0-or-later
/* The one table of settings: create, set, profiles and vps.conf know the same words. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "runtime/spec.h"
#include "runtime/spec_fields.h"
#include "runtime/spec_set.h"

#define OFF(m) offsetof(struct vps_spec, m)
#define STR(m, c)                                                                                  \
	&(const struct spec_setter)                                                                \
	{                                                                                          \
		.fn = set_str, .off = OFF(m), .chk = c                                             \
	}
#define SIZE(m, lo, hi)                                                                            \
	&(const struct spec_setter)                                                                \
	{                                                                                          \
		.fn = set_size, .off = OFF(m), .min = lo, .max = hi                                \
	}
#define NUM(m, lo, hi)                                                                             \
	&(const struct spec_setter)                                                                \
	{                                                                                          \
		.fn = set_num, .off = OFF(m), .min = lo, .max = hi                                 \
	}
#define BOOL(m)                                                                                    \
	&(const struct spec_setter)                                                                \
	{                                                                                          \
		.fn = set_bool, .off = OFF(m)                                                      \
	}
#define WORDS(m)                                                                                   \
	&(const struct spec_setter)                                                                \
	{                                                                                          \
		.fn = set_words, .off = OFF(m)                                                     \
	}
/* A list: entries separated by any of seps ("" none), key: the part before '=' names the entry. */
#define LIST(m, c, sep, key)                                                                       \
	&(const struct spec_setter)                                                                \
	{                                                                                          \
		.fn = spec_set_list, .off = OFF(m), .chk = c, .seps = sep, .keyed = key            \
	}
#define FN(f)                                                                                      \
	&(const struct spec_setter)                                                                \
	{                                                                                          \
		.fn = f                                                                            \
	}

static int usage(struct vps_err *err, const char *v, const char *why)
{
	autofree char *safe = str_escape(v);

	return vps_err_set(err, VPS_EUSAGE, "'%.80s': %s", safe ? safe : "?", why);
}

static bool clears(const char *v)
{
	return !*v || str_eq(v, "default");
}

static int set_str(struct vps_spec *s, const struct spec_setter *how, const char *v,
		   struct vps_err *err)
{
	int r;

	if (!*v)
		v = NULL;
	r = v && how->chk ? how->chk(v, err) : 0;
	if (r < 0)
		return r;
	r = str_set((char **)((char *)s + how->off), v);
	return r < 0 ? vps_err_sys(err, r, "setting") : 0;
}

static int in_range(uint64_t n, const struct spec_setter *how, const char *v, struct vps_err *err,
		    bool bytes)
{
	char lo[32], hi[32], why[128];

	if (n == SPEC_MAX || (n >= how->min && n <= how->max))
		return 0;
	if (bytes) {
		fmt_size(how->min, lo, sizeof(lo));
		fmt_size(how->max, hi, sizeof(hi));
	} else {
		snprintf(lo, sizeof(lo), "%llu", (unsigned long long)how->min);
		snprintf(hi, sizeof(hi), "%llu", (unsigned long long)how->max);
	}
	snprintf(why, sizeof(why), "out of range, which is %s to %s", lo, hi);
	return usage(err, v, why);
}

static int set_limit(struct vps_spec *s, const struct spec_setter *how, uint64_t n)
{
	*(uint64_t *)((char *)s + how->off) = n;
	return 0;
}

static int set_size(struct vps_spec *s, const struct spec_setter *how, const char *v,
		    struct vps_err *err)
{
	uint64_t n = SPEC_UNSET;

	if (!clears(v)) {
		if (parse_size(v, &n) < 0)
			return usage(err, v, "not a size; for example 512M, 1.5G or max");
		if (in_range(n, how, v, err, true) < 0)
			return -VPS_EUSAGE;
	}
	return set_limit(s, how, n);
}

static int set_num(struct vps_spec *s, const struct spec_setter *how, const char *v,
		   struct vps_err *err)
{
	uint64_t n = SPEC_UNSET;

	if (str_eq(v, "max") || str_eq(v, "unlimited")) {
		n = SPEC_MAX;
	} else if (!clears(v)) {
		if (parse_u64(v, UINT64_MAX - 2, &n) < 0)
			return usage(err, v, "not a number");
		if (in_range(n, how, v, err, false) < 0)
			return -VPS_EUSAGE;
	}
	return set_limit(s, how, n);
}

static int set_bool(struct vps_spec *s, const struct spec_setter *how, const char *v,
		    struct vps_err *err)
{
	static const char *const yes[] = {"yes", "true", "on", "1", NULL};
	static const char *const no[] = {"no", "false", "off", "0", "", NULL};
	bool *p = (bool *)((char *)s + how->off);

	for (int i = 0; yes[i]; i++) {
		if (str_eq(v, yes[i])) {
			*p = true;
			return 0;
		}
	}
	for (int i = 0; no[i]; i++) {
		if (str_eq(v, no[i])) {
			*p = false;
			return 0;
		}
	}
	return usage(err, v, "must be yes or no");
}

static int set_words(struct vps_spec *s, const struct spec_setter *how, const char *v,
		     struct vps_err *err)
{
	auto_strv words = NULL;
	char ***p = (char ***)((char *)s + how->off);

	if (*v && spec_words(v, &words) < 0)
		return usage(err, v,
			     "not a command; quotes must close, for example "
			     "'/sbin/init --log-level=info'");
	strv_free(*p);
	*p = take_ptr(words);
	return 0;
}

/* "1.5" CPUs as thousandths. */
static int set_cpus(struct vps_spec *s, const struct spec_setter *how, const char *v,
		    struct vps_err *err)
{
	uint64_t whole = 0, frac = 0, scale = 1000;
	const char *p = v;

	if (clears(v) || str_eq(v, "max") || str_eq(v, "unlimited")) {
		s->cpus = clears(v) ? SPEC_UNSET : SPEC_MAX;
		return 0;
	}
	while (isdigit((unsigned char)*p) && whole < 100000)
		whole = whole * 10 + (uint64_t)(*p++ - '0');
	if (*p == '.')
		for (p++; isdigit((unsigned char)*p) && scale > 1; p++)
			frac += (uint64_t)(*p - '0') * (scale /= 10);
	if (*p || !isdigit((unsigned char)*v) || p[-1] == '.')
		return usage(err, v, "not a number of CPUs; for example 2 or 1.5");
	whole = whole * 1000 + frac;
	if (whole < 10 || whole > 8192000)
		return usage(err, v, "out of range, which is 0.01 to 8192 CPUs");
	s->cpus = whole;
	return 0;
}

/* "IN[:OUT]", or one number for both. */
static int set_rate(struct vps_spec *s, const struct spec_setter *how, const char *v,
		    struct vps_err *err)
{
	auto_strv part = NULL;
	uint64_t rate[2] = {SPEC_UNSET, SPEC_UNSET};

	if (clears(v)) {
		s->rate_in = s->rate_out = SPEC_UNSET;
		return 0;
	}
	if (strv_split(v, ":", &part) < 0)
		return vps_err_sys(err, -ENOMEM, "rate");
	if (strv_len(part) > 2)
		return usage(err, v, "a rate is IN[:OUT]; for example 100M or 100M:20M");
	for (size_t i = 0; i < strv_len(part); i++) {
		if (str_eq(part[i], "max") || str_eq(part[i], "unlimited"))
			rate[i] = SPEC_UNSET;
		else if (parse_bitrate(part[i], &rate[i]) < 0)
			return usage(err, v, "a rate is in bits a second; for example 100M:20M");
		else if (rate[i] < SPEC_RATE_LEAST || rate[i] > SPEC_RATE_MOST)
			return usage(err, v, "out of range, which is 8k to 100G bits a second");
	}
	s->rate_in = rate[0];
	s->rate_out = strv_len(part) > 1 ? rate[1] : rate[0];
	return 0;
}

static int set_isolation(struct vps_spec *s, const struct spec_setter *how, const char *v,
			 struct vps_err *err)
{
	if (clears(v) || str_eq(v, "container"))
		s->isolation = ISOLATION_CONTAINER;
	else if (str_eq(v, "vm"))
		s->isolation = ISOLATION_VM;
	else
		return usage(err, v, "isolation is container or vm");
	return 0;
}

static int set_restart(struct vps_spec *s, const struct spec_setter *how, const char *v,
		       struct vps_err *err)
{
	uint64_t n = 0;
	const char *colon = strchr(v, ':');
	size_t len = colon ? (size_t)(colon - v) : strlen(v);
	enum spec_restart policy = RESTART_NO;
	bool known = clears(v);

	for (unsigned i = RESTART_NO; i <= RESTART_ALWAYS && !known; i++) {
		const char *name = spec_restart_name(i);
		known = strlen(name) == len && memcmp(name, v, len) == 0;
		policy = i;
	}
	if (!known || (colon && (policy == RESTART_NO || parse_u64(colon + 1, 1000000, &n) < 0)))
		return usage(err, v, "restart is no, on-failure[:TIMES] or always[:TIMES]");
	s->restart = policy;
	s->restart_max = (unsigned)n;
	return 0;
}

static int set_console(struct vps_spec *s, const struct spec_setter *how, const char *v,
		       struct vps_err *err)
{
	if (clears(v) || str_eq(v, "pty"))
		s->console = CONSOLE_PTY;
	else if (str_eq(v, "pipes"))
		s->console = CONSOLE_PIPES;
	else
		return usage(err, v, "console is pty or pipes");
	return 0;
}

static int set_migratable(struct vps_spec *s, const struct spec_setter *how, const char *v,
			  struct vps_err *err)
{
	if (clears(v) || str_eq(v, "auto"))
		s->migratable = MIGRATABLE_AUTO;
	else if (str_eq(v, "on") || str_eq(v, "yes"))
		s->migratable = MIGRATABLE_ON;
	else if (str_eq(v, "off") || str_eq(v, "no"))
		s->migratable = MIGRATABLE_OFF;
	else
		return usage(err, v, "migratable is on, off or auto");
	return 0;
}

static int set_boot_order(struct vps_spec *s, const struct spec_setter *how, const char *v,
			  struct vps_err *err)
{
	bool minus = *v == '-';
	uint64_t n = 0;

	if (!clears(v) && parse_u64(v + minus, 1000000, &n) < 0)
		return usage(err, v, "not a number; higher starts earlier, 0 is the default");
	s->boot_order = minus ? -(int)n : (int)n;
	return 0;
}

static int set_stop_timeout(struct vps_spec *s, const struct spec_setter *how, const char *v,
			    struct vps_err *err)
{
	uint64_t ms = SPEC_UNSET;

	if (!clears(v) && (parse_duration_ms(v, &ms) < 0 || ms > 86400000))
		return usage(err, v, "not a time up to one day; for example 30s or 2m");
	s->stop_timeout_ms = ms;
	return 0;
}

static int set_snapshot_expiry(struct vps_spec *s, const struct spec_setter *how, const char *v,
			       struct vps_err *err)
{
	uint64_t ms = SPEC_UNSET;

	if (!clears(v) && (parse_duration_ms(v, &ms) < 0 || ms < 60000 || ms > SPEC_EXPIRY_MOST))
		return usage(err, v, "not a time from one minute to 100 years; for example 12h or 7d");
	s->snapshot_expiry = ms;
	return 0;
}

static int set_seccomp(struct vps_spec *s, const struct spec_setter *how, const char *v,
		       struct vps_err *err)
{
	autofree char *full = NULL;

	if (clears(v) || str_eq(v, "unconfined")) {
		int r = str_set(&s->seccomp, clears(v) ? NULL : v);
		return r < 0 ? vps_err_sys(err, r, "seccomp") : 0;
	}
	full = realpath(v, NULL);
	if (!full)
		return vps_err_sys(err, -errno, "profile '%s'", v);
	free(s->seccomp);
	s->seccomp = take_ptr(full);
	return 0;
}

static int set_user_data(struct vps_spec *s, const struct spec_setter *how, const char *v,
			 struct vps_err *err)
{
	autofree char *text = NULL;
	size_t len = 0;
	int r;

	if (*v) {
		/* 64 KiB: more than any cloud's user-data, small enough for spec.json */
		r = fs_read(AT_FDCWD, v, 64 << 10, &text, &len);
		if (r < 0)
			return vps_err_sys(err, r, "user-data file '%s'", v);
		if (strlen(text) != len)
			return usage(err, v, "user-data must be text");
	}
	free(s->user_data);
	s->user_data = take_ptr(text);
	return 0;
}

#define G1 "Definition"
#define G2 "Limits"
#define G3 "Disk"
#define G4 "Network"
#define G5 "Inside"
#define G6 "Security"
#define G7 "Policy"
#define G8 "Machine"

/* name, alias, argument, help, live, create_only, list, group, setter */
static const struct spec_option table[] = {
	{"image", "ostemplate", "IMAGE", "image to make the disk from", 0, 1, 0, G1,
	 STR(image, NULL)},
	{"isolation", NULL, "WALL", "container or vm", 0, 0, 0, G1, FN(set_isolation)},
	{"hostname", NULL, "NAME", "host name inside (the VPS's name)", 0, 0, 0, G1,
	 STR(hostname, spec_chk_hostname)},
	{"label", NULL, "K=V", "free label, for filters and scripts", 1, 0, 1, G1,
	 LIST(labels, spec_chk_keyval, "", true)},

	{"memory", "ram", "SIZE", "memory, enforced", 1, 0, 0, G2,
	 SIZE(memory, SPEC_MEMORY_LEAST, SPEC_BYTES_MOST)},
	{"memory-high", NULL, "SIZE", "memory above which the VPS is slowed and reclaimed", 1, 0, 0,
	 G2, SIZE(memory_high, SPEC_MEMORY_LEAST, SPEC_BYTES_MOST)},
	{"memory-low", NULL, "SIZE", "memory kept from reclaim while others have more", 1, 0, 0, G2,
	 SIZE(memory_low, 0, SPEC_BYTES_MOST)},
	{"memory-min", "memguarantee", "SIZE", "memory never reclaimed", 1, 0, 0, G2,
	 SIZE(memory_min, 0, SPEC_BYTES_MOST)},
	{"swap", NULL, "SIZE", "swap space on top of memory", 1, 0, 0, G2,
	 SIZE(swap, 0, SPEC_BYTES_MOST)},
	{"cpus", NULL, "N", "CPUs, with a fraction (1.5)", 1, 0, 0, G2, FN(set_cpus)},
	{"cpu-weight", "cpuunits", "N", "share under load, 1 to 10000 (100)", 1, 0, 0, G2,
	 NUM(cpu_weight, 1, 10000)},
	{"cpuset", "cpumask", "LIST", "CPUs to run on (0-3,8)", 1, 0, 0, G2,
	 STR(cpuset, spec_chk_cpuset)},
	{"pids", NULL, "N", "processes and threads (8192)", 1, 0, 0, G2, NUM(pids, 1, 4194304)},
	{"io-weight", NULL, "N", "share of the disks, 1 to 10000 (100)", 1, 0, 0, G2,
	 NUM(io_weight, 1, 10000)},
	{"io-max", NULL, "DEV:K=N,…", "rbps, wbps, riops, wiops of one block device", 1, 0, 1, G2,
	 FN(spec_set_io_max)},

	{"disk", "diskspace", "SIZE", "size of the disk, enforced (10G)", 1, 0, 0, G3,
	 SIZE(disk, SPEC_DISK_LEAST, SPEC_BYTES_MOST)},
	{"inodes", "diskinodes", "N", "files on the disk", 1, 0, 0, G3,
	 NUM(inodes, 256, UINT32_MAX)},
	{"disk-backend", NULL, "KIND", "auto, quota, btrfs, loop or dir", 0, 1, 0, G3,
	 STR(disk_backend, spec_chk_backend)},

	{"net", "network", "MODE", "routed, bridge=BR, macvlan=IF or none", 0, 0, 0, G4,
	 STR(net, spec_chk_net)},
	{"ip", "ipadd", "ADDR[/LEN]", "address; auto, auto6: from the pools; none", 1, 0, 1, G4,
	 LIST(ips, spec_chk_ip, ",", false)},
	{"mac", NULL, "MAC", "MAC address inside", 0, 0, 0, G4, STR(mac, spec_chk_mac)},
	{"gateway", NULL, "ADDR", "IPv4 gateway (bridge, macvlan)", 0, 0, 0, G4,
	 STR(gateway, spec_chk_dns)},
	{"gateway6", NULL, "ADDR", "IPv6 gateway (bridge, macvlan)", 0, 0, 0, G4,
	 STR(gateway6, spec_chk_dns)},
	{"publish", NULL, "[ADDR:]HOST:PORT[/PROTO]", "host port that leads inside", 1, 0, 1, G4,
	 LIST(publish, spec_chk_publish, "", false)},
	{"rate", NULL, "IN[:OUT]", "bits a second (100M:20M)", 1, 0, 0, G4, FN(set_rate)},
	{"pps", NULL, "N", "packets a second from inside", 1, 0, 0, G4, NUM(pps, 1, 1000000000)},
	{"conntrack", NULL, "N", "tracked connections (a share of the host's table)", 1, 0, 0, G4,
	 NUM(conntrack, SPEC_CONNTRACK_LEAST, SPEC_CONNTRACK_MOST)},
	{"dns", "nameserver", "ADDR", "name server (the host's)", 0, 0, 1, G4,
	 LIST(dns, spec_chk_dns, ",", false)},
	{"dns-search", "searchdomain", "DOMAIN", "search domain", 0, 0, 1, G4,
	 LIST(dns_search, spec_chk_domain, ",", false)},

	{"kernel", NULL, "FILE", "kernel of a VM (the newest in /boot)", 0, 0, 0, G8,
	 STR(kernel, spec_chk_abs_path)},
	{"initrd-modules", NULL, "NAME", "kernel module that a VM needs early", 0, 0, 1, G8,
	 LIST(initrd_modules, spec_chk_module, ",", false)},
	{"cmdline", NULL, "TEXT", "what a VM's kernel is told as well", 0, 0, 0, G8,
	 STR(cmdline, spec_chk_cmdline)},

	{"init", NULL, "CMD", "PID 1 (the image's own init)", 0, 0, 0, G5, WORDS(init)},
	{"command", NULL, "CMD", "command under vps-init, instead of an init", 0, 0, 0, G5,
	 WORDS(command)},
	{"env", NULL, "K=V", "environment of init", 0, 0, 1, G5,
	 LIST(env, spec_chk_keyval, "", true)},
	{"user", NULL, "USER", "user of the command", 0, 0, 0, G5, STR(user, spec_chk_user)},
	{"workdir", NULL, "DIR", "its working directory", 0, 0, 0, G5,
	 STR(workdir, spec_chk_abs_path)},
	{"console", NULL, "KIND", "pty or pipes", 0, 0, 0, G5, FN(set_console)},
	{"stop-signal", NULL, "SIG", "signal that asks init to stop", 1, 0, 0, G5,
	 STR(stop_signal, spec_chk_signal)},
	{"stop-timeout", NULL, "TIME", "time to stop in, before it is killed", 1, 0, 0, G5,
	 FN(set_stop_timeout)},
	{"mount", "volume", "SRC:DST[:ro]", "a directory or file of the host", 0, 0, 1, G5,
	 FN(spec_set_mount)},
	{"ssh-key", NULL, "FILE", "public keys that may log in as root", 0, 0, 1, G5,
	 FN(spec_set_ssh_key)},
	{"user-data", "userdata", "FILE", "cloud-init's user-data", 0, 0, 0, G5, FN(set_user_data)},

	{"device", NULL, "DEV[:rwm]", "a device of the host", 0, 0, 1, G6,
	 LIST(devices, spec_chk_device, "", false)},
	{"sysctl", NULL, "K=V", "a sysctl of its own namespaces", 0, 0, 1, G6,
	 LIST(sysctls, spec_chk_sysctl, "", true)},
	{"cap-add", NULL, "CAP", "capability inside, all: every", 0, 0, 1, G6,
	 &(const struct spec_setter){.fn = spec_set_caps, .off = OFF(cap_add)}},
	{"cap-drop", NULL, "CAP", "capability not to have, all: every", 0, 0, 1, G6,
	 &(const struct spec_setter){.fn = spec_set_caps, .off = OFF(cap_drop)}},
	{"seccomp", NULL, "FILE", "system call profile, or unconfined", 0, 0, 0, G6,
	 FN(set_seccomp)},
	{"feature", "features", "NAME", "nesting, fuse, keyctl, tun, i386", 0, 0, 1, G6,
	 LIST(features, spec_chk_feature, ",", false)},
	{"migratable", NULL, "on|off", "refuse what no checkpoint can hold (on without nesting)", 0, 0, 0, G6,
	 FN(set_migratable)},

	{"autostart", "onboot", NULL, "start with the host", 1, 0, 0, G7, BOOL(autostart)},
	{"boot-order", "bootorder", "N", "higher starts earlier", 1, 0, 0, G7, FN(set_boot_order)},
	{"restart", NULL, "POLICY", "no, on-failure[:N] or always[:N]", 1, 0, 0, G7,
	 FN(set_restart)},
	{"snapshot-schedule", NULL, "CRON", "when a snapshot is made: '0 3 * * *', @daily", 1, 0, 0, G7,
	 STR(snapshot_schedule, spec_chk_schedule)},
	{"snapshot-expiry", NULL, "TIME", "for how long scheduled ones are kept (for ever)", 1, 0, 0, G7,
	 FN(set_snapshot_expiry)},
	{"snapshot-pattern", NULL, "NAME", "their names, as of strftime (auto-%Y%m%d-%H%M)", 1, 0, 0, G7,
	 STR(snapshot_pattern, spec_chk_pattern)},
	{NULL, NULL, NULL, NULL, 0, 0, 0, NULL, NULL},
};

const struct spec_option *spec_options(void)
{
	return table;
}

const struct spec_option *spec_option_find(const char *name)
{
	for (const struct spec_option *o = table; o->name; o++)
		if (str_eq(o->name, name) || str_eq(o->alias, name))
			return o;
	return NULL;
}

/* Edit distance, enough for words of an option's length. */
static unsigned distance(const char *a, const char *b)
{
	enum { MOST = 24 };
	unsigned row[MOST + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > MOST || m > MOST)
		return MOST;
	for (size_t k = 0; k <= m; k++)
		row[k] = (unsigned)k;
	for (size_t i = 1; i <= n; i++) {
		unsigned diag = row[0];
		row[0] = (unsigned)i;
		for (size_t k = 1; k <= m; k++) {
			unsigned change = diag + (a[i - 1] != b[k - 1]);
			unsigned gap = (row[k] < row[k - 1] ? row[k] : row[k - 1]) + 1;
			diag = row[k];
			row[k] = change < gap ? change : gap;
		}
	}
	return row[m];
}

const char *spec_option_suggest(const char *name)
{
	const char *best = NULL;
	unsigned best_d = strlen(name) < 4 ? 2 : 3;

	for (const struct spec_option *o = table; o->name; o++) {
		const char *words[] = {o->name, o->alias};
		for (size_t i = 0; i < ARRAY_LEN(words) && words[i]; i++) {
			unsigned d = distance(name, words[i]);
			if (d < best_d) {
				best_d = d;
				best = o->name;
			}
		}
	}
	return best;
}

static int unknown(const char *option, struct vps_err *err)
{
	autofree char *safe = str_escape(option);
	const char *near = spec_option_suggest(option);

	if (near)
		return vps_err_set(err, VPS_EUSAGE, "unknown option '%.60s'; did you mean '%s'?",
				   safe ? safe : "?", near);
	return vps_err_set(err, VPS_EUSAGE, "unknown option '%.60s'", safe ? safe : "?");
}

int spec_set(struct vps_spec *s, const char *option, const char *value, struct vps_err *err)
{
	const struct spec_option *o = spec_option_find(option);
	struct vps_err why = {0};
	int r;

	if (!o)
		return unknown(option, err);
	if (!value) {
		if (o->arg)
			return vps_err_set(err, VPS_EUSAGE, "option '%s' needs a value (%s)",
					   o->name, o->arg);
		value = "yes";
	}
	r = o->how->fn(s, o->how, value, &why);
	if (r < 0) {
		vps_err_wrap(&why, r, "%s", o->name);
		return vps_err_set(err, why.code, "%s", why.msg);
	}
	return 0;
}
