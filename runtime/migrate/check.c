/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check --migrate: could it be written down now, and what is in the way? It runs meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "runtime/container/criu.h"
#include "runtime/inside.h"
#include "runtime/migrate/obstacles.h"

static int add(struct obstacles *o, const char *what, const char *help)
{
	int r = mem_grow(o->v, o->n, o->cap);

	if (r < 0)
		return r;
	o->v[o->n] = (struct vps_obstacle){.what = strdup(what), .help = strdup(help)};
	return o->v[o->n++].what ? 0 : -ENOMEM;
}

/* The program, and what the definition says. */
static int check_means(const struct inside *i, struct obstacles *o)
{
	auto_done(criu_done) struct criu c = {0};
	struct vps_err why = {0};
	int r = 0;

	if (!i->driver->checkpoint)
		return add(o, "a running VPS of this kind cannot be written down", "stop it to move it");
	if (i->spec.isolation != ISOLATION_CONTAINER)
		return 0;
	if (criu_find(i->live.conf, &c, &why) < 0 || criu_check(&c, &why) < 0)
		r = add(o, why.msg, "vps.conf: criu = PATH");
	return r;
}

int vps_migrate_check(struct vps_host *h, const char *who, struct vps_obstacle **ret, size_t *ret_n, struct vps_err *err)
{
	auto_done(inside_done) struct inside i = INSIDE_INIT;
	auto_done(obstacles_done) struct obstacles o = {0};
	int r = inside_open(h, who, &i, err);

	if (r < 0)
		return r;
	if (i.spec.isolation == ISOLATION_CONTAINER)
		r = obstacles_find(&i.live, &o, err);
	if (r < 0)
		return r;
	r = check_means(&i, &o);
	if (r < 0)
		return vps_err_sys(err, r, "check");
	*ret = take_ptr(o.v);
	*ret_n = o.n;
	o.n = 0;
	return 0;
}
