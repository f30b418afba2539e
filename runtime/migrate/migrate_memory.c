/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source's memory: rounds of pre-copy while it runs, and the rest when it stands still. What is written is the driver's. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/driver.h"
#include "runtime/migrate/migrate_impl.h"

static void close_memory(struct source *s)
{
	s->mem.scan = scan_free(s->mem.scan);
	checkpoint_sums_done(&s->mem.sums);
	close_fd(&s->mem.dir);
	close_fd(&s->mem.hold.fd);
	s->mem.rounds = 0;
	s->mem.news = false;
}

/* A fresh directory. Locked. */
static int open_memory(struct source *s)
{
	int r = fs_remove_tree(s->l.dir, HO_MEMORY);

	close_memory(s);
	if (r == 0 && mkdirat(s->l.dir, HO_MEMORY, 0700) < 0)
		r = -errno;
	s->mem.dir = r < 0 ? r : fs_open_dir(s->l.dir, HO_MEMORY);
	if (s->mem.dir < 0)
		return vps_err_sys(s->err, s->mem.dir, "memory");
	return scan_new(s->mem.dir, TREE_MEMORY, &s->mem.scan, s->err);
}

/* The rounds so far are worth nothing. The scan goes on, for the other side has them. */
static int empty_memory(struct source *s)
{
	auto_strv names = NULL;
	int r = fs_list(s->mem.dir, ".", &names);

	for (char **n = names; r == 0 && n && *n; n++)
		r = fs_remove_tree(s->mem.dir, *n);
	s->mem.rounds = s->res->memory_rounds = 0;
	s->res->predicted_us = 0;
	return r < 0 ? vps_err_sys(s->err, r, "memory") : 0;
}

void source_drop_memory(struct source *s)
{
	if (s->mem.rounds && source_is_running(s))
		checkpoint_forget(&s->l, &s->mem.hold);
	close_memory(s);
	(void)fs_remove_tree(s->l.dir, HO_MEMORY);
}

int source_take_memory(struct source *s)
{
	int r = s->mem.dir >= 0 ? 0 : open_memory(s);

	r = r ?: checkpoint_take(&s->l, s->mem.dir, s->mem.rounds, &s->mem.hold, &s->taking, s->err);
	if (r < 0)
		return r;
	s->taken = s->mem.news = true;
	/* It is nothing to this host once it is there: it need not be on this disk. */
	return checkpoint_seal(s->h, &s->l.spec, s->taking.ran, s->mem.dir, &s->mem.sums, NULL, s->err);
}

int source_send_memory(struct source *s, bool last)
{
	struct scan_round n;
	int r;

	snprintf(s->mem.what, sizeof(s->mem.what), last ? "memory, rest" : "memory, round %u", s->mem.rounds);
	r = scan_send(s->mem.scan, &s->link.w, last, s->o->progress, s->mem.what, last ? 0 : s->mem.bytes, &n, s->err);
	if (r < 0)
		return r;
	s->mem.news = false;
	s->res->memory_sent += n.bytes;
	return 0;
}

static void unlock(void *arg)
{
	source_unlock(arg);
}

/* 1: it is written; 0: there is nothing to be written, and why is noted. */
static int write_round(struct source *s, struct precopy_round *ret)
{
	struct precopy_stats st = {0};
	struct vps_err why = {0};
	int r = source_relock(s);

	if (r < 0)
		return r;
	if (!source_is_running(s)) /* it ended meanwhile, which the freeze will tell */
		return 0;
	r = s->mem.dir >= 0 ? 0 : open_memory(s);
	if (r < 0)
		return r;
	ret->began = sys_now_mono();
	r = checkpoint_precopy(&s->l, s->mem.dir, s->mem.rounds + 1, &s->mem.hold, unlock, s, &st, &why);
	ret->written = sys_now_mono();
	ret->bytes = st.bytes;
	/* Only the first round of a machine has what another host needs for the rest. */
	if (r < 0 && driver_of(&s->offer.spec)->machine)
		return vps_err_set(s->err, why.code, "its memory cannot be copied ahead: %s", why.msg);
	if (r < 0) {
		r = empty_memory(s);
		if (r < 0)
			return r;
		r = strv_addf(&s->res->notes, "its memory was not copied ahead: %s", why.msg);
		return r < 0 ? vps_err_sys(s->err, r, "note") : 0;
	}
	s->mem.rounds++;
	s->mem.news = true;
	return 1;
}

static int one_round(struct source *s, bool *go_on)
{
	struct precopy_round p = {0};
	struct scan_round n;
	int r = write_round(s, &p);

	*go_on = false;
	source_unlock(s);
	if (r <= 0)
		return r;
	s->mem.bytes = p.bytes;
	r = checkpoint_sums_make(&s->mem.sums, s->mem.dir, s->err);
	r = r ?: source_send_round(s, false, &n);
	if (r < 0)
		return r;
	p.sent = sys_now_mono();
	s->res->memory_round[s->res->memory_rounds++] = p.bytes;
	*go_on = precopy_go_on(&s->mem.pace, &p);
	s->res->predicted_us = s->mem.pace.predicted_us;
	return 0;
}

int source_precopy(struct source *s)
{
	bool any = s->o->downtime_ms < 0, machine = driver_of(&s->offer.spec)->machine, go_on = !any || machine;
	int r = 0;

	s->mem.pace = (struct precopy){
		.downtime_us = any ? UINT64_MAX : (uint64_t)(s->o->downtime_ms ?: PRECOPY_DOWNTIME_MS) * 1000,
		.mapped = machine,
	};
	while (r == 0 && go_on)
		r = one_round(s, &go_on);
	return r;
}
