// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VPS out of a backup. All of it is hostile until its end: each record is verified before it is used, what is made of them
 * belongs to an id that has no definition yet, and the definition is written, as of any create, when the end of the stream
 * has been right. A tree is unpacked as an image's layer is, by children without rights, into a disk of enforced
 * size; blocks become a guest's disk, which the host never mounts (I5).
 *
 * What the definition would let the VPS have of this host (its directories, devices, more rights) is not a stranger's to
 * say: it takes the operator's word. So does memory without this host's seal: CRIU, which puts processes back as root, reads it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/inside.h"
#include "runtime/migrate/backup.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/migrate/suspend.h"
#include "runtime/tar.h"

struct restoring {
	struct vps_host *h;
	struct backup_in in;
	const struct vps_restore_opts *o;
	const struct progress *p;
	uint64_t done;
	bool ended;
};

static bool stop_asked(void *arg)
{
	return progress_tell(arg, 0, "restore", 0, 0);
}

/* ---- trust ------------------------------------------------------------------------------------- */

static void name_reach(struct strbuf *sb, bool has, const char *what)
{
	if (has)
		sb_addf(sb, "%s%s", sb->len ? ", " : "", what);
}

/* What reaches out of the VPS, in words; "" for nothing. */
static void find_reach(const struct vps_spec *s, struct strbuf *sb)
{
	name_reach(sb, s->n_mounts > 0, "directories of the host (mount)");
	name_reach(sb, strv_len(s->devices) > 0, "devices of the host (device)");
	name_reach(sb, strv_len(s->cap_add) > 0, "more capabilities (cap-add)");
	name_reach(sb, strv_len(s->features) > 0, "features that lift restrictions (feature)");
	name_reach(sb, s->seccomp, "a system call profile (seccomp)");
	name_reach(sb, s->kernel, "a kernel file of the host (kernel)");
	name_reach(sb, s->net && !str_eq(s->net, "routed") && !str_eq(s->net, "none"),
		   "a bridge or interface of the host (net)");
	name_reach(sb, strv_len(s->publish) > 0, "ports of the host (publish)");
	name_reach(sb, s->n_io_max > 0, "block devices of the host (io-max)");
}

static int check_trust(const struct restoring *x, const struct vps_spec *s, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;

	find_reach(s, &sb);
	if (x->o->trust || !sb.len)
		return 0;
	return vps_err_set(err, VPS_EUSAGE, "the backup's definition asks for %s; say --trust if you know where the backup "
			   "comes from, or clear them (--mount '' …)", sb_str(&sb));
}

static bool wants_memory(const struct restoring *x)
{
	return x->in.meta.memory && !x->o->no_memory;
}

/* ---- the definition ---------------------------------------------------------------------------------- */

static int apply_settings(struct restoring *x, struct vps_spec *s, struct vps_err *err)
{
	int r = 0;

	for (char *const *p = x->o->settings; p && *p && r == 0; p++) {
		autofree char *option = strndup(*p, strcspn(*p, "="));
		const char *eq = strchr(*p, '=');
		const struct spec_option *so = option ? spec_option_find(option) : NULL;

		if (so && !so->live && wants_memory(x))
			return vps_err_set(err, VPS_EUSAGE, "%s cannot change with its memory, which knows the old one; "
					   "--no-memory leaves that out", so->name);
		r = option ? spec_set(s, option, eq ? eq + 1 : NULL, err) : vps_err_sys(err, -ENOMEM, "restore");
	}
	return r;
}

/* The kind of disk it had, where this host has it; else what the host would choose. */
static int choose_backend(struct restoring *x, struct vps_spec *s, struct vps_err *err)
{
	struct img_disk_spec d;
	enum img_backend b;
	int r = 0;

	if (s->isolation == ISOLATION_VM)
		return 0;
	plan_disk(s, &d);
	d.project = 1; /* any: of which VPS is not known yet */
	if (img_disk_check(x->h->instances_fd, &d, &b, NULL) < 0)
		r = str_set(&s->disk_backend, x->h->conf.disk_backend);
	return r < 0 ? vps_err_sys(err, r, "restore") : 0;
}

/* The profile as a file, for create to copy. */
static int use_profile(struct restoring *x, struct vps_spec *s, char **ret_path, struct vps_err *err)
{
	autofree char *path = NULL;
	int fd, r;

	if (!str_eq(s->seccomp, SPEC_SECCOMP_FILE))
		return 0;
	path = str_fmt("%s/seccomp.XXXXXX", x->h->conf.run);
	fd = path ? mkostemp(path, O_CLOEXEC) : -1;
	if (fd < 0)
		return vps_err_sys(err, -errno, "seccomp profile");
	r = fs_write_all(fd, x->in.seccomp, x->in.seccomp_len);
	close(fd);
	r = r ?: str_set(&s->seccomp, path);
	if (r < 0)
		unlink(path);
	else
		*ret_path = take_ptr(path);
	return r < 0 ? vps_err_sys(err, r, "seccomp profile") : 0;
}

static int restored_spec(struct restoring *x, struct vps_spec *s, struct vps_err *err)
{
	int r = spec_copy(s, &x->in.spec);

	if (r < 0)
		spec_init(s);
	r = r ?: x->o->name ? str_set(&s->name, x->o->name) : 0;
	r = r ?: x->o->new_identity ? clone_own(s) : 0;
	if (r < 0)
		return vps_err_sys(err, r, "restore");
	if (wants_memory(x) && x->o->new_identity)
		return vps_err_set(err, VPS_EUSAGE, "its memory knows who it was: --new-identity goes with --no-memory");
	s->id = 0;
	s->remove_on_exit = false;
	r = apply_settings(x, s, err);
	if (r == 0 && s->isolation != x->in.spec.isolation)
		return vps_err_set(err, VPS_EUSAGE, "a restored VPS has the wall it had; change it afterwards");
	/* Snapshots are kept at the host's expense. */
	if (r == 0 && !x->o->trust && str_eq(s->snapshot_schedule, x->in.spec.snapshot_schedule))
		r = str_set(&s->snapshot_schedule, NULL) < 0 ? vps_err_sys(err, -ENOMEM, "restore") : 0;
	r = r ?: check_trust(x, s, err);
	return r ?: choose_backend(x, s, err);
}

/* ---- pieces ---------------------------------------------------------------------------------------------- */

/* Of memory no more than could ever be brought back here: it lies on the host's own disk before its seal is seen. */
static bool too_much(const struct restoring *x)
{
	struct sysinfo si;

	return x->in.part == PART_MEMORY && sysinfo(&si) == 0 &&
	       x->in.at / si.mem_unit > (uint64_t)si.totalram + si.totalswap;
}

static int next_piece(struct restoring *x, struct piece *p, struct vps_err *err)
{
	int r = backup_in_piece(&x->in, p, err);

	if (r > 0 && too_much(x))
		return vps_err_set(err, VPS_ERESOURCE, "the backup has more memory than this host (--no-memory leaves it)");

	if (r > 0 && !p->data) {
		int e = backup_in_resolve(&x->in, p, err);
		if (e < 0)
			return e;
	}
	if (r > 0) {
		x->done += p->len;
		if (progress_tell(x->p, 0, "restore", x->done, 0))
			return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	}
	return r;
}

static int skip_part(struct restoring *x, struct vps_err *err)
{
	struct piece p;
	int r;

	do
		r = backup_in_piece(&x->in, &p, err);
	while (r > 0);
	return r;
}

static int feed_part(struct restoring *x, int (*fn)(void *arg, int fd, struct feeder_report *r), void *arg,
		     struct feeder_report *ret, struct vps_err *err)
{
	struct feeder f = FEEDER_INIT;
	struct vps_err why = {0};
	struct piece p;
	int r = feeder_start(fn, arg, &f, err), w = 0;

	if (r < 0)
		return r;
	while ((r = next_piece(x, &p, &why)) > 0 && (w = feeder_write(&f, p.data, p.len)) == 0)
		;
	if (r < 0) {
		/* It finds its input cut off, and clears up after itself. */
		(void)feeder_end(&f, NULL, NULL);
		return vps_err_set(err, why.code, "%s", why.msg);
	}
	r = feeder_end(&f, ret, err);
	/* It had enough, though there was more. */
	return r == 0 && w < 0 ? vps_err_set(err, VPS_EBADIMAGE, "there is more in the backup than belongs there") : r;
}

/* ---- the image ------------------------------------------------------------------------------------------------ */

static int import_image(void *arg, int fd, struct feeder_report *rep)
{
	struct restoring *x = arg;
	auto_done(img_info_done) struct img_info info = {0};
	struct img_store *images;
	char ref[40];
	int r = vps_host_images(x->h, &images, &rep->err);

	if (r < 0)
		return r;
	if (dup2(fd, STDIN_FILENO) < 0)
		return vps_err_sys(&rep->err, -errno, "dup");
	snprintf(ref, sizeof(ref), REF_PREFIX "%d", (int)getppid());
	r = img_import(images, "-", IMG_OCI_TAR, ref, NULL, &info, &rep->err);
	if (r == 0)
		memcpy(rep->digest, info.digest, DIGEST_LEN);
	return r;
}

static bool has_image(struct vps_host *h, const char *digest)
{
	auto_done(img_info_done) struct img_info info = {0};
	struct img_store *images;

	return vps_host_images(h, &images, NULL) == 0 && img_inspect(images, digest, &info, NULL) == 0;
}

/* Up to the disk's part. What the store has by its digest is not taken in again. */
static int restore_image(struct restoring *x, struct vps_spec *s, struct vps_err *err)
{
	struct feeder_report rep = {0};
	bool there = has_image(x->h, s->image_digest);
	int r = backup_in_part(&x->in, err);

	if (r > 0 && x->in.part == PART_IMAGE) {
		r = there ? skip_part(x, err) : feed_part(x, import_image, x, &rep, err);
		if (r == 0 && !there)
			r = digest_valid(rep.digest) ? str_set(&s->image_digest, rep.digest) : -EPROTO;
		if (r < 0)
			return vps_err_wrap(err, r, "image");
		there = true;
		r = backup_in_part(&x->in, err);
	}
	if (r < 0)
		return r;
	if (!there)
		return vps_err_set(err, VPS_ENOIMAGE, "the backup comes without its image (%.19s), and it is not in the "
				   "store; pull or import it first", s->image_digest);
	return 0;
}

/* ---- the disk ---------------------------------------------------------------------------------------------------- */

struct tree_job {
	int upper;
	const struct stopped_root *root;
};

static int unpack_tree(void *arg, int fd, struct feeder_report *rep)
{
	const struct tree_job *j = arg;

	return img_upper_unpack(j->upper, fd, j->root->layers, j->root->n_layers, NULL, &rep->err);
}

static int restore_tree(struct restoring *x, struct vps_locked *l, struct vps_spec *s, struct vps_err *err)
{
	auto_done(root_done) struct stopped_root root = STOPPED_ROOT_INIT;
	struct vps_locked as = {.h = l->h, .id = l->id, .lock = -1, .dir = l->dir, .spec = *s}; /* for its image */
	struct tree_job job = {.root = &root};
	autoclose int upper = -1;
	struct img_disk_spec d;
	enum img_backend b;
	int r;

	plan_disk(s, &d);
	r = img_disk_create(l->dir, &d, &b, err);
	r = r ?: str_set(&s->disk_backend, img_backend_name(b));
	r = r ?: root_open_image(&as, &root, err);
	r = r ?: img_disk_attach(l->dir, b, false, &root.disk, err);
	if (r < 0)
		return vps_err_sys(err, r, "restore the disk");
	upper = openat(root.disk, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (upper < 0)
		return vps_err_sys(err, -errno, "open the disk");
	job.upper = upper;
	r = feed_part(x, unpack_tree, &job, NULL, err);
	/* The disk's file system, then that of the disk's image file. */
	if (r == 0 && (syncfs(upper) < 0 || syncfs(l->dir) < 0))
		r = vps_err_sys(err, -errno, "write the disk");
	return r;
}

static int write_piece(int fd, const struct piece *p)
{
	for (size_t i = 0; i < p->len; i += 4096) {
		size_t len = p->len - i < 4096 ? p->len - i : 4096;
		const uint8_t *at = p->data + i;

		if (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0)
			continue; /* a hole of a fresh file */
		for (size_t done = 0; done < len;) {
			ssize_t n = pwrite(fd, at + done, len - done, (off_t)(p->offset + i + done));

			if (n < 0 && errno != EINTR)
				return -errno;
			done += n > 0 ? (size_t)n : 0;
		}
	}
	return 0;
}

static int restore_blocks(struct restoring *x, struct vps_locked *l, struct vps_spec *s, struct vps_err *err)
{
	autoclose int fd = -1;
	struct piece p;
	int r;

	if (s->isolation != ISOLATION_VM)
		return vps_err_set(err, VPS_EBADIMAGE, "the backup has a guest's disk for what is no machine");
	if (s->disk == SPEC_UNSET || s->disk == SPEC_MAX || x->in.size > s->disk || x->in.size == 0)
		return vps_err_set(err, VPS_EBADIMAGE, "the backup's disk has %llu bytes, more than its definition allows",
				   (unsigned long long)x->in.size);
	r = img_disk_blocks_create(l->dir, x->in.size, &fd, err);
	while (r >= 0 && (r = next_piece(x, &p, err)) > 0) {
		r = write_piece(fd, &p);
		if (r < 0)
			return vps_err_sys(err, r, "write the disk");
	}
	if (r == 0 && (fsync(fd) < 0 || syncfs(l->dir) < 0))
		r = vps_err_sys(err, -errno, "write the disk");
	return r;
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static int unpack_memory(void *arg, int fd, struct feeder_report *rep)
{
	const struct tar_unpack_opts o = {.host = true, .uid = -1, .gid = -1};
	int left_out = tar_unpack(*(const int *)arg, &o, fd, &rep->err);

	return left_out < 0 ? left_out : 0; /* the manifest tells what is to be there */
}

/* As if it had been suspended here. */
static int restore_memory(struct restoring *x, struct vps_locked *l, const struct vps_spec *s, struct vps_err *err)
{
	autoclose int dir = -1;
	int r = mkdirat(l->dir, SUSPENDED, 0700) < 0 ? -errno : 0;

	dir = r < 0 ? r : fs_open_dir(l->dir, SUSPENDED);
	if (dir < 0)
		return vps_err_sys(err, dir, "make " SUSPENDED);
	r = feed_part(x, unpack_memory, &dir, NULL, err);
	if (r == 0 && !x->o->trust) {
		r = checkpoint_verify(l->h, &x->in.spec, dir, NULL, x->p, NULL, err);
		if (r < 0)
			return vps_err_wrap(err, r, "its memory (--trust takes in what another host wrote, --no-memory leaves it)");
	}
	return r ?: checkpoint_adopt(l->h, s, dir, NULL, x->p, err);
}

/* create's: disk and memory, and then the stream's end, before anything is decided. */
static int restore_disk(void *arg, struct vps_locked *l, struct vps_spec *s, struct vps_err *err)
{
	struct restoring *x = arg;
	int r = x->in.part == PART_BLOCKS ? restore_blocks(x, l, s, err) : restore_tree(x, l, s, err);

	if (r < 0)
		return r;
	r = backup_in_part(&x->in, err);
	if (r > 0 && x->in.part == PART_MEMORY) {
		r = wants_memory(x) ? restore_memory(x, l, s, err) : skip_part(x, err);
		r = r ?: backup_in_part(&x->in, err);
	}
	return r > 0 ? vps_err_set(err, VPS_EBADIMAGE, "the backup has a part too many") : r;
}

static int restore(struct restoring *x, struct vps_info *ret, struct vps_err *err)
{
	struct create_more more = {.make_disk = restore_disk,
				   .arg = x,
				   .booted = x->in.meta.booted && !x->o->new_identity,
				   .copied = x->o->new_identity,
				   .uuid = x->o->new_identity ? NULL : x->in.spec.uuid};
	auto_done(spec_done) struct vps_spec s;
	autofree char *profile = NULL;
	int r;

	spec_init(&s);
	r = restored_spec(x, &s, err);
	r = r ?: restore_image(x, &s, err);
	r = r ?: use_profile(x, &s, &profile, err);
	r = r ?: create_with(x->h, &s, &more, ret, err);
	if (profile)
		unlink(profile);
	return r;
}

int vps_restore(struct vps_host *h, const struct vps_restore_opts *o, const struct progress *p, struct vps_info *ret,
		struct vps_err *err)
{
	const struct stream_opts so = {.stop = stop_asked, .arg = (void *)(uintptr_t)p};
	struct restoring x = {.h = h, .o = o, .p = p};
	int r = o->name ? spec_name_check(o->name, err) : 0;

	backup_in_init(&x.in);
	restore_clean(h);
	r = r ?: backup_in_open(o->fd, &so, &x.in, err);
	r = r ?: backup_in_bases(&x.in, o->base_fds, o->n_bases, &so, err);
	r = r ?: restore(&x, ret, err);
	restore_clean(h);
	backup_in_done(&x.in);
	return r < 0 ? vps_err_wrap(err, r, "restore") : 0;
}
