// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Clones and golden images: a VPS's disk for others, with an identity of their own.
 *
 * A clone is created as any VPS, but for its disk; uuid, id range, addresses, MAC and name are new by that. What is
 * inside goes at its first boot, before its init runs, by the same plan of files as of a fresh VPS
 * (guestconf, `copied`), behind either wall. Of an image such things are left out when it is made.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "runtime/events.h"
#include "runtime/migrate/migrate.h"

/* ---- what is one server's own -------------------------------------------------------------- */

static bool is_own(const char *path)
{
	static const char *const exact[] = {
		"etc/machine-id",
		"etc/hostname",
		"var/lib/dbus/machine-id",
		"var/lib/systemd/random-seed",
		"var/lib/systemd/credential.secret",
		"var/lib/urandom/random-seed",
		"var/lib/NetworkManager/secret_key",
		"var/lib/vps",		  /* user data, and that it ran */
		"var/lib/cloud/instance", /* cloud-init's, of this instance */
		"var/lib/cloud/instances",
		"var/lib/cloud/data",
		"var/lib/cloud/sem",
		"var/lib/cloud/seed/nocloud-net",
	};

	for (size_t i = 0; i < ARRAY_LEN(exact); i++)
		if (str_eq(path, exact[i]))
			return true;
	return (str_starts(path, "etc/ssh/ssh_host_") && (str_ends(path, "_key") || str_ends(path, "_key.pub"))) ||
	       (str_starts(path, "var/lib/dhcp/") && str_ends(path, ".leases"));
}

/* ---- an image of a disk ----------------------------------------------------------------------- */

static int open_upper(int dir, const struct vps_spec *s, int *ret, struct vps_err *err)
{
	autoclose int mount = -1;
	struct img_disk_spec d;
	int r;

	if (img_disk_is_guests(dir))
		return vps_err_set(err, VPS_EUNSUPPORTED, "its disk was written by a guest kernel, so the host does not "
				   "read it as files; stop it, 'vps set %s --isolation container' (which copies the files "
				   "out by the guest itself), and again", s->name);
	snap_disk(s, &d);
	r = img_disk_attach(dir, d.backend, true, &mount, err);
	if (r < 0)
		return r;
	*ret = openat(mount, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *ret < 0 ? vps_err_sys(err, -errno, "open the disk") : 0;
}

static int publish_from(struct vps_host *h, int dir, const struct vps_spec *s, const struct img_publish *p,
			const struct progress *progress, struct img_info *ret, struct vps_err *err)
{
	const struct img_opts o = {.progress = progress};
	struct img_store *images;
	autoclose int upper = -1;
	int r = vps_host_images(h, &images, err);

	r = r ?: open_upper(dir, s, &upper, err);
	return r ?: img_publish(images, upper, p, &o, ret, err);
}

int vps_publish(struct vps_host *h, const char *who, const char *snapshot, const char *ref, const struct progress *p,
		struct img_info *ret, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	auto_snap s;
	int r = vps_lock(h, who, "image publish", &l, err);

	if (r < 0)
		return r;
	snap_init(&s);
	if (snapshot)
		r = snap_open(&l, snapshot, &s, err);
	else
		r = need_stopped(&l, "published (or give --snapshot)", err);
	if (r == 0) {
		const struct vps_spec *spec = snapshot ? &s.spec : &l.spec;
		const struct img_publish how = {
			.base = spec->image_digest, .ref = ref, .comment = l.spec.name, .leave_out = is_own};

		r = publish_from(h, snapshot ? s.dir : l.dir, spec, &how, p, ret, err);
	}
	return r < 0 ? vps_err_wrap(err, r, "publish %s", l.spec.name) : 0;
}

/* ---- clones --------------------------------------------------------------------------------------- */

struct source {
	struct vps_locked *l;
	struct snap *snap; /* NULL: the VPS as it is */
	const struct progress *p;
};

static const struct vps_spec *spec_of(const struct source *src)
{
	return src->snap ? &src->snap->spec : &src->l->spec;
}

/* An address that somebody has is not for two: the clone asks the pools as its original would have. */
int clone_own(struct vps_spec *s)
{
	auto_strv ips = NULL;

	for (char **p = s->ips; p && *p; p++)
		if (!strpbrk(*p, ".:") && strv_add(&ips, *p) < 0)
			return -ENOMEM;
	strv_free(s->ips);
	s->ips = take_ptr(ips);
	s->addrs = strv_free(s->addrs);
	s->publish = strv_free(s->publish);
	return str_set(&s->mac, NULL) ?: str_set(&s->hostname, NULL);
}

int clone_keep_mac(const struct vps_host *h, struct vps_spec *spec)
{
	uint8_t m[6];
	char text[18];

	if (spec->mac || str_eq(spec->net, "none"))
		return 0;
	net_mac_derive(h->conf.tag, spec->id, m);
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	return str_set(&spec->mac, text);
}

/* The operator's profile is copied as it was given. */
static int own_seccomp(struct vps_locked *l, struct vps_spec *s)
{
	if (!str_eq(s->seccomp, SPEC_SECCOMP_FILE))
		return 0;
	free(s->seccomp);
	s->seccomp = str_fmt("%s/instances/%u/" SPEC_SECCOMP_FILE, l->h->conf.root, l->id);
	return s->seccomp ? 0 : -ENOMEM;
}

static int clone_spec(const struct source *src, const char *name, char *const *settings, struct vps_spec *s,
		      struct vps_err *err)
{
	const struct vps_spec *disk = spec_of(src);
	int r = spec_copy(s, &src->l->spec);

	if (r < 0)
		spec_init(s);
	s->id = 0;
	s->remove_on_exit = false;
	s->disk = disk->disk;
	s->inodes = disk->inodes;
	r = r ?: str_set(&s->name, name);
	r = r ?: str_set(&s->image, disk->image);
	r = r ?: str_set(&s->image_digest, disk->image_digest);
	r = r ?: str_set(&s->disk_backend, disk->disk_backend);
	r = r ?: clone_own(s);
	r = r ?: own_seccomp(src->l, s);
	if (r < 0)
		return vps_err_sys(err, r, "clone");
	for (char *const *p = settings; p && *p && r == 0; p++) {
		autofree char *option = strndup(*p, strcspn(*p, "="));
		const char *eq = strchr(*p, '=');

		r = option ? spec_set(s, option, eq ? eq + 1 : NULL, err) : vps_err_sys(err, -ENOMEM, "clone");
	}
	if (r == 0 && (!str_eq(s->disk_backend, disk->disk_backend) || s->isolation != src->l->spec.isolation ||
		       !str_eq(s->image, disk->image)))
		return vps_err_set(err, VPS_EUSAGE, "a clone has its original's image, wall and kind of disk; change "
				   "them afterwards");
	return r;
}

static int copy_disk(void *arg, struct vps_locked *l, struct vps_spec *s, struct vps_err *err)
{
	const struct source *src = arg;
	auto_done(still_done) struct still st = STILL_INIT;
	struct img_disk_spec was, d;
	int r = src->snap ? 0 : still_open(src->l, &st, err);

	snap_disk(spec_of(src), &was);
	plan_disk(s, &d);
	return r ?: img_disk_copy(src->snap ? src->snap->dir : src->l->dir, &was, l->dir, &d, still_of(&st), src->p, err);
}

static int clone_copied(const struct source *src, struct vps_spec *s, struct vps_info *ret, struct vps_err *err)
{
	const struct create_more more = {.make_disk = copy_disk, .arg = (void *)(uintptr_t)src, .copied = true};

	return create_with(src->l->h, s, &more, ret, err);
}

/* ---- linked clones: the original's disk is a layer below them all ------------------------------------ */

#define LINK_FILE "linked" /* in a snapshot: the digest of the image that was made of it */

static int linked_image(struct vps_host *h, const struct source *src, const char *pin, char digest[DIGEST_LEN],
			struct vps_err *err)
{
	const struct img_publish how = {.base = spec_of(src)->image_digest, .pin = pin, .comment = src->l->spec.name,
					.leave_out = is_own};
	auto_done(img_info_done) struct img_info made = {0};
	struct img_store *images;
	int r = vps_host_images(h, &images, err);

	if (r < 0)
		return r;
	/* Made before, and still there? */
	if (fs_read_buf(src->snap->dir, LINK_FILE, digest, DIGEST_LEN) > 0 && digest_valid(digest) &&
	    img_pin(images, pin, digest, NULL) == 0)
		return 0;
	r = publish_from(h, src->snap->dir, &src->snap->spec, &how, src->p, &made, err);
	if (r < 0)
		return r;
	memcpy(digest, made.digest, DIGEST_LEN);
	(void)fs_write_rename(src->snap->dir, LINK_FILE, digest, strlen(digest), 0600);
	return 0;
}

static int clone_linked(const struct source *from, struct vps_spec *s, struct vps_info *ret, struct vps_err *err)
{
	const struct create_more more = {.copied = true};
	struct vps_host *h = from->l->h;
	struct source src = *from;
	char digest[DIGEST_LEN], pin[ID_STR + 24], use[24];
	struct img_store *images;
	auto_snap made;
	bool temporary = !src.snap;
	int r = vps_host_images(h, &images, err);

	if (r < 0)
		return r;
	snap_init(&made);
	snprintf(pin, sizeof(pin), "%u-link-%d", src.l->id, (int)getpid());
	snprintf(use, sizeof(use), ".use.%d", (int)getpid());
	if (temporary) {
		r = snap_make(src.l, NULL, NULL, src.p, &made, err);
		src.snap = &made;
	}
	r = r ?: linked_image(h, &src, pin, digest, err);
	if (r == 0) {
		r = str_set(&s->image_digest, digest);
		r = r < 0 ? vps_err_sys(err, r, "clone") : create_with(h, s, &more, ret, err);
	}
	(void)img_unpin(images, pin);
	if (temporary) {
		close_fd(&made.dir);
		(void)snap_scrap(src.l, use, NULL);
	}
	return r;
}

int vps_clone(struct vps_host *h, const char *who, const char *name, const struct vps_clone_opts *o,
	      const struct progress *p, struct vps_info *ret, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	auto_done(spec_done) struct vps_spec s;
	auto_snap snap;
	struct source src = {.l = &l, .p = p};
	int r = spec_name_check(name, err);

	spec_init(&s);
	snap_init(&snap);
	r = r ?: vps_lock(h, who, "clone", &l, err);
	if (r < 0)
		return r;
	if (o->snapshot) {
		r = snap_open(&l, o->snapshot, &snap, err);
		src.snap = &snap;
	}
	r = r ?: clone_spec(&src, name, o->settings, &s, err);
	r = r ?: o->linked ? clone_linked(&src, &s, ret, err) : clone_copied(&src, &s, ret, err);
	return r < 0 ? vps_err_wrap(err, r, "clone %s", l.spec.name) : 0;
}
