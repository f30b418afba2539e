/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Import: what kind of thing is it, and a bare root file system made an image of one layer. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/json.h"
#include "images/store.h"
#include "images/unpack.h"

/* ---- documents that we write ---------------------------------------------- */

/* RFC 3339. */
static void fmt_time(int64_t t, char *buf, size_t size)
{
	struct tm tm;
	time_t tt = (time_t)t;
	if (t < 0 || t > 253402300799 || !gmtime_r(&tt, &tm))
		tm = (struct tm){ .tm_year = 70, .tm_mday = 1 };
	strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void put_desc(struct json_out *o, const char *key, const struct img_desc *d)
{
	jo_object(o, key);
	jo_str(o, "mediaType", d->media_type);
	jo_str(o, "digest", d->digest);
	jo_u64(o, "size", d->size);
	jo_end_object(o);
}

int img_manifest_put(struct img_work *w, const struct img_desc *config,
		     const struct img_desc *layers, size_t n, char *digest, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	jo_object(&o, NULL);
	jo_int(&o, "schemaVersion", 2);
	jo_str(&o, "mediaType", IMG_MT_MANIFEST);
	put_desc(&o, "config", config);
	jo_array(&o, "layers");
	for (size_t i = 0; i < n; i++)
		put_desc(&o, NULL, &layers[i]);
	jo_end_array(&o);
	jo_end_object(&o);
	if (sb_ok(&sb) < 0)
		return vps_err_sys(err, -ENOMEM, "manifest");
	return img_blob_put(w, sb.s, sb.len, digest, err);
}

static void put_process(struct json_out *o, const struct img_meta *m)
{
	jo_object(o, "config");
	if (m && m->user)
		jo_str(o, "User", m->user);
	if (m && m->env)
		jo_strv(o, "Env", m->env);
	if (m && m->entrypoint)
		jo_strv(o, "Entrypoint", m->entrypoint);
	if (m && m->cmd)
		jo_strv(o, "Cmd", m->cmd);
	if (m && m->workdir)
		jo_str(o, "WorkingDir", m->workdir);
	if (m && m->stop_signal)
		jo_str(o, "StopSignal", m->stop_signal);
	if (m && m->labels) {
		jo_object(o, "Labels");
		for (char *const *l = m->labels; *l; l++) {
			size_t n = strcspn(*l, "=");
			autofree char *key = strndup(*l, n);
			jo_str(o, key ? key : "", (*l)[n] ? *l + n + 1 : "");
		}
		jo_end_object(o);
	}
	jo_end_object(o);
}

/* The same root file system always gives the same image: the time is that of its newest file. */
static int put_rootfs_config(struct img_work *w, const struct img_layer *l,
			     const struct img_opts *o, struct img_desc *ret, struct vps_err *err)
{
	char when[40];
	auto_strbuf sb = STRBUF_INIT;
	struct json_out j = JSON_OUT(&sb, false);
	fmt_time(l->newest, when, sizeof(when));
	jo_object(&j, NULL);
	jo_str(&j, "created", when);
	if (o->meta && o->meta->author)
		jo_str(&j, "author", o->meta->author);
	jo_str(&j, "architecture", o->arch);
	jo_str(&j, "os", "linux");
	put_process(&j, o->meta);
	jo_object(&j, "rootfs");
	jo_str(&j, "type", "layers");
	jo_array(&j, "diff_ids");
	jo_str(&j, NULL, l->diff_id);
	jo_end_array(&j);
	jo_end_object(&j);
	jo_array(&j, "history");
	jo_object(&j, NULL);
	jo_str(&j, "created", when);
	jo_str(&j, "created_by", "vps image import");
	jo_end_object(&j);
	jo_end_array(&j);
	jo_end_object(&j);
	if (sb_ok(&sb) < 0)
		return vps_err_sys(err, -ENOMEM, "image config");
	*ret = (struct img_desc){ .size = sb.len, .media = IMG_MEDIA_CONFIG,
				  .media_type = IMG_MT_CONFIG };
	return img_blob_put(w, sb.s, sb.len, ret->digest, err);
}

int img_arch_check(const struct img_info *i, const struct img_opts *o, struct vps_err *err)
{
	if (!i->arch || str_eq(i->arch, o->arch))
		return 0;
	/* what a 64-bit kernel also runs */
	if ((str_eq(o->arch, "amd64") && str_eq(i->arch, "386")) ||
	    (str_eq(o->arch, "arm64") && str_eq(i->arch, "arm")))
		return 0;
	autofree char *esc = str_escape(i->arch);
	return vps_err_set(err, VPS_EBADIMAGE, "the image is for %.60s, not for %s",
			   esc ? esc : "?", o->arch);
}

/* ---- a root file system ---------------------------------------------------- */

static int finish_rootfs(struct img_work *w, const struct img_layer *l, const char *ref,
			 const struct img_opts *o, char *digest, struct vps_err *err)
{
	struct img_desc config, layer = { .size = l->tar_size,
					  .media = IMG_MEDIA_LAYER,
					  .media_type = IMG_MT_LAYER };
	if (!ref)
		return vps_err_set(err, VPS_EUSAGE,
				   "a root file system does not name itself: give the image a name");
	if (!l->entries)
		return vps_err_set(err, VPS_EBADIMAGE, "the archive is empty");
	memcpy(layer.digest, l->diff_id, DIGEST_LEN);
	int r = put_rootfs_config(w, l, o, &config, err);
	if (r < 0 || (r = img_manifest_put(w, &config, &layer, 1, digest, err)) < 0)
		return r;
	return img_register(w, digest, ref, err);
}

static uint64_t size_left(int fd)
{
	struct stat st;
	off_t at = lseek(fd, 0, SEEK_CUR);
	if (at < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < at)
		return 0;
	return (uint64_t)(st.st_size - at);
}

static int import_fd(struct img_store *s, int fd, enum img_format fmt, const char *ref,
		     const struct img_opts *o, char *digest, struct vps_err *err)
{
	auto_work struct img_work w = IMG_WORK_INIT;
	auto_done(img_layer_done) struct img_layer l = { 0 };
	int r = img_work_begin(s, &w, err);
	if (r < 0)
		return r;
	struct img_layer_src src = {
		.fd = fd,
		.size = size_left(fd),
		.look = fmt != IMG_ROOTFS,
		.keep = o->keep_blobs,
	};
	if (fmt == IMG_DOCKER_ARCHIVE || fmt == IMG_OCI_TAR)
		src.parts = true;
	if ((r = img_layer_from_fd(&w, &src, o, &l, err)) < 0)
		return r;
	if (!l.members)
		return finish_rootfs(&w, &l, ref, o, digest, err);

	autoclose int dir = fs_open_dir(w.fd, l.members_dir);
	if (dir < 0)
		return vps_err_sys(err, dir, "open the unpacked archive");
	struct img_parts p = { .w = &w, .dir = dir, .ours = true, .o = o, .ref = ref };
	bool oci = fs_exists(dir, "index.json"), docker = fs_exists(dir, "manifest.json");
	if (oci && fmt != IMG_DOCKER_ARCHIVE)
		return img_import_oci(&p, digest, err);
	if (docker && fmt != IMG_OCI_TAR)
		return img_import_docker(&p, digest, err);
	return vps_err_set(err, VPS_EBADIMAGE, "neither index.json (OCI layout) nor manifest.json "
			   "(docker archive) in it; if it is a root file system, say so by format");
}

static int import_dir(struct img_store *s, int dir, const char *ref, const struct img_opts *o,
		      char *digest, struct vps_err *err)
{
	auto_work struct img_work w = IMG_WORK_INIT;
	int r = img_work_begin(s, &w, err);
	if (r < 0)
		return r;
	if (!fs_exists(dir, "index.json"))
		return vps_err_set(err, VPS_EBADIMAGE, "a folder without index.json is no OCI layout; "
				   "of a root file system make a tar first");
	struct img_parts p = { .w = &w, .dir = dir, .o = o, .ref = ref };
	return img_import_oci(&p, digest, err);
}

int img_import_rootfs_fd(struct img_store *s, int fd, const char *ref, const struct img_opts *o,
			 struct img_info *ret, struct vps_err *err)
{
	struct img_opts opts = img_opts_fill(o);
	char digest[DIGEST_LEN];
	int r = import_fd(s, fd, IMG_ROOTFS, ref, &opts, digest, err);
	return r < 0 || !ret ? r : img_inspect(s, digest, ret, err);
}

int img_import(struct img_store *s, const char *path, enum img_format fmt, const char *ref,
	       const struct img_opts *o, struct img_info *ret, struct vps_err *err)
{
	struct img_opts opts = img_opts_fill(o);
	char digest[DIGEST_LEN];
	struct stat st;
	int r = ref ? img_ref_check(ref, err) : 0;
	if (r < 0)
		return r;
	bool std = str_eq(path, "-");
	/* not O_NONBLOCK: a fifo made by the operator is a fine source */
	autoclose int own = std ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int fd = std ? 0 : own;
	if (fd < 0)
		return vps_err_sys(err, -errno, "open '%s'", path);
	if (fstat(fd, &st) < 0)
		return vps_err_sys(err, -errno, "open '%s'", path);
	if (std && isatty(fd))
		return vps_err_set(err, VPS_EUSAGE, "standard input is a terminal, not an archive");
	bool dir = S_ISDIR(st.st_mode);
	if (dir != (fmt == IMG_OCI_DIR) && fmt != IMG_AUTO)
		return vps_err_set(err, VPS_EUSAGE, "'%s' is %sa folder", path, dir ? "" : "not ");
	r = dir ? import_dir(s, fd, ref, &opts, digest, err) :
		  import_fd(s, fd, fmt, ref, &opts, digest, err);
	if (r < 0)
		return vps_err_wrap(err, r, "import '%s'", path);
	return ret ? img_inspect(s, digest, ret, err) : 0;
}
