// SPDX-License-Identifier: GPL-2.0-or-later
/* create and rebuild. What a kill leaves at each point: claim.c. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/events.h"
#include "runtime/internal.h"
#include "runtime/migrate/record.h"

#define DEFAULT_DISK (10ull << 30)
#define PROFILE_MAX  (1u << 20) /* bytes of a seccomp profile */

/* RFC 9562 version 4 */
static int make_uuid(char out[37])
{
	uint8_t b[16];
	char hex[33];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -errno;
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	fmt_hex(b, sizeof(b), hex);
	snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
	return 0;
}

/* "create 101 --image …", as vzctl has it: a number in the name's place is the wanted id. */
static int wanted_id(struct vps_spec *s, unsigned *ret, struct vps_err *err)
{
	uint64_t v;

	*ret = s->id;
	s->id = 0;
	if (!s->name || !*s->name || strspn(s->name, "0123456789") != strlen(s->name))
		return 0;
	if (parse_u64(s->name, 9999999, &v) < 0 || v == 0 || *s->name == '0')
		return vps_err_set(err, VPS_EUSAGE, "'%.20s' is not an id", s->name);
	*ret = (unsigned)v;
	return str_set(&s->name, NULL);
}

/* An identity is one VPS's; that of a backup is free unless it is restored beside the original. */
static int choose_uuid(struct vps_host *h, const char *wanted, char out[37])
{
	unsigned id;

	if (!wanted || strlen(wanted) != 36 || store_find(h, wanted, &id, NULL) == 0)
		return make_uuid(out);
	memcpy(out, wanted, 37);
	return 0;
}

static int fill_defaults(struct vps_host *h, struct vps_spec *s, const char *uuid, struct vps_err *err)
{
	int r = 0;

	if (!s->image && h->conf.default_image)
		r = str_set(&s->image, h->conf.default_image);
	if (s->disk == SPEC_UNSET)
		s->disk = DEFAULT_DISK;
	if (r == 0 && !s->disk_backend)
		r = str_set(&s->disk_backend, s->isolation == ISOLATION_VM ? "loop" : h->conf.disk_backend);
	r = r ?: lease_default_ips(h, s);
	r = r ?: choose_uuid(h, uuid, s->uuid);
	s->created = (uint64_t)time(NULL);
	return r < 0 ? vps_err_sys(err, r, "definition") : 0;
}

/* Everything that a start would refuse is refused now, while nothing is made yet. */
int spec_check_host(struct vps_host *h, const struct vps_spec *s, struct vps_err *err)
{
	auto_done(cg_limits_done) struct cg_limits limits;
	auto_done(net_plan_done) struct net_plan net = {0};
	autofree struct cg_device *devices = NULL;
	struct cg_host *ch;
	struct net_host *nh;
	size_t n;
	int r;

	cg_limits_init(&limits);
	r = driver_of(s)->check(s, &h->conf, err);
	r = r ?: host_cgroups(h, &ch, err);
	r = r ?: plan_limits(s, online_cpus(), &limits, err);
	r = r ?: cg_limits_check(ch, &limits, err);
	r = r ?: plan_devices(s, &devices, &n, err);
	r = r ?: plan_net(s, &net, err);
	r = r ?: host_net(h, &nh, err);
	if (r >= 0 && !net.n_addrs && strv_len(s->ips))
		net.n_publish = 0; /* which families there will be is known with the leases */
	r = r ?: net_check_plan(nh, &net, err);
	return r;
}

static int check_leased(struct vps_host *h, const struct vps_spec *s, struct vps_err *err)
{
	auto_done(net_plan_done) struct net_plan net = {0};
	struct net_host *nh;
	int r = plan_net(s, &net, err);

	r = r ?: host_net(h, &nh, err);
	return r ?: net_check_plan(nh, &net, err);
}

/* The operator's profile becomes the VPS's own copy: what is enforced does not change behind it. */
int store_seccomp(int dir, struct vps_spec *s, struct vps_err *err)
{
	autofree char *text = NULL;
	auto_json j = NULL;
	size_t len;
	int r;

	if (!s->seccomp || *s->seccomp != '/')
		return 0;
	r = fs_read(AT_FDCWD, s->seccomp, PROFILE_MAX, &text, &len);
	if (r < 0)
		return vps_err_sys(err, r, "seccomp profile '%s'", s->seccomp);
	if (json_parse(text, len, &j, err) < 0) {
		if (err)
			err->code = VPS_EUSAGE;
		return vps_err_wrap(err, -VPS_EUSAGE, "seccomp profile '%s'", s->seccomp);
	}
	r = fs_write_atomic(dir, SPEC_SECCOMP_FILE, text, len, 0600);
	r = r ?: str_set(&s->seccomp, SPEC_SECCOMP_FILE);
	return r < 0 ? vps_err_sys(err, r, "seccomp profile") : 0;
}

static int take_name(struct vps_host *h, struct vps_spec *s, struct vps_err *err)
{
	if (s->name)
		return claim_name(h, s->id, s->name, err);
	/* Only an operator's own "vps101" can be in the way. */
	for (unsigned i = 1; i < 100; i++) {
		autofree char *name =
			i == 1 ? str_fmt("vps%u", s->id) : str_fmt("vps%u-%u", s->id, i);
		int r = name ? claim_name(h, s->id, name, NULL) : -ENOMEM;
		if (r == -VPS_EEXISTS)
			continue;
		if (r < 0)
			return vps_err_sys(err, r, "name");
		s->name = take_ptr(name);
		return 0;
	}
	return vps_err_set(err, VPS_EEXISTS, "no free name for VPS %u", s->id);
}

static int make_disk(struct vps_locked *l, struct vps_spec *s, struct vps_err *err)
{
	struct img_disk_spec d;
	enum img_backend backend;
	int r;

	plan_disk(s, &d);
	r = img_disk_create(l->dir, &d, &backend, err);
	if (r < 0)
		return r;
	r = str_set(&s->disk_backend, img_backend_name(backend));
	return r < 0 ? vps_err_sys(err, r, "disk") : 0;
}

int store_pin(struct vps_host *h, unsigned id, const char *digest, struct vps_err *err)
{
	struct img_store *images;
	char owner[ID_STR];
	int r = vps_host_images(h, &images, err);

	return r < 0 ? r : img_pin(images, id_str(id, owner), digest, err);
}

static int mark_copied(int dir, const struct create_more *more, struct vps_err *err)
{
	int r = more->booted ? fs_write_rename(dir, FIRST_BOOT_DONE, "", 0, 0600) : 0;

	if (r == 0 && more->copied)
		r = fs_write_rename(dir, COPIED_FILE, "", 0, 0600);
	return r < 0 ? vps_err_sys(err, r, "mark a copy") : 0;
}

static int fill_claimed(struct vps_locked *l, struct vps_spec *s, const struct create_more *more,
			struct vps_err *err)
{
	struct vps_host *h = l->h;
	int r;

	s->id = l->id;
	r = id_base_of(&h->conf, s->id, &s->id_base, err);
	r = r ?: take_name(h, s, err);
	r = r ?: lease_take(h, NULL, s, err);
	r = r ?: check_leased(h, s, err);
	r = r ?: store_pin(h, s->id, s->image_digest, err);
	r = r ?: store_seccomp(l->dir, s, err);
	r = r ?: more->make_disk ? more->make_disk(more->arg, l, s, err) : make_disk(l, s, err);
	r = r ?: mark_copied(l->dir, more, err);
	return r ?: store_write_spec(l->dir, s, err);
}

static int resolve_image(struct vps_host *h, struct vps_spec *s, struct vps_err *err)
{
	auto_done(img_info_done) struct img_info info = {0};
	struct img_store *images;
	int r = vps_host_images(h, &images, err);

	r = r ?: img_inspect(images, s->image_digest ?: s->image, &info, err);
	if (r < 0)
		return r;
	r = str_set(&s->image_digest, info.digest);
	return r < 0 ? vps_err_sys(err, r, "image") : 0;
}

static int create(struct vps_host *h, struct vps_spec *s, const struct create_more *more, struct vps_info *ret,
		  struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	unsigned want;
	int r = wanted_id(s, &want, err);

	r = r ?: fill_defaults(h, s, more->uuid, err);
	r = r ?: spec_check(s, err);
	r = r ?: resolve_image(h, s, err);
	r = r ?: spec_check_host(h, s, err);
	if (r < 0)
		return r;
	spec_init(&l.spec);
	r = claim_id(h, want, "create", &l, err);
	if (r < 0)
		return r;
	r = fill_claimed(&l, s, more, err);
	if (r < 0) {
		unlinkat(l.dir, "spec.json", 0);
		store_scrap(&l, NULL);
		return r;
	}
	event_add(h->run_fd, s->id, s->name, "create", NULL, 0);
	return ret ? info_of(h, s->id, ret, err) : 0;
}

int create_with(struct vps_host *h, const struct vps_spec *spec, const struct create_more *more, struct vps_info *ret,
		struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec s;
	int r = spec_copy(&s, spec);

	if (r < 0) {
		spec_init(&s);
		return vps_err_sys(err, r, "create");
	}
	/* these are the store's to say */
	s.addrs = strv_free(s.addrs);
	s.id_base = 0;
	return create(h, &s, more, ret, err);
}

int vps_create(struct vps_host *h, const struct vps_spec *spec, const struct progress *p,
	       struct vps_info *ret, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec s;
	int r = spec_copy(&s, spec);

	if (r < 0)
		return vps_err_sys(err, r, "create");
	str_set(&s.image_digest, NULL);
	r = create_with(h, &s, &(struct create_more){0}, ret, err);
	return r < 0 ? vps_err_wrap(err, r, "create%s%.63s", spec->name ? " " : "",
				    spec->name ? spec->name : "")
		     : 0;
}

/* ---- rebuild ------------------------------------------------------------------- */

/*
 * What a kill leaves, by the last thing done:
 *   a second pin, <id>-rebuild    the old VPS, whole; the pin goes with the next rebuild or delete
 *   the marker, naming the image  decided: whoever locks the VPS next goes on from here
 *   spec.json, disk               the same; each step may be done twice
 */
#define REBUILD_MARKER "rebuilding"

static int pin_second(struct vps_host *h, unsigned id, const char *digest, struct vps_err *err)
{
	struct img_store *images;
	char owner[ID_STR + sizeof("-rebuild")];
	int r = vps_host_images(h, &images, err);

	snprintf(owner, sizeof(owner), "%u-rebuild", id);
	if (r < 0)
		return r;
	return digest ? img_pin(images, owner, digest, err) : (img_unpin(images, owner), 0);
}

/* From the marker on. */
static int rebuild_apply(struct vps_locked *l, const char *image, const char *digest,
			 struct vps_err *err)
{
	int r = str_set(&l->spec.image, image);

	r = r ?: str_set(&l->spec.image_digest, digest);
	if (r < 0)
		return vps_err_sys(err, r, "rebuild");
	r = img_disk_destroy(l->dir, DISK_AUTO, err);
	if (r < 0)
		return r;
	unlinkat(l->dir, FIRST_BOOT_DONE, 0);
	unlinkat(l->dir, "last-error", 0);
	r = make_disk(l, &l->spec, err);
	r = r ?: store_write_spec(l->dir, &l->spec, err);
	r = r ?: store_pin(l->h, l->id, digest, err);
	if (r < 0)
		return r;
	if (unlinkat(l->dir, REBUILD_MARKER, 0) < 0)
		return vps_err_sys(err, -errno, "rebuild");
	return pin_second(l->h, l->id, NULL, err);
}

int rebuild_finish(struct vps_locked *l, struct vps_err *err)
{
	char buf[1024], *image;
	ssize_t n = fs_read_buf(l->dir, REBUILD_MARKER, buf, sizeof(buf));

	if (n == -ENOENT)
		return 0;
	image = n > 0 ? strchr(buf, ' ') : NULL;
	if (!image)
		return vps_err_set(err, VPS_ECONF, "'%s': " REBUILD_MARKER " is unreadable",
				   l->spec.name);
	*image++ = '\0';
	return rebuild_apply(l, image, buf, err);
}

static int rebuild(struct vps_locked *l, const char *image, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec s;
	autofree char *marker = NULL;
	int r = spec_copy(&s, &l->spec);

	if (r == 0 && image)
		r = str_set(&s.image, image);
	if (r < 0)
		return vps_err_sys(err, r, "rebuild");
	r = str_set(&s.image_digest, NULL); /* resolved anew */
	r = r ?: resolve_image(l->h, &s, err);
	r = r ?: spec_check_host(l->h, &s, err);
	r = r ?: pin_second(l->h, s.id, s.image_digest, err);
	if (r < 0)
		return r;
	marker = str_fmt("%s %s", s.image_digest, s.image);
	r = marker ? fs_write_atomic(l->dir, REBUILD_MARKER, marker, strlen(marker), 0600)
		   : -ENOMEM;
	if (r < 0)
		return vps_err_sys(err, r, "rebuild");
	return rebuild_apply(l, s.image, s.image_digest, err);
}

int vps_rebuild(struct vps_host *h, const char *who, const char *image, const struct progress *p,
		struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	int r = vps_lock(h, who, "rebuild", &l, err);

	if (r < 0)
		return r;
	r = need_stopped(&l, "rebuilt", err);
	r = r ?: ho_not_moving(&l, "rebuilt", err);
	r = r ?: ho_fence(&l, "rebuilt", err);
	r = r ?: rebuild(&l, image, err);
	if (r < 0)
		return vps_err_wrap(err, r, "rebuild %s", l.spec.name);
	event_add(h->run_fd, l.id, l.spec.name, "rebuild", NULL, 0);
	return 0;
}
