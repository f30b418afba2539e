// SPDX-License-Identifier: GPL-2.0-or-later
/* The source's side of the check: what there is to move, and how. */
#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/inside.h"
#include "runtime/migrate/migrate.h"
#include "runtime/migrate/migrate_impl.h"
#include "runtime/migrate/suspend.h"

bool source_is_running(struct source *s)
{
	struct run_state st;

	return need_running(&s->l, &st, NULL) == 0;
}

/* ---- the offer ----------------------------------------------------------------------------------- */

static int open_disk(struct source *s)
{
	struct img_disk_spec d;
	enum wire_tree tree = TREE_DISK;
	int r;

	s->offer.blocks = s->l.spec.isolation == ISOLATION_VM || img_disk_is_guests(s->l.dir);
	if (s->offer.blocks) {
		s->top = fs_open_dir(s->l.dir, "disk");
		tree = TREE_BLOCKS;
	} else {
		plan_disk(&s->l.spec, &d);
		r = img_disk_attach(s->l.dir, d.backend, false, &s->mount, s->err);
		if (r < 0)
			return r;
		s->top = openat(s->mount, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (s->top < 0)
		return vps_err_sys(s->err, -errno, "disk of '%s'", s->l.spec.name);
	r = scan_measure(s->top, &s->offer.used, &s->offer.entries, s->err);
	return r ?: scan_new(s->top, tree, &s->scan, s->err);
}

void source_close_disk(struct source *s)
{
	s->scan = scan_free(s->scan);
	close_fd(&s->top);
	close_fd(&s->mount);
}

static int read_seccomp(struct source *s)
{
	int r;

	if (!str_eq(s->l.spec.seccomp, SPEC_SECCOMP_FILE))
		return 0;
	r = fs_read(s->l.dir, SPEC_SECCOMP_FILE, 1 << 20, &s->offer.seccomp, NULL);
	return r < 0 ? vps_err_sys(s->err, r, "seccomp profile") : 0;
}

static int read_image(struct source *s)
{
	auto_done(img_info_done) struct img_info info = {0};
	struct img_store *images;
	int r = vps_host_images(s->h, &images, s->err);

	r = r ?: img_inspect(images, s->l.spec.image_digest, &info, s->err);
	if (r < 0)
		return r;
	s->offer.image_size = info.size;
	r = img_exported_as(images, info.digest, &s->offer.image_as);
	for (size_t i = 0; r == 0 && i < info.n_layers; i++)
		r = strv_add(&s->offer.image_layers, info.layers[i]);
	return r < 0 ? vps_err_sys(s->err, r, "image") : 0;
}

/* What the other host is asked for. */
static int read_needs(struct source *s)
{
	auto_done(inside_done) struct inside i = INSIDE_INIT;
	int r;

	if (s->offer.mode != VPS_MIGRATE_LIVE || !driver_of(&s->l.spec)->needs)
		return 0;
	r = inside_open(s->h, s->who, &i, s->err);
	return r ?: i.driver->needs(&i.live, &s->offer.needs, s->err);
}

static bool has_snapshots(struct source *s)
{
	auto_strv names = NULL;

	return fs_list(s->l.dir, "snapshots", &names) == 0 && strv_len(names) > 0;
}

int source_make_offer(struct source *s)
{
	struct vps_stats st = {0};
	struct utsname u;
	int r = spec_copy(&s->offer.spec, &s->l.spec);

	if (r == 0 && s->o->new_name)
		r = spec_name_check(s->o->new_name, s->err) ?: str_set(&s->offer.spec.name, s->o->new_name);
	r = r ?: clone_keep_mac(s->h, &s->offer.spec);
	if (r == 0 && uname(&u) < 0)
		r = -errno;
	r = r ?: str_set(&s->offer.peer, u.nodename);
	r = r ?: str_set(&s->offer.kernel, u.release);
	r = r ?: str_set(&s->offer.arch, u.machine);
	if (r < 0)
		return vps_err_sys(s->err, r, "offer");
	s->offer.check = s->o->dry_run;
	if (!s->o->keep && has_snapshots(s)) {
		r = strv_add(&s->res->problems, "it has snapshots, which do not move: delete them, or --keep them with the copy here");
		if (r < 0)
			return vps_err_sys(s->err, r, "offer");
	}
	s->offer.first_boot_done = fs_exists(s->l.dir, FIRST_BOOT_DONE);
	s->offer.copied = fs_exists(s->l.dir, COPIED_FILE);
	if (s->offer.mode != VPS_MIGRATE_STOPPED && vps_stats(s->h, s->who, &st, NULL) == 0 &&
	    st.memory_current < UINT64_MAX - 1)
		s->offer.memory = st.memory_current;
	r = read_seccomp(s);
	r = r ?: read_needs(s);
	r = r ?: read_image(s);
	r = r ?: open_disk(s);
	s->res->disk_used = s->offer.used;
	return r;
}

/* ---- how ------------------------------------------------------------------------------------------- */

/* What is in the way, all of it, by name. */
static int why_not_live(struct source *s, struct vps_err *why)
{
	struct vps_obstacle *v = NULL;
	auto_strbuf sb = STRBUF_INIT;
	size_t n = 0;
	int r;

	r = vps_migrate_check(s->h, s->who, &v, &n, why);
	for (size_t i = 0; i < n; i++) {
		autofree char *process = v[i].process ? str_escape(v[i].process) : NULL;
		if (i)
			sb_add(&sb, ", ");
		if (process)
			sb_addf(&sb, "%s (%d): ", process, (int)v[i].pid);
		sb_add(&sb, v[i].what);
		if (v[i].help)
			sb_addf(&sb, " (%s)", v[i].help);
	}
	vps_obstacles_free(v, n);
	return r < 0 || n == 0 ? r : vps_err_set(why, VPS_EUNSUPPORTED, "%s", sb_str(&sb));
}

static int near_live(struct source *s, const struct vps_err *why)
{
	autofree char *question = NULL;

	s->offer.mode = VPS_MIGRATE_RESTART;
	if (s->o->mode == VPS_MIGRATE_RESTART)
		return 0;
	if (s->o->require_live)
		return vps_err_set(s->err, VPS_EUNSUPPORTED, "'%s' cannot move live: %s", s->l.spec.name, why->msg);
	question = str_fmt("'%s' cannot move live: %s. It can be copied while it runs, then stopped here and started there: "
			   "what it holds in memory is lost. Go on?", s->l.spec.name, why->msg);
	if (question && s->o->ask && s->o->ask(s->o->arg, question))
		return 0;
	return vps_err_set(s->err, VPS_ESTATE,
			   "'%s' cannot move live: %s; with --restart it is stopped here and started there, and its memory is lost",
			   s->l.spec.name, why->msg);
}

int source_decide_mode(struct source *s)
{
	struct vps_err why = {0};

	if (suspended_is(&s->l))
		return vps_err_set(s->err, VPS_ESTATE,
				   "'%s' is suspended: resume it first, or forget its memory ('vps stop --kill')", s->l.spec.name);
	if (!source_is_running(s)) {
		s->offer.mode = VPS_MIGRATE_STOPPED;
		return 0;
	}
	if (s->o->dry_run) { /* nobody is asked */
		bool live = s->o->mode != VPS_MIGRATE_RESTART && why_not_live(s, &why) == 0;
		s->offer.mode = live ? VPS_MIGRATE_LIVE : VPS_MIGRATE_RESTART;
		if (s->o->mode != VPS_MIGRATE_RESTART && !live)
			return strv_addf(s->o->require_live ? &s->res->problems : &s->res->notes, "not live: %s", why.msg);
		return 0;
	}
	if (s->o->mode != VPS_MIGRATE_RESTART && why_not_live(s, &why) == 0) {
		s->offer.mode = VPS_MIGRATE_LIVE;
		return 0;
	}
	return near_live(s, &why);
}

int source_is_unchanged(struct source *s)
{
	auto_done(spec_done) struct vps_spec was;
	int r = spec_copy(&was, &s->l.spec);

	if (r == 0 && s->o->new_name)
		r = str_set(&was.name, s->o->new_name);
	r = r ?: clone_keep_mac(s->h, &was);
	if (r < 0)
		return vps_err_sys(s->err, r, "definition");
	return spec_equal(&was, &s->offer.spec)
		       ? 0
		       : vps_err_set(s->err, VPS_ESTATE, "its definition was changed meanwhile; run it again");
}
