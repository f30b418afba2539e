// SPDX-License-Identifier: GPL-2.0-or-later
/* From the definition to what the other rooms are to do: pure but for names of devices, so that it
 * is tested without root. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "runtime/internal.h"
#include "runtime/microvm/microvm.h"
#include "runtime/spec_fields.h"

/* Processes and threads where the operator says nothing: a fork bomb must not take the host's pids.
 */
#define DEFAULT_PIDS 8192
/* Control groups below the VPS's own: each costs the kernel memory, and /proc/cgroups is the host's. systemd
 * makes about a hundred. */
#define DEFAULT_CGROUPS 4096

_Static_assert(SPEC_UNSET == CG_UNSET && SPEC_MAX == CG_MAX, "the same words for no limit");

/* --cpus 1.5 is time; nproc inside counts CPUs of the set. So the set is narrowed to 2 of them, not
 * always the same two: the id turns the wheel. */
static char *narrow_cpuset(const struct vps_spec *s, unsigned n_cpus)
{
	uint64_t want = (s->cpus + 999) / 1000;
	auto_strbuf sb = STRBUF_INIT;
	unsigned first;

	if (want >= n_cpus)
		return NULL;
	first = (unsigned)(s->id * want % n_cpus);
	for (uint64_t i = 0; i < want; i++)
		sb_addf(&sb, "%s%u", i ? "," : "", (unsigned)((first + i) % n_cpus));
	return sb_take(&sb);
}

static int device_number(const char *name, mode_t type, unsigned *major_, unsigned *minor_,
			 struct vps_err *err)
{
	struct stat st;

	if (stat(name, &st) < 0)
		return vps_err_set(err, VPS_EUSAGE, "device '%s': %s", name, vps_code_str(errno));
	if (type ? (st.st_mode & S_IFMT) != type : !S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode))
		return vps_err_set(err, VPS_EUSAGE, "'%s' is not a %sdevice", name,
				   type == S_IFBLK ? "block " : "");
	*major_ = major(st.st_rdev);
	*minor_ = minor(st.st_rdev);
	return 0;
}

static int plan_io_max(const struct vps_spec *s, struct cg_limits *l, struct vps_err *err)
{
	if (s->n_io_max == 0)
		return 0;
	l->io_max = calloc(s->n_io_max, sizeof(*l->io_max));
	if (!l->io_max)
		return vps_err_sys(err, -ENOMEM, "io-max");
	for (size_t i = 0; i < s->n_io_max; i++) {
		const struct spec_io_max *m = &s->io_max[i];
		struct cg_io_max *to = &l->io_max[l->n_io_max];
		int r = 0;
		if (*m->device == '/')
			r = device_number(m->device, S_IFBLK, &to->major, &to->minor, err);
		else if (sscanf(m->device, "%u:%u", &to->major, &to->minor) != 2)
			r = vps_err_set(err, VPS_EUSAGE, "io-max: '%s'", m->device);
		if (r < 0)
			return r;
		to->rbps = m->rbps;
		to->wbps = m->wbps;
		to->riops = m->riops;
		to->wiops = m->wiops;
		l->n_io_max++;
	}
	return 0;
}

static uint64_t plus(uint64_t v, uint64_t more)
{
	return v == SPEC_UNSET || v == SPEC_MAX ? v : v + more;
}

/* The group holds vps-vmm: its guest's memory, and what it and KVM need beside. The guest's kernel counts the
 * guest's processes. */
static void plan_machine_limits(const struct vps_spec *s, struct cg_limits *l)
{
	uint64_t memory = vm_memory(s), more = VM_OVERHEAD + memory / VM_OVERHEAD_PART;

	l->memory_max = memory + more;
	l->memory_min = plus(s->memory_min, more);
	l->memory_low = plus(s->memory_low, more);
	l->memory_high = plus(s->memory_high, more);
	l->pids_max = VM_THREADS;
}

int plan_limits(const struct vps_spec *s, unsigned n_cpus, struct cg_limits *ret,
		struct vps_err *err)
{
	struct cg_limits l;
	int r;

	cg_limits_init(&l);
	l.memory_min = s->memory_min;
	l.memory_low = s->memory_low;
	l.memory_high = s->memory_high;
	l.memory_max = s->memory;
	l.swap_max = s->swap;
	l.cpu_max = s->cpus;
	l.cpu_weight = s->cpu_weight;
	l.pids_max = s->pids == SPEC_UNSET ? DEFAULT_PIDS : s->pids;
	if (s->isolation == ISOLATION_VM)
		plan_machine_limits(s, &l);
	l.io_weight = s->io_weight;
	l.cgroups_max = DEFAULT_CGROUPS;
	r = str_set(&l.cpuset, s->cpuset);
	if (r == 0 && !l.cpuset && s->cpus != SPEC_UNSET && s->cpus != SPEC_MAX)
		l.cpuset = narrow_cpuset(s, n_cpus);
	if (r < 0)
		r = vps_err_sys(err, r, "limits");
	r = r ?: plan_io_max(s, &l, err);
	if (r < 0) {
		cg_limits_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

static uint64_t zero_if_none(uint64_t v)
{
	return v == SPEC_UNSET || v == SPEC_MAX ? 0 : v;
}

static int plan_mode(const char *net, struct net_plan *p)
{
	const char *eq = strchr(net, '=');

	p->mode = str_eq(net, "none")		? NET_NONE
		  : str_starts(net, "bridge=")	? NET_BRIDGE
		  : str_starts(net, "macvlan=") ? NET_MACVLAN
						: NET_ROUTED;
	if (eq && strlen(eq + 1) >= sizeof(p->parent))
		return -EINVAL;
	if (eq)
		strcpy(p->parent, eq + 1);
	strcpy(p->guest_if, "eth0");
	return 0;
}

static int plan_addrs(const struct vps_spec *s, struct net_plan *p)
{
	size_t n = strv_len(s->addrs), n_pub = strv_len(s->publish);

	p->addrs = calloc(n + 1, sizeof(*p->addrs));
	p->publish = calloc(n_pub + 1, sizeof(*p->publish));
	if (!p->addrs || !p->publish)
		return -ENOMEM;
	for (; p->n_addrs < n; p->n_addrs++)
		if (net_addr_parse(s->addrs[p->n_addrs], &p->addrs[p->n_addrs]) < 0)
			return -EINVAL;
	for (; p->n_publish < n_pub; p->n_publish++)
		if (spec_publish_parse(s->publish[p->n_publish], &p->publish[p->n_publish]) < 0)
			return -EINVAL;
	return 0;
}

int plan_net(const struct vps_spec *s, struct net_plan *ret, struct vps_err *err)
{
	struct net_plan p = {0};
	int r = plan_mode(s->net ? s->net : "routed", &p);

	if (s->isolation == ISOLATION_VM)
		strcpy(p.tap, VM_TAP);
	r = r ?: plan_addrs(s, &p);
	if (r == 0 && s->mac)
		r = spec_mac_parse(s->mac, p.mac);
	if (r == 0 && s->gateway)
		r = net_addr_parse(s->gateway, &p.gw4);
	if (r == 0 && s->gateway6)
		r = net_addr_parse(s->gateway6, &p.gw6);
	p.rate_in = zero_if_none(s->rate_in);
	p.rate_out = zero_if_none(s->rate_out);
	p.pps = zero_if_none(s->pps);
	p.conntrack_max = (uint32_t)zero_if_none(s->conntrack);
	if (r < 0) {
		net_plan_done(&p);
		return vps_err_sys(err, r, "network of the definition");
	}
	*ret = p;
	return 0;
}

/* What every VPS may use, as systemd's container interface and the OCI runtime-spec's default
 * devices have it: null zero full random urandom tty console ptmx and ptys. */
static const struct cg_device default_devices[] = {
	{'c', 1, 3, "rwm"}, {'c', 1, 5, "rwm"}, {'c', 1, 7, "rwm"},
	{'c', 1, 8, "rwm"}, {'c', 1, 9, "rwm"}, {'c', 5, 0, "rwm"},
	{'c', 5, 1, "rwm"}, {'c', 5, 2, "rwm"}, {'c', 136, -1, "rwm"},
};

static int add_device(struct cg_device *d, const char *text, struct vps_err *err)
{
	autofree char *name = strdup(text);
	unsigned maj, min;
	struct stat st;
	char *colon;
	int r;

	if (!name)
		return vps_err_sys(err, -ENOMEM, "devices");
	colon = strchr(name, ':');
	if (colon)
		*colon++ = '\0';
	r = device_number(name, 0, &maj, &min, err);
	if (r < 0)
		return r;
	if (stat(name, &st) < 0)
		return vps_err_sys(err, -errno, "device '%s'", name);
	d->type = S_ISBLK(st.st_mode) ? 'b' : 'c';
	d->major = (int)maj;
	d->minor = (int)min;
	snprintf(d->access, sizeof(d->access), "%.3s", colon ? colon : "rwm");
	return 0;
}

int plan_devices(const struct vps_spec *s, struct cg_device **ret, size_t *ret_n,
		 struct vps_err *err)
{
	size_t n = ARRAY_LEN(default_devices);
	autofree struct cg_device *d = calloc(n + strv_len(s->devices) + 2, sizeof(*d));

	if (!d)
		return vps_err_sys(err, -ENOMEM, "devices");
	memcpy(d, default_devices, sizeof(default_devices));
	if (spec_has_feature(s, "fuse"))
		d[n++] = (struct cg_device){'c', 10, 229, "rwm"};
	if (spec_has_feature(s, "tun"))
		d[n++] = (struct cg_device){'c', 10, 200, "rwm"};
	for (char **p = s->devices; p && *p; p++) {
		int r = add_device(&d[n++], *p, err);
		if (r < 0)
			return r;
	}
	*ret = take_ptr(d);
	*ret_n = n;
	return 0;
}

void plan_disk(const struct vps_spec *s, struct img_disk_spec *ret)
{
	*ret = (struct img_disk_spec){.backend = DISK_AUTO, .project = s->id_base};
	if (s->isolation == ISOLATION_VM)
		ret->backend = DISK_LOOP;
	else if (s->disk_backend)
		(void)img_backend_parse(s->disk_backend, &ret->backend);
	ret->size = zero_if_none(s->disk);
	ret->inodes = zero_if_none(s->inodes);
}
