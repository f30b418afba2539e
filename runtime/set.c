// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * set: a new definition out of the old one, applied to what runs, all or nothing.
 *
 * Order: leases, then (marker) limits, network, disk, then spec.json, then what is no longer used
 * goes. A step that fails puts the ones before it back. A kill after the marker, which holds the
 * new definition, is made good by whoever locks the VPS next: set_finish goes forward from where it
 * was, since every step may be done twice.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/ctl.h"
#include "runtime/events.h"
#include "runtime/internal.h"
#include "runtime/migrate/suspend.h"
#include "runtime/monitor.h"

#define SET_MARKER     "set.json"
#define SET_MARKER_MAX (1u << 20)

struct change {
	struct vps_locked *l;
	const struct vps_spec *was, *now;
	struct run_state state;
	bool running;
	struct cg *cg;
	struct net_host *net;
	int netns, run_dir;
};

static void change_done(struct change *c)
{
	cg_close(c->cg);
	close_fd(&c->netns);
	close_fd(&c->run_dir);
}

/* ---- the parts, each from a definition to another ---------------------------------- */

static void unset_limit(uint64_t was, uint64_t *now, uint64_t dflt)
{
	if (*now == SPEC_UNSET && was != SPEC_UNSET)
		*now = dflt;
}

static bool has_io_max(const struct cg_limits *l, const struct cg_io_max *m)
{
	for (size_t i = 0; i < l->n_io_max; i++)
		if (l->io_max[i].major == m->major && l->io_max[i].minor == m->minor)
			return true;
	return false;
}

/* What was set and is not any more gets the kernel's default back, or it would stay as it was. */
static int plan_unset(const struct cg_limits *was, struct cg_limits *now, unsigned n_cpus)
{
	unset_limit(was->memory_min, &now->memory_min, 0);
	unset_limit(was->memory_low, &now->memory_low, 0);
	unset_limit(was->memory_high, &now->memory_high, CG_MAX);
	unset_limit(was->memory_max, &now->memory_max, CG_MAX);
	unset_limit(was->swap_max, &now->swap_max, CG_MAX);
	unset_limit(was->cpu_max, &now->cpu_max, CG_MAX);
	unset_limit(was->cpu_weight, &now->cpu_weight, 100);
	unset_limit(was->io_weight, &now->io_weight, 100);
	if (was->cpuset && !now->cpuset) {
		now->cpuset = n_cpus > 1 ? str_fmt("0-%u", n_cpus - 1) : strdup("0");
		if (!now->cpuset)
			return -ENOMEM;
	}
	now->io_max =
		reallocarray(now->io_max, now->n_io_max + was->n_io_max + 1, sizeof(*now->io_max));
	if (!now->io_max)
		return -ENOMEM;
	for (size_t i = 0, n = now->n_io_max; i < was->n_io_max; i++) {
		const struct cg_io_max *m = &was->io_max[i];
		struct cg_limits upto = {.io_max = now->io_max, .n_io_max = n};
		if (!has_io_max(&upto, m))
			now->io_max[now->n_io_max++] = (struct cg_io_max){
				m->major, m->minor, CG_MAX, CG_MAX, CG_MAX, CG_MAX};
	}
	return 0;
}

static int apply_limits(struct change *c, const struct vps_spec *from, const struct vps_spec *to,
			struct vps_err *err)
{
	auto_done(cg_limits_done) struct cg_limits was;
	auto_done(cg_limits_done) struct cg_limits now;
	int r;

	cg_limits_init(&was);
	cg_limits_init(&now);
	r = plan_limits(from, online_cpus(), &was, err);
	r = r ?: plan_limits(to, online_cpus(), &now, err);
	if (r < 0)
		return r;
	r = plan_unset(&was, &now, online_cpus());
	if (r < 0)
		return vps_err_sys(err, r, "limits");
	return cg_limits_apply(c->cg, &now, err);
}

static int apply_net(struct change *c, const struct vps_spec *from, const struct vps_spec *to,
		     struct vps_err *err)
{
	auto_done(net_plan_done) struct net_plan was = {0};
	auto_done(net_plan_done) struct net_plan now = {0};
	int r = plan_net(from, &was, err);

	r = r ?: plan_net(to, &now, err);
	return r ?: net_update(c->net, c->l->id, &was, &now, c->netns, err);
}

static int apply_disk(struct change *c, const struct vps_spec *from, const struct vps_spec *to,
		      struct vps_err *err)
{
	struct img_disk_spec was, now;

	plan_disk(from, &was);
	plan_disk(to, &now);
	if (from->isolation != to->isolation)
		was.backend = now.backend; /* the exchange has been */
	if (was.size == now.size && was.inodes == now.inodes)
		return 0;
	return img_disk_resize(c->l->dir, &was, &now, -1, err);
}

static struct vps_live live_of(const struct change *c)
{
	return (struct vps_live){.spec = c->was,
				 .conf = &c->l->h->conf,
				 .instance_dir = c->l->dir,
				 .run_dir = c->run_dir,
				 .cg = c->cg,
				 .init = &c->state.init,
				 .paused = c->state.phase == RUN_PAUSED};
}

/* What the driver changes itself. */
static int apply_driver(struct change *c, const struct vps_spec *from, const struct vps_spec *to,
			struct vps_err *err)
{
	const struct vps_live live = live_of(c);
	const struct vps_driver *d = driver_of(from);

	return c->running && d->update ? d->update(&live, from, to, err) : 0;
}

/* A stopped VPS has a disk only. */
static int apply(struct change *c, struct vps_err *err)
{
	bool less = c->now->memory < c->was->memory; /* what is taken is given back first */
	const struct vps_live live = live_of(c);
	int r = less ? apply_driver(c, c->was, c->now, err) : 0, done = 0;

	if (r < 0)
		return r;
	if (c->running)
		r = apply_limits(c, c->was, c->now, err);
	if (r == 0) {
		done = 1;
		if (c->running)
			r = apply_net(c, c->was, c->now, err);
	}
	if (r == 0) {
		done = 2;
		if (!less)
			r = apply_driver(c, c->was, c->now, err);
	}
	if (r == 0) {
		done = 3;
		r = switch_commit(c->l, err);
		r = r ?: apply_disk(c, c->was, c->now, err);
	}
	if (r == 0) {
		if (c->running && c->now->disk != c->was->disk && driver_of(c->was)->grown)
			driver_of(c->was)->grown(&live);
		return 0;
	}
	if (c->running && done >= 2)
		(void)apply_net(c, c->now, c->was, NULL);
	if (c->running && done >= 1)
		(void)apply_limits(c, c->now, c->was, NULL);
	if (done >= 3 || less)
		(void)apply_driver(c, c->now, c->was, NULL);
	return r;
}

static void tell_monitor(struct change *c, int run_dir)
{
	struct monitor_args a;
	struct ctl_policy p;
	autoclose int ctl = run_dir < 0 ? -1 : ctl_connect(run_dir);

	if (ctl < 0)
		return;
	monitor_args_of(c->l, run_dir, &c->state, &a);
	p = (struct ctl_policy){
		.restart = a.restart,
		.restart_max = a.restart_max,
		.console_log_max = a.console_log_max,
	};
	(void)ctl_ask(ctl, CTL_POLICY, &p, sizeof(p), 5000, NULL);
}

/* ---- opening what runs --------------------------------------------------------------- */

static int open_netns(const struct proc_ident *init, struct vps_err *err)
{
	autoclose int pidfd = proc_ident_open(init);
	autoclose int ns = -1;
	char path[64];
	struct proc_ident now;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)init->pid);
	if (pidfd >= 0)
		ns = open(path, O_RDONLY | O_CLOEXEC);
	/* the number is still that process's, so what was opened is its */
	if (ns < 0 || proc_ident_of(init->pid, &now) < 0 || !proc_ident_eq(&now, init))
		return vps_err_set(err, VPS_ESTATE, "it has just ended");
	return take_fd(ns);
}

static int change_open(struct change *c, struct vps_err *err)
{
	struct cg_host *ch;
	char name[ID_STR];
	int r;

	c->running = need_running(c->l, &c->state, NULL) == 0;
	if (!c->running)
		return 0;
	r = host_cgroups(c->l->h, &ch, err);
	r = r ?: cg_open(ch, id_str(c->l->id, name), &c->cg, err);
	r = r ?: host_net(c->l->h, &c->net, err);
	if (r < 0)
		return r;
	c->run_dir = store_run_dir(c->l->h, c->l->id);
	c->netns = open_netns(&c->state.init, err);
	return c->netns < 0 ? c->netns : 0;
}

/* ---- the marker ------------------------------------------------------------------------- */

static int write_marker(struct change *c, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	int r;

	spec_to_json(c->now, &o, NULL);
	r = sb_ok(&sb);
	r = r ?: fs_write_atomic(c->l->dir, SET_MARKER, sb.s, sb.len, 0600);
	return r < 0 ? vps_err_sys(err, r, "set") : 0;
}

/* From the marker on: apply, commit, tidy. On failure all is as it was. */
static int change_commit(struct change *c, struct vps_err *err)
{
	struct vps_locked *l = c->l;
	auto_done(spec_done) struct vps_spec copy;
	int r = apply(c, err);

	spec_init(&copy);
	if (r == 0)
		r = store_write_spec(l->dir, c->now, err);
	if (r < 0) {
		lease_give_back(l->h, c->now, c->was);
		unlinkat(l->dir, SET_MARKER, 0);
		return r;
	}
	lease_give_back(l->h, c->was, c->now);
	if (!str_eq(c->was->image_digest, c->now->image_digest)) {
		/* Of a snapshot, whose pin keeps it until here. A failure leaves the marker: the next one does it. */
		r = store_pin(l->h, l->id, c->now->image_digest, err);
		if (r < 0)
			return r;
	}
	unlinkat(l->dir, SET_MARKER, 0);
	(void)switch_clean(l, NULL); /* else the next who locks it does */
	if (spec_copy(&copy, c->now) == 0) {
		spec_done(&l->spec);
		l->spec = copy;
		spec_init(&copy);
	}
	return 0;
}

int set_finish(struct vps_locked *l, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec now;
	auto_done(spec_done) struct vps_spec was;
	auto_done(change_done) struct change c = {.l = l, .was = &was, .now = &now, .netns = -1, .run_dir = -1};
	autofree char *text = NULL;
	auto_json j = NULL;
	size_t len;
	int r;

	spec_init(&now);
	spec_init(&was);
	r = fs_read(l->dir, SET_MARKER, SET_MARKER_MAX, &text, &len);
	if (r == -ENOENT)
		return switch_clean(l, err);
	r = r ?: json_parse(text, len, &j, err);
	r = r ?: spec_from_json(j, &now, err);
	if (r < 0)
		return vps_err_wrap(err, r, "'%s': " SET_MARKER, l->spec.name);
	r = spec_copy(&was, &l->spec);
	r = r ?: change_open(&c, err);
	return r ?: change_commit(&c, err);
}

int set_exchange(struct vps_locked *l, const struct vps_spec *now, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec was;
	auto_done(change_done) struct change c = {.l = l, .was = &was, .now = now, .netns = -1, .run_dir = -1};
	int r = spec_copy(&was, &l->spec);

	if (r < 0) {
		spec_init(&was);
		return vps_err_sys(err, r, "exchange the disk");
	}
	r = write_marker(&c, err);
	return r ?: change_commit(&c, err);
}

/* ---- the verb ----------------------------------------------------------------------------- */

static int one_setting(const struct change *c, struct vps_spec *s, const char *setting, struct vps_err *err)
{
	const char *who = c->l->spec.name;
	autofree char *name = strndup(setting, strcspn(setting, "="));
	const char *eq = strchr(setting, '=');
	const struct spec_option *o;
	int r;

	if (!name)
		return vps_err_sys(err, -ENOMEM, "set");
	o = spec_option_find(name);
	if (o && o->create_only)
		return vps_err_set(err, VPS_EUSAGE, "%s: only create and rebuild decide it",
				   o->name);
	if (o && c->running && !o->live)
		return vps_err_set(err, VPS_ESTATE,
				   "%s cannot change while '%s' runs; stop it first", o->name, who);
	if (o && !o->live && suspended_is(c->l))
		return vps_err_set(err, VPS_ESTATE,
				   "%s cannot change while '%s' is suspended: its memory knows the old one", o->name,
				   who);
	r = spec_set(s, name, eq ? eq + 1 : NULL, err);
	return r;
}

/* Nothing of a new isolation or network is applied to a VPS that runs: those are not live. */
static int change_check(struct change *c, struct vps_spec *now, struct vps_err *err)
{
	int r = lease_default_ips(c->l->h, now);

	if (r < 0)
		return vps_err_sys(err, r, "set");
	r = spec_check(now, err);
	return r ?: spec_check_host(c->l->h, now, err);
}

/* Between taking a lease and the marker a kill leaves a lease that no definition names. The file
 * tells delete to look for such, which it else need not. */
static int begin_leasing(struct vps_locked *l, struct vps_err *err)
{
	int r = fs_write_rename(l->dir, LEASING_FILE, "", 0, 0600);

	return r < 0 ? vps_err_sys(err, r, "set") : 0;
}

static int set_locked(struct vps_locked *l, char *const *settings, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec now;
	auto_done(spec_done) struct vps_spec was;
	auto_done(change_done) struct change c = {.l = l, .was = &was, .now = &now, .netns = -1, .run_dir = -1};
	autoclose int run_dir = store_run_dir(l->h, l->id);
	int r = spec_copy(&now, &l->spec);

	spec_init(&was);
	r = r ?: spec_copy(&was, &l->spec);
	if (r < 0)
		return vps_err_sys(err, r, "set");
	r = change_open(&c, err);
	for (char *const *p = settings; p && *p && r == 0; p++)
		r = one_setting(&c, &now, *p, err);
	if (r == 0 && spec_equal(&was, &now))
		return 0;
	r = r ?: switch_plan(l, &now, err);
	r = r ?: change_check(&c, &now, err);
	if (r == 0 && now.isolation != was.isolation)
		r = need_stopped(l, "put behind another wall", err);
	r = r ?: switch_prepare(l, &now, err);
	r = r ?: begin_leasing(l, err);
	if (r < 0)
		return r;
	r = lease_take(l->h, &was, &now, err);
	if (r == 0) {
		r = store_seccomp(l->dir, &now, err);
		r = r ?: write_marker(&c, err);
		if (r < 0)
			lease_give_back(l->h, &now, &was);
	}
	r = r ?: change_commit(&c, err);
	unlinkat(l->dir, LEASING_FILE, 0);
	if (r == 0)
		tell_monitor(&c, run_dir);
	return r;
}

int vps_caveats(struct vps_host *h, const struct vps_spec *s, char ***ret)
{
	auto_done(cg_limits_done) struct cg_limits l;
	struct cg_host *ch;
	int r = host_cgroups(h, &ch, NULL);

	cg_limits_init(&l);
	r = r ?: plan_limits(s, online_cpus(), &l, NULL);
	return r ?: cg_limits_caveats(ch, &l, ret);
}

int vps_set(struct vps_host *h, const char *who, char *const *settings, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	int r = vps_lock(h, who, "set", &l, err);

	if (r < 0)
		return r;
	r = set_locked(&l, settings, err);
	if (r < 0)
		return vps_err_wrap(err, r, "set %s", l.spec.name);
	event_add(h->run_fd, l.id, l.spec.name, "set", NULL, 0);
	return 0;
}
