/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the definition to the machine: pure. */
#include "runtime/microvm/microvm.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "runtime/guest/agent.h"

#define DEFAULT_MEMORY (512ull << 20)
/* panic=1: a dead kernel starts anew after a second, which vps-vmm tells from a reboot. The card stays
 * eth0, as everywhere. */
#define CMDLINE "console=ttyS0 quiet panic=1 net.ifnames=0"

uint64_t vm_memory(const struct vps_spec *s)
{
	uint64_t m = s->memory == SPEC_UNSET || s->memory == SPEC_MAX ? DEFAULT_MEMORY : s->memory;

	return m & ~((2ull << 20) - 1); /* whole huge pages */
}

unsigned vm_cpus(const struct vps_spec *s, unsigned n_cpus)
{
	uint64_t n = s->cpus == SPEC_UNSET || s->cpus == SPEC_MAX ? n_cpus : (s->cpus + 999) / 1000;

	return n > VMM_MAX_CPUS ? VMM_MAX_CPUS : (unsigned)n;
}

char *vm_cmdline(const struct vps_spec *s)
{
	return s->cmdline && *s->cmdline ? str_fmt(CMDLINE " %s", s->cmdline) : strdup(CMDLINE);
}

static int set_addr(const struct net_addr *a, bool with_len, char **ret)
{
	char text[NET_ADDR_STR];

	return a->family ? str_set(ret, net_addr_str(a, with_len, text)) : 0;
}

static bool has_family(const struct net_plan *n, int family)
{
	for (size_t i = 0; i < n->n_addrs; i++)
		if (n->addrs[i].family == family)
			return true;
	return false;
}

/* As netns does it for a container: whole addresses, link-local gateways, nobody to be asked. */
static int routed(const struct net_plan *n, struct guest_cfg *c)
{
	struct net_addr gw[2];
	uint8_t mac[6];
	int r;

	net_gateway(&gw[0], &gw[1], mac);
	r = has_family(n, AF_INET) ? set_addr(&gw[0], false, &c->gw4) : 0;
	if (r == 0 && has_family(n, AF_INET6))
		r = set_addr(&gw[1], false, &c->gw6);
	c->gw_mac = str_fmt("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
			    mac[5]);
	return c->gw_mac ? r : -ENOMEM;
}

static int network(const struct net_plan *n, struct guest_cfg *c)
{
	int r = 0;

	c->nic = n->mode != NET_NONE;
	c->mtu = n->mtu;
	for (size_t i = 0; i < n->n_addrs && r == 0; i++) {
		struct net_addr a = n->addrs[i];
		char text[NET_ADDR_STR];

		if (n->mode == NET_ROUTED)
			a.len = a.family == AF_INET ? 32 : 128;
		r = strv_add(&c->addrs, net_addr_str(&a, true, text));
	}
	if (r < 0 || n->mode == NET_NONE)
		return r;
	if (n->mode == NET_ROUTED)
		return routed(n, c);
	r = set_addr(&n->gw4, false, &c->gw4);
	return r ?: set_addr(&n->gw6, false, &c->gw6);
}

/* The host counts no processes of a guest: its own kernel does. */
#define THREADS_LEAST 20      /* kernel/fork.c, MIN_THREADS */
#define THREADS_MOST  4194304 /* of process ids: no limit */

static int limit_threads(uint64_t pids, struct guest_cfg *c)
{
	uint64_t n = pids == SPEC_UNSET || pids == SPEC_MAX ? THREADS_MOST : pids;

	return strv_addf(&c->sysctls, "kernel.threads-max=%llu",
			 (unsigned long long)(n < THREADS_LEAST ? THREADS_LEAST : n));
}

static int sysctls(const struct vps_spec *s, struct guest_cfg *c)
{
	int r = s->sysctls ? strv_copy(&c->sysctls, s->sysctls) : 0;

	return r < 0 || s->pids == SPEC_UNSET || s->pids == SPEC_MAX ? r : limit_threads(s->pids, c);
}

static int file_copy(struct guest_file *to, const struct guest_file *from)
{
	*to = *from;
	to->path = strdup(from->path);
	to->link_to = from->link_to ? strdup(from->link_to) : NULL;
	to->data = malloc(from->len + 1);
	if (!to->path || !to->data || (from->link_to && !to->link_to))
		return -ENOMEM;
	memcpy(to->data, from->data ? from->data : "", from->len);
	to->data[from->len] = '\0';
	return 0;
}

static int files(const struct vps_run *run, struct guest_cfg *c)
{
	int r = 0;

	c->files = calloc(run->n_files + 1, sizeof(*c->files));
	if (!c->files)
		return -ENOMEM;
	for (; c->n_files < run->n_files && r == 0; c->n_files++)
		r = file_copy(&c->files[c->n_files], &run->files[c->n_files]);
	return r;
}

int vm_guest_cfg(const struct vps_run *run, struct guest_cfg *ret)
{
	const struct vps_spec *s = run->spec;
	struct guest_cfg c = {.role = run->under_init ? GUEST_COMMAND : GUEST_SYSTEM};
	int r = run->argv ? strv_copy(&c.argv, run->argv) : 0;

	c.tty = s->console == CONSOLE_PTY && c.role == GUEST_COMMAND;
	c.stop_signal = s->stop_signal ? spec_signal_parse(s->stop_signal) : 0;
	r = r ?: run->env ? strv_copy(&c.env, run->env) : 0;
	r = r ?: str_set(&c.user, run->user);
	r = r ?: str_set(&c.cwd, run->cwd);
	r = r ?: str_set(&c.hostname, run->hostname);
	r = r ?: str_set(&c.uuid, s->uuid);
	r = r ?: sysctls(s, &c);
	r = r ?: run->net ? network(run->net, &c) : 0;
	r = r ?: files(run, &c);
	if (r < 0) {
		guest_cfg_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

/* ---- a change of what runs ------------------------------------------------------- */

static int addresses_change(const struct vps_spec *was, const struct vps_spec *now, struct guest_cfg *c)
{
	auto_done(guest_cfg_done) struct guest_cfg old = {0};
	auto_done(net_plan_done) struct net_plan before = {0};
	auto_done(net_plan_done) struct net_plan after = {0};
	int r = plan_net(was, &before, NULL);

	r = r ?: plan_net(now, &after, NULL);
	r = r ?: network(&before, &old);
	r = r ?: network(&after, c);
	for (char **a = old.addrs; a && *a && r == 0; a++)
		if (!strv_has(c->addrs, *a))
			r = strv_add(&c->old_addrs, *a);
	return r;
}

int vm_guest_change(const struct vps_spec *was, const struct vps_spec *now, struct guest_cfg *ret)
{
	struct guest_cfg c = {.stop_signal = now->stop_signal ? spec_signal_parse(now->stop_signal) : 0};
	int r = was->pids != now->pids ? limit_threads(now->pids, &c) : 0;

	if (r == 0 && !strv_equal(was->addrs, now->addrs))
		r = addresses_change(was, now, &c);
	if (r < 0) {
		guest_cfg_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

/* ---- argv ---------------------------------------------------------------------- */

static int add_net(const struct vps_run *run, int tap, char ***v)
{
	static const uint8_t none[6];
	const struct net_plan *n = run->net;
	uint8_t mac[6];

	if (tap < 0)
		return 0;
	memcpy(mac, n->mac, 6);
	if (memcmp(mac, none, 6) == 0)
		net_mac_derive(run->conf->tag, run->spec->id, mac);
	return strv_addf(v, "net=%d,%02x:%02x:%02x:%02x:%02x:%02x,mtu=%u", tap, mac[0], mac[1], mac[2],
			 mac[3], mac[4], mac[5], n->mtu);
}

static int add_fd(char ***v, const char *key, int fd)
{
	return fd < 0 ? 0 : strv_addf(v, "%s=%d", key, fd);
}

int vm_argv(const struct vps_run *run, const struct vm_fds *f, const struct vm_size *size, char ***ret)
{
	autofree char *cmdline = vm_cmdline(run->spec);
	auto_strv v = NULL;
	int r = cmdline ? strv_add(&v, "vps-vmm") : -ENOMEM;

	r = r ?: strv_addf(&v, "memory=%llu", (unsigned long long)size->memory);
	r = r ?: strv_addf(&v, "cpus=%u", size->cpus);
	r = r ?: add_fd(&v, "kvm", f->kvm);
	r = r ?: add_fd(&v, "restore", f->restore);
	for (int i = 0; i < VMM_ROUNDS_MAX && f->rounds[i] >= 0; i++)
		r = r ?: add_fd(&v, "round", f->rounds[i]);
	r = r ?: add_fd(&v, "kernel", f->kernel);
	for (int i = 0; i < 2; i++)
		r = r ?: add_fd(&v, "initrd", f->initrd[i]);
	if (f->kernel >= 0)
		r = r ?: strv_addf(&v, "cmdline=%s", cmdline);
	r = r ?: add_fd(&v, "gate", f->gate);
	r = r ?: add_fd(&v, "ctl", f->ctl);
	r = r ?: add_fd(&v, "notify", f->notify);
	r = r ?: strv_addf(&v, "console=%d,%d", f->console[0], f->console[1]);
	r = r ?: strv_addf(&v, "disk=%d,ro,serial=" GUEST_SERIAL_IMAGE, f->image);
	r = r ?: strv_addf(&v, "disk=%d,serial=" GUEST_SERIAL_DISK, f->disk);
	if (f->modules >= 0)
		r = r ?: strv_addf(&v, "disk=%d,ro,serial=" GUEST_SERIAL_MODULES, f->modules);
	for (unsigned i = 0; i < 3; i++)
		if (f->stdio[i] >= 0)
			r = r ?: strv_addf(&v, "port=%u,%d,%s", AGENT_STDIO_PORT + i, f->stdio[i],
					   i ? "out" : "in");
	if (f->errand >= 0)
		r = r ?: strv_addf(&v, "port=%u,%d", AGENT_EXPORT_PORT, f->errand);
	r = r ?: add_net(run, f->tap, &v);
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}
