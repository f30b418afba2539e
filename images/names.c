/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an image is called and who uses it: register, tag, remove, pin. Each is one small file, made or
 * removed under the store's lock, so that gc sees it or is not running. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "images/store.h"

#define OWNER_MAX 200

/* Everything that the manifest needs is there. The lock is held. */
static int check_whole(struct img_store *s, const char *digest, struct vps_err *err)
{
	auto_done(img_info_done) struct img_info i = { 0 };
	int r = img_info_load(s, digest, &i, err);
	if (r < 0)
		return r;
	for (size_t k = 0; k < i.n_layers; k++)
		if (!fs_exists(s->layers, img_hex(i.layers[k])))
			return vps_err_set(err, VPS_ENOIMAGE,
					   "layer %s of the image is not in the store", i.layers[k]);
	return 0;
}

static int write_ref(struct img_store *s, const char *name, const char *digest, struct vps_err *err)
{
	char file[IMG_REF_MAX + 1], text[DIGEST_LEN + 1];
	img_ref_file(name, file);
	int n = snprintf(text, sizeof(text), "%s\n", digest);
	int r = fs_write_atomic(s->refs, file, text, (size_t)n, 0600);
	return r < 0 ? vps_err_sys(err, r, "write image reference '%s'", name) : 0;
}

static int name_it(struct img_store *s, const char *digest, const char *ref, struct vps_err *err)
{
	char name[IMG_REF_MAX + 1];
	int r = ref ? img_ref_canonical(ref, name, err) : 0;
	if (r < 0)
		return r;
	autoclose int lock = img_lock(s, false, err);
	if (lock < 0)
		return lock;
	r = check_whole(s, digest, err);
	if (r < 0 || !ref)
		return r;
	return write_ref(s, name, digest, err);
}

int img_register(struct img_work *w, const char *digest, const char *ref, struct vps_err *err)
{
	int r = name_it(w->s, digest, ref, err);
	if (r == 0 && ref)
		w->loose = false;
	return r;
}

int img_tag(struct img_store *s, const char *ref, const char *new_ref, struct vps_err *err)
{
	char digest[DIGEST_LEN];
	int r = img_resolve(s, ref, digest, err);
	return r < 0 ? r : name_it(s, digest, new_ref, err);
}

/* ---- remove -------------------------------------------------------------- */

/* Is ref a digest, or the beginning of one that no reference equals? */
static bool means_digest(struct img_store *s, const char *ref)
{
	char name[IMG_REF_MAX + 1], file[IMG_REF_MAX + 1];
	if (str_starts(ref, "sha256:"))
		return true;
	if (img_ref_canonical(ref, name, NULL) < 0)
		return true;
	img_ref_file(name, file);
	return !fs_exists(s->refs, file);
}

static int refuse_pinned(struct img_store *s, const char *digest, struct vps_err *err)
{
	auto_done(img_refs_done) struct img_refs pins = { 0 };
	int r = img_pins_read(s, &pins);
	if (r < 0)
		return vps_err_sys(err, r, "read the image pins");
	auto_strbuf who = STRBUF_INIT;
	size_t n = 0;
	for (size_t i = 0; i < pins.n; i++)
		if (str_eq(pins.v[i].digest, digest) && ++n <= 8)
			sb_addf(&who, "%s%.60s", n > 1 ? ", " : "", pins.v[i].name);
	if (!n)
		return 0;
	return vps_err_set(err, VPS_ESTATE, "image is in use by %s%s (its last name stays unless "
			   "forced)", sb_ok(&who) == 0 ? who.s : "?", n > 8 ? ", …" : "");
}

/* The lock is held, exclusively: nobody pins meanwhile. */
static int remove_locked(struct img_store *s, const char *ref, bool force, struct vps_err *err)
{
	char digest[DIGEST_LEN], name[IMG_REF_MAX + 1] = "";
	int r = img_resolve(s, ref, digest, err);
	if (r < 0)
		return r;
	bool all = means_digest(s, ref);
	if (!all && (r = img_ref_canonical(ref, name, err)) < 0)
		return r;
	auto_done(img_refs_done) struct img_refs refs = { 0 };
	if ((r = img_refs_read(s, &refs)) < 0)
		return vps_err_sys(err, r, "read the image references");
	size_t left = 0;
	for (size_t i = 0; i < refs.n; i++)
		left += str_eq(refs.v[i].digest, digest) && !all && !str_eq(refs.v[i].name, name);
	if (!left && !force && (r = refuse_pinned(s, digest, err)) < 0)
		return r;
	for (size_t i = 0; i < refs.n; i++) {
		char file[IMG_REF_MAX + 1];
		if (!str_eq(refs.v[i].digest, digest) || !(all || str_eq(refs.v[i].name, name)))
			continue;
		img_ref_file(refs.v[i].name, file);
		if (unlinkat(s->refs, file, 0) < 0 && errno != ENOENT)
			return vps_err_sys(err, -errno, "remove reference '%s'", refs.v[i].name);
	}
	r = fs_sync_dir(s->refs, ".");
	return r < 0 ? vps_err_sys(err, r, "remove a reference") : 0;
}

int img_remove(struct img_store *s, const char *ref, bool force, struct vps_err *err)
{
	autoclose int lock = img_lock(s, true, err);
	return lock < 0 ? lock : remove_locked(s, ref, force, err);
}

/* ---- pins ---------------------------------------------------------------- */

static bool owner_ok(const char *o)
{
	size_t n = strlen(o);
	if (n < 1 || n > OWNER_MAX || *o == '.')
		return false;
	for (; *o; o++)
		if (!(*o >= 'a' && *o <= 'z') && !(*o >= 'A' && *o <= 'Z') &&
		    !(*o >= '0' && *o <= '9') && !strchr("._-:@+", *o))
			return false;
	return true;
}

int img_pin(struct img_store *s, const char *owner, const char *digest, struct vps_err *err)
{
	if (!owner_ok(owner))
		return vps_err_set(err, EINVAL, "not a name for a pin");
	if (!digest_valid(digest))
		return vps_err_set(err, EINVAL, "not a manifest digest");
	autoclose int lock = img_lock(s, false, err);
	if (lock < 0)
		return lock;
	int r = check_whole(s, digest, err);
	if (r < 0)
		return r;
	char text[DIGEST_LEN + 1];
	int n = snprintf(text, sizeof(text), "%s\n", digest);
	r = fs_write_atomic(s->pins, owner, text, (size_t)n, 0600);
	return r < 0 ? vps_err_sys(err, r, "pin the image for '%s'", owner) : 0;
}

int img_unpin(struct img_store *s, const char *owner)
{
	if (!owner_ok(owner))
		return -EINVAL;
	if (unlinkat(s->pins, owner, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return fs_sync_dir(s->pins, ".");
}

int img_pins(struct img_store *s, char ***ret_owners)
{
	auto_done(img_refs_done) struct img_refs pins = { 0 };
	auto_strv v = NULL;
	int r = img_pins_read(s, &pins);
	if (r < 0)
		return r;
	for (size_t i = 0; i < pins.n; i++)
		if ((r = strv_add(&v, pins.v[i].name)) < 0)
			return r;
	*ret_owners = take_ptr(v);
	return 0;
}
