// SPDX-License-Identifier: GPL-2.0-or-later
/* What can be said of a definition without looking at the host. */
#include <ctype.h>
#include <net/if.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"
#include "images/images.h"
#include "netns/netns.h"
#include "runtime/migrate/migrate.h"
#include "runtime/spec.h"
#include "runtime/spec_fields.h"

/* A value in a message may be a stranger's: escaped, and cut. */
static int bad(struct vps_err *err, const char *v, const char *why)
{
	autofree char *safe = str_escape(v);

	return vps_err_set(err, VPS_EUSAGE, "'%.80s': %s", safe ? safe : "?", why);
}

static bool all_of(const char *s, const char *chars)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr(chars, *s))
			return false;
	return true;
}

/* No component "..": such a path means something else than it shows. */
static bool has_dotdot(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")); p += 2)
		if ((p == path || p[-1] == '/') && (p[2] == '\0' || p[2] == '/'))
			return true;
	return false;
}

int spec_name_check(const char *name, struct vps_err *err)
{
	size_t n = strlen(name);

	if (n == 0 || n > SPEC_NAME_MAX)
		return bad(err, name, "a name has 1 to 63 characters");
	if (strspn(name, "0123456789") == n)
		return bad(err, name, "a name of digits alone would be an id");
	for (const char *p = name; *p; p++)
		if (!(islower((unsigned char)*p) || isdigit((unsigned char)*p) ||
		      (p > name && strchr("_.-", *p))))
			return bad(err, name,
				   "a name is made of a-z, 0-9 and, not in front, '_', '.', '-'");
	return 0;
}

int spec_chk_ip(const char *v, struct vps_err *err)
{
	struct net_addr a;

	if (str_eq(v, "auto") || str_eq(v, "auto6") || str_eq(v, "none"))
		return 0;
	if (net_addr_parse(v, &a) < 0)
		return bad(err, v,
			   "not an address; for example 10.0.0.5, fd00::5/64, auto, auto6 "
			   "or none");
	return 0;
}

int spec_chk_dns(const char *v, struct vps_err *err)
{
	struct net_addr a;

	if (strchr(v, '/') || net_addr_parse(v, &a) < 0)
		return bad(err, v, "not the address of a name server; for example 9.9.9.9");
	return 0;
}

static bool is_domain(const char *v, size_t most)
{
	size_t n = strlen(v), label = 0;

	if (n == 0 || n > most)
		return false;
	for (const char *p = v; *p; p++) {
		if (*p == '.') {
			if (label == 0 || p[-1] == '-')
				return false;
			label = 0;
			continue;
		}
		if (!isalnum((unsigned char)*p) && !(*p == '-' && label > 0))
			return false;
		if (++label > 63)
			return false;
	}
	return label > 0 && v[n - 1] != '-';
}

int spec_chk_domain(const char *v, struct vps_err *err)
{
	return is_domain(v, 253) ? 0 : bad(err, v, "not a domain; for example example.net");
}

int spec_chk_hostname(const char *v, struct vps_err *err)
{
	/* 64: HOST_NAME_MAX, sethostname(2) */
	return is_domain(v, 64) ? 0 : bad(err, v, "not a host name; for example web1.example.net");
}

int spec_chk_net(const char *v, struct vps_err *err)
{
	const char *dev = NULL;

	if (str_eq(v, "routed") || str_eq(v, "none"))
		return 0;
	if (str_starts(v, "bridge="))
		dev = v + strlen("bridge=");
	else if (str_starts(v, "macvlan="))
		dev = v + strlen("macvlan=");
	if (!dev)
		return bad(err, v, "a network is routed, bridge=BRIDGE, macvlan=INTERFACE or none");
	if (!*dev || strlen(dev) >= IFNAMSIZ || !all_of(dev, "_.-") || *dev == '.')
		return bad(err, v, "not the name of an interface");
	return 0;
}

int spec_chk_mac(const char *v, struct vps_err *err)
{
	uint8_t mac[6];

	return spec_mac_parse(v, mac) == 0
		       ? 0
		       : bad(err, v, "not a unicast MAC address; for example 02:00:5e:10:00:01");
}

int spec_chk_publish(const char *v, struct vps_err *err)
{
	struct net_publish p;

	return spec_publish_parse(v, &p) == 0
		       ? 0
		       : bad(err, v,
			     "publish is [ADDR:]HOSTPORT:PORT[/tcp|udp]; for example "
			     "8080:80 or 203.0.113.1:53:53/udp");
}

int spec_chk_keyval(const char *v, struct vps_err *err)
{
	const char *eq = strchr(v, '=');

	return eq && eq > v ? 0 : bad(err, v, "must be KEY=VALUE");
}

int spec_chk_sysctl(const char *v, struct vps_err *err)
{
	/* Only what a namespace owns: anything else is the host's. kernel.sem(5), namespaces(7) */
	static const char *const owned[] = {"net", "kernel.shm", "kernel.msg", "kernel.sem",
					    "fs.mqueue"};
	autofree char *name = NULL;

	if (spec_chk_keyval(v, err) < 0)
		return -VPS_EUSAGE;
	name = strndup(v, (size_t)(strchr(v, '=') - v));
	if (!name)
		return vps_err_sys(err, -ENOMEM, "sysctl");
	if (!all_of(name, "_.-/") || strstr(name, "..") || *name == '/' || *name == '.')
		return bad(err, v, "not the name of a sysctl; for example net.ipv4.ip_forward=1");
	for (char *p = name; *p; p++)
		if (*p == '/')
			*p = '.';
	for (size_t i = 0; i < ARRAY_LEN(owned); i++) {
		size_t n = strlen(owned[i]);
		if (strncmp(name, owned[i], n) == 0 && (name[n] == '.' || i > 0))
			return 0;
	}
	return bad(err, v,
		   "a VPS owns net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.*; "
		   "the others are the host's");
}

int spec_chk_device(const char *v, struct vps_err *err)
{
	const char *colon = strchr(v, ':');

	if (!str_starts(v, "/dev/") || has_dotdot(v) || (colon && !colon[1]) ||
	    (colon && strspn(colon + 1, "rwm") != strlen(colon + 1)))
		return bad(err, v,
			   "a device is /dev/NAME[:rwm]; for example /dev/fuse or "
			   "/dev/kvm:rw");
	return 0;
}

int spec_chk_cap(const char *v, struct vps_err *err)
{
	if (!str_starts(v, "CAP_") || strlen(v) > 40)
		return bad(err, v, "a capability is written CAP_NET_RAW or net_raw, or all");
	for (const char *p = v; *p; p++)
		if (!isupper((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '_')
			return bad(err, v, "not a capability");
	return 0;
}

int spec_chk_feature(const char *v, struct vps_err *err)
{
	auto_strbuf known = STRBUF_INIT;

	for (const char *const *f = spec_features(); *f; f++) {
		if (str_eq(*f, v))
			return 0;
		sb_addf(&known, "%s%s", known.len ? ", " : "", *f);
	}
	sb_add(&known, ": these features exist");
	return bad(err, v, sb_str(&known));
}

int spec_chk_cpuset(const char *v, struct vps_err *err)
{
	auto_strv parts = NULL;

	if (strv_split(v, ",", &parts) < 0)
		return vps_err_sys(err, -ENOMEM, "cpuset");
	for (char **p = parts; p && *p; p++) {
		uint64_t from, to;
		char *dash = strchr(*p, '-');
		if (dash)
			*dash = '\0';
		if (parse_u64(*p, 8191, &from) < 0 ||
		    (dash && (parse_u64(dash + 1, 8191, &to) < 0 || to < from)))
			return bad(err, v, "not a list of CPUs; for example 0-3,8");
	}
	return 0;
}

int spec_chk_signal(const char *v, struct vps_err *err)
{
	return spec_signal_parse(v) > 0 ? 0
					: bad(err, v, "not a signal; for example TERM or RTMIN+3");
}

int spec_chk_schedule(const char *v, struct vps_err *err)
{
	struct cron c;

	return cron_parse(v, &c, err);
}

/* What strftime(3) makes of it has to be a name. */
int spec_chk_pattern(const char *v, struct vps_err *err)
{
	const struct tm tm = {.tm_year = 125, .tm_mday = 1};
	char name[SPEC_NAME_MAX + 1];

	if (!all_of(v, "_.-%") || pattern_name(v, &tm, name) < 0)
		return bad(err, v, "gives no name of a snapshot; for example auto-%Y%m%d-%H%M");
	return 0;
}

int spec_chk_user(const char *v, struct vps_err *err)
{
	if (!*v || strlen(v) > 128 || strspn(v, ":") > 0 || !all_of(v, "_.-:$"))
		return bad(err, v, "not a user; for example www-data, 1000 or 1000:1000");
	return 0;
}

int spec_chk_abs_path(const char *v, struct vps_err *err)
{
	if (*v != '/' || strlen(v) >= 4096 || has_dotdot(v))
		return bad(err, v, "not an absolute path without '..'");
	return 0;
}

int spec_chk_ssh_key(const char *v, struct vps_err *err)
{
	const char *space = strchr(v, ' ');

	/* authorized_keys(5): options may stand in front, so only the shape is looked at */
	if (!space || space == v || strchr(v, '\n') || strchr(v, '\r') || strlen(v) > 16384)
		return bad(err, v, "not an ssh public key (ssh-ed25519 AAAA… comment)");
	return 0;
}

int spec_chk_backend(const char *v, struct vps_err *err)
{
	enum img_backend b;

	return img_backend_parse(v, &b) == 0 ? 0
					     : bad(err, v,
						   "disk backends are auto, quota, btrfs, "
						   "loop and dir");
}

int spec_chk_io_device(const char *v, struct vps_err *err)
{
	const char *colon = strchr(v, ':');

	if (colon && strspn(v, "0123456789") == (size_t)(colon - v) && colon > v && colon[1] &&
	    strspn(colon + 1, "0123456789") == strlen(colon + 1))
		return 0;
	if (str_starts(v, "/dev/") && !has_dotdot(v))
		return 0;
	return bad(err, v, "a block device is /dev/NAME or MAJOR:MINOR");
}

int spec_chk_module(const char *v, struct vps_err *err)
{
	if (!*v || strlen(v) > 55 || !all_of(v, "_-")) /* MODULE_NAME_LEN */
		return bad(err, v, "not the name of a kernel module; for example virtio_console");
	return 0;
}

int spec_chk_cmdline(const char *v, struct vps_err *err)
{
	for (const char *p = v; *p; p++)
		if (*p < ' ' || *p > '~')
			return bad(err, v, "a kernel is told printable ASCII only");
	/* COMMAND_LINE_SIZE is 2048, and ours come first */
	return strlen(v) <= 1024 ? 0 : bad(err, v, "longer than 1024 characters");
}

/* ---- the whole ------------------------------------------------------------ */

static int check_text(const char *key, const char *s, struct vps_err *err)
{
	size_t n = strlen(s), i = 0;

	while (i < n) {
		uint32_t cp;
		size_t l = utf8_next(s + i, n - i, &cp);
		if (l == 0)
			return vps_err_set(err, VPS_EUSAGE, "%s: text must be valid UTF-8", key);
		i += l;
	}
	return 0;
}

/* Every string of the definition can be written as JSON and read again. */
static int check_texts(const struct vps_spec *s, struct vps_err *err)
{
	int r = 0;

	for (const struct spec_field *f = spec_fields; f->key && r == 0; f++) {
		const void *p = spec_member(s, f);
		if (f->type == SF_STR && *(char *const *)p)
			r = check_text(f->key, *(char *const *)p, err);
		for (char **v = f->type == SF_STRV ? *(char **const *)p : NULL; v && *v && r == 0;
		     v++)
			r = check_text(f->key, *v, err);
	}
	for (size_t i = 0; i < s->n_mounts && r == 0; i++) {
		r = check_text("mount", s->mounts[i].src, err);
		if (r == 0)
			r = check_text("mount", s->mounts[i].dst, err);
	}
	return r;
}

typedef int (*check_fn)(const char *v, struct vps_err *err);

static int check_str(const char *what, const char *v, check_fn fn, struct vps_err *err)
{
	int r = v ? fn(v, err) : 0;

	return r < 0 ? vps_err_wrap(err, r, "%s", what) : 0;
}

static int check_list(const char *what, char *const *v, check_fn fn, struct vps_err *err)
{
	for (char *const *p = v; p && *p; p++) {
		int r = check_str(what, *p, fn, err);
		if (r < 0)
			return r;
		for (char *const *q = v; q < p; q++)
			if (str_eq(*q, *p) && !str_starts(*p, "auto"))
				return vps_err_set(err, VPS_EUSAGE, "%s '%.80s' is given twice",
						   what, *p);
	}
	return 0;
}

static int check_range(const char *what, uint64_t v, uint64_t least, uint64_t most,
		       struct vps_err *err)
{
	if (v == SPEC_UNSET || v == SPEC_MAX || (v >= least && v <= most))
		return 0;
	return vps_err_set(err, VPS_EUSAGE, "%s %llu is out of range (%llu to %llu)", what,
			   (unsigned long long)v, (unsigned long long)least,
			   (unsigned long long)most);
}

static int check_order(const char *low_name, uint64_t low, const char *high_name, uint64_t high,
		       struct vps_err *err)
{
	if (low == SPEC_UNSET || high == SPEC_UNSET || low <= high)
		return 0;
	return vps_err_set(err, VPS_EUSAGE, "%s must not be above %s", low_name, high_name);
}

static int check_limits(const struct vps_spec *s, struct vps_err *err)
{
	const uint64_t most = SPEC_BYTES_MOST;
	int r = check_range("memory", s->memory, SPEC_MEMORY_LEAST, most, err);

	r = r ?: check_range("memory-high", s->memory_high, SPEC_MEMORY_LEAST, most, err);
	r = r ?: check_range("memory-low", s->memory_low, 0, most, err);
	r = r ?: check_range("memory-min", s->memory_min, 0, most, err);
	r = r ?: check_range("swap", s->swap, 0, most, err);
	r = r ?: check_order("memory-min", s->memory_min, "memory-low", s->memory_low, err);
	r = r ?: check_order("memory-min", s->memory_min, "memory", s->memory, err);
	r = r ?: check_order("memory-low", s->memory_low, "memory", s->memory, err);
	r = r ?: check_order("memory-low", s->memory_low, "memory-high", s->memory_high, err);
	r = r ?: check_order("memory-min", s->memory_min, "memory-high", s->memory_high, err);
	r = r ?: check_order("memory-high", s->memory_high, "memory", s->memory, err);
	r = r ?: check_range("cpus", s->cpus, 10, 8192000, err);
	r = r ?: check_range("cpu-weight", s->cpu_weight, 1, 10000, err);
	r = r ?: check_range("io-weight", s->io_weight, 1, 10000, err);
	r = r ?: check_range("pids", s->pids, 1, 4194304, err);
	r = r ?: check_range("disk", s->disk, SPEC_DISK_LEAST, most, err);
	r = r ?: check_range("inodes", s->inodes, 256, UINT32_MAX, err);
	r = r ?: check_range("stop-timeout", s->stop_timeout_ms, 0, 86400000, err);
	r = r ?: check_str("cpuset", s->cpuset, spec_chk_cpuset, err);
	r = r ?: check_str("disk-backend", s->disk_backend, spec_chk_backend, err);
	for (size_t i = 0; i < s->n_io_max && r == 0; i++)
		r = check_str("io-max", s->io_max[i].device, spec_chk_io_device, err);
	return r;
}

static int check_net(const struct vps_spec *s, struct vps_err *err)
{
	const char *net = s->net ? s->net : "routed";
	bool routed = str_eq(net, "routed"), none = str_eq(net, "none");
	int r = check_str("net", s->net, spec_chk_net, err);

	r = r ?: check_list("ip", s->ips, spec_chk_ip, err);
	r = r ?: check_list("address", s->addrs, spec_chk_ip, err);
	r = r ?: check_str("mac", s->mac, spec_chk_mac, err);
	r = r ?: check_str("gateway", s->gateway, spec_chk_dns, err);
	r = r ?: check_str("gateway6", s->gateway6, spec_chk_dns, err);
	r = r ?: check_range("rate", s->rate_in, SPEC_RATE_LEAST, SPEC_RATE_MOST, err);
	r = r ?: check_range("rate", s->rate_out, SPEC_RATE_LEAST, SPEC_RATE_MOST, err);
	r = r ?: check_range("pps", s->pps, 1, 1000000000, err);
	r = r ?: check_range("conntrack", s->conntrack, SPEC_CONNTRACK_LEAST, SPEC_CONNTRACK_MOST,
			     err);
	r = r ?: check_list("publish", s->publish, spec_chk_publish, err);
	r = r ?: check_list("dns", s->dns, spec_chk_dns, err);
	r = r ?: check_list("dns-search", s->dns_search, spec_chk_domain, err);
	if (r < 0)
		return r;
	if (s->ips && strv_has(s->ips, "none") && strv_len(s->ips) > 1)
		return vps_err_set(err, VPS_EUSAGE, "ip: none stands alone");
	if (none && s->ips && !strv_has(s->ips, "none"))
		return vps_err_set(err, VPS_EUSAGE, "ip: a VPS with net=none has no address");
	if (!routed && s->ips && (strv_has(s->ips, "auto") || strv_has(s->ips, "auto6")))
		return vps_err_set(err, VPS_EUSAGE,
				   "ip: auto takes from the pools of routed VPSes; "
				   "with net=%s give ADDR/LEN, or leave it out for DHCP",
				   net);
	if (!routed && s->publish)
		return vps_err_set(err, VPS_EUSAGE, "publish works with net=routed only");
	if (routed && (s->gateway || s->gateway6))
		return vps_err_set(err, VPS_EUSAGE, "gateway: a routed VPS's gateway is the host");
	return 0;
}

static int check_mounts(const struct vps_spec *s, struct vps_err *err)
{
	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct spec_mount *m = &s->mounts[i];
		int r = check_str("mount source", m->src, spec_chk_abs_path, err);
		r = r ?: check_str("mount target", m->dst, spec_chk_abs_path, err);
		if (r < 0)
			return r;
		if (strspn(m->dst, "/") == strlen(m->dst))
			return vps_err_set(err, VPS_EUSAGE, "mount: the target cannot be /");
		for (size_t k = 0; k < i; k++)
			if (str_eq(s->mounts[k].dst, m->dst))
				return vps_err_set(err, VPS_EUSAGE, "mount '%s' is given twice",
						   m->dst);
	}
	return 0;
}

static int check_inside(const struct vps_spec *s, struct vps_err *err)
{
	int r = check_list("env", s->env, spec_chk_keyval, err);

	r = r ?: check_str("user", s->user, spec_chk_user, err);
	r = r ?: check_str("workdir", s->workdir, spec_chk_abs_path, err);
	r = r ?: check_str("hostname", s->hostname, spec_chk_hostname, err);
	r = r ?: check_str("stop-signal", s->stop_signal, spec_chk_signal, err);
	r = r ?: check_str("snapshot-schedule", s->snapshot_schedule, spec_chk_schedule, err);
	r = r ?: check_str("snapshot-pattern", s->snapshot_pattern, spec_chk_pattern, err);
	r = r ?: check_range("snapshot-expiry", s->snapshot_expiry, 60000, SPEC_EXPIRY_MOST, err);
	r = r ?: check_mounts(s, err);
	r = r ?: check_list("device", s->devices, spec_chk_device, err);
	r = r ?: check_list("sysctl", s->sysctls, spec_chk_sysctl, err);
	r = r ?: check_list("cap-add", s->cap_add, spec_chk_cap, err);
	r = r ?: check_list("cap-drop", s->cap_drop, spec_chk_cap, err);
	r = r ?: check_list("feature", s->features, spec_chk_feature, err);
	r = r ?: check_list("ssh-key", s->ssh_keys, spec_chk_ssh_key, err);
	r = r ?: check_list("label", s->labels, spec_chk_keyval, err);
	if (r < 0)
		return r;
	if (strv_has(s->cap_add, "CAP_ALL") && strv_has(s->cap_drop, "CAP_ALL"))
		return vps_err_set(err, VPS_EUSAGE, "cap-add all and cap-drop all exclude each other");
	if (s->init && s->command)
		return vps_err_set(err, VPS_EUSAGE,
				   "init and a command exclude each other: init is "
				   "PID 1 itself, a command runs under vps-init");
	if ((s->init && !*s->init[0]) || (s->command && !*s->command[0]))
		return vps_err_set(err, VPS_EUSAGE, "an empty command");
	return 0;
}

/* What a container has by the host's kernel, and a machine with a kernel of its own cannot have. */
static int check_machine(const struct vps_spec *s, struct vps_err *err)
{
	const struct {
		const char *option;
		bool asked;
		const char *why;
	} no[] = {
		{"mount", s->n_mounts > 0, "nothing of the host can be mounted in a machine"},
		{"device", s->devices, "a device of the host does not reach into a machine"},
		{"cap-add", s->cap_add, "root of a machine has every capability of its own kernel"},
		{"cap-drop", s->cap_drop, "capabilities are the business of the machine's own kernel"},
		{"seccomp", s->seccomp, "system calls end at the machine's own kernel"},
		{"feature", s->features, "a machine has a kernel of its own, with all that it can do"},
	};
	int r = check_str("kernel", s->kernel, spec_chk_abs_path, err);

	r = r ?: check_list("initrd-modules", s->initrd_modules, spec_chk_module, err);
	r = r ?: check_str("cmdline", s->cmdline, spec_chk_cmdline, err);
	if (r < 0 || s->isolation != ISOLATION_VM)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (no[i].asked)
			return vps_err_set(err, VPS_EUNSUPPORTED, "%s cannot go with isolation vm: %s",
					   no[i].option, no[i].why);
	if (s->memory == SPEC_MAX || (s->memory != SPEC_UNSET && s->memory < SPEC_VM_MEMORY_LEAST))
		return vps_err_set(err, VPS_EUSAGE, "memory: a machine needs a size, of at least %lluM",
				   (unsigned long long)SPEC_VM_MEMORY_LEAST >> 20);
	if (s->cpus != SPEC_UNSET && s->cpus != SPEC_MAX && s->cpus > SPEC_VM_CPUS_MOST)
		return vps_err_set(err, VPS_EUSAGE, "cpus: a machine has at most %d", SPEC_VM_CPUS_MOST / 1000);
	if (s->disk_backend && !str_eq(s->disk_backend, "auto") && !str_eq(s->disk_backend, "loop"))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "disk-backend %s cannot go with isolation vm: a machine's disk is "
				   "an image file (loop)", s->disk_backend);
	if (s->disk == SPEC_MAX)
		return vps_err_set(err, VPS_EUSAGE, "disk: a machine's disk has a size");
	return 0;
}

int spec_check(const struct vps_spec *s, struct vps_err *err)
{
	int r = s->name ? spec_name_check(s->name, err) : 0;

	r = r ?: check_texts(s, err);
	r = r ?: check_limits(s, err);
	r = r ?: check_net(s, err);
	r = r ?: check_inside(s, err);
	r = r ?: check_machine(s, err);
	if (r < 0)
		return r;
	if (!s->image || !*s->image)
		return vps_err_set(err, VPS_EUSAGE,
				   "no image given; for example --image debian:12 "
				   "('vps image list' shows what is here)");
	if (s->restart == RESTART_NO && s->restart_max)
		return vps_err_set(err, VPS_EUSAGE, "a cap on restarts without a restart policy");
	if (s->remove_on_exit && s->restart != RESTART_NO)
		return vps_err_set(err, VPS_EUSAGE, "rm and restart exclude each other");
	return 0;
}
