/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Export: an OCI layout or a docker archive in a tar. Layers whose blob was kept go out as they came in;
 * others are made again from their folder, under new diff ids, and then config and manifest are
 * written anew.
 */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/json.h"
#include "images/export.h"

#define CHUNK (256u << 10)

struct part {
	struct img_desc desc;
	char diff_id[DIGEST_LEN];
	struct img_ingest *made; /* NULL: a blob of the store */
};

struct export {
	struct img_store *s;
	const struct img_opts *o;
	struct img_work *w;
	struct img_info info;
	struct img_manifest m;
	struct part *layers;
	bool changed; /* some layer was made anew */
	char *config, *manifest;
	size_t config_len, manifest_len;
	struct img_desc config_desc, manifest_desc;
	char name[IMG_REF_MAX + 1]; /* "" when none */
	struct archive *a;
	int fd;
	struct vps_err *err;
	uint64_t done, total;
};

static void export_done(struct export *x)
{
	for (size_t i = 0; x->layers && i < x->m.n_layers; i++)
		img_ingest_free(x->layers[i].made);
	free(x->layers);
	img_manifest_done(&x->m);
	img_info_done(&x->info);
	free(x->config);
	free(x->manifest);
	if (x->a)
		archive_write_free(x->a);
}

/* ---- the parts ---------------------------------------------------------------- */

static int make_layer(struct export *x, size_t k)
{
	struct part *p = &x->layers[k];
	p->desc = x->m.layers[k];
	memcpy(p->diff_id, x->info.diff_ids[k], DIGEST_LEN);
	if (k < x->o->without)
		return 0;
	int r = img_blob_has(x->w, p->desc.digest, x->err);
	if (r != 0)
		return r < 0 ? r : 0;
	autoclose int fs = img_layer_open(x->s, x->info.layers[k], x->err);
	if (fs < 0)
		return fs;
	if ((r = img_ingest_begin(x->w, NULL, UINT64_MAX, 0, &p->made, x->err)) < 0)
		return r;
	/* its fd is for reading, too: the walk needs more than O_PATH */
	autoclose int dir = fs_open_dir(fs, ".");
	if (dir < 0)
		return vps_err_sys(x->err, dir, "open a layer");
	const struct layer_out out = { .write = img_layer_to_ingest, .arg = p->made };
	if ((r = img_layer_tar(dir, &out, x->o, x->err)) < 0 ||
	    (r = img_ingest_end(p->made, p->desc.digest, x->err)) < 0)
		return r;
	p->desc.size = img_ingest_bytes(p->made);
	snprintf(p->desc.media_type, sizeof(p->desc.media_type), "%s", IMG_MT_LAYER);
	x->changed |= !str_eq(p->diff_id, p->desc.digest) ||
		      !str_eq(x->m.layers[k].digest, p->desc.digest);
	memcpy(p->diff_id, p->desc.digest, DIGEST_LEN);
	return 0;
}

/* The config with the new diff ids; every other member as it was. */
static int remake_config(struct export *x, const char *text, size_t len)
{
	auto_json j = NULL;
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	int r = img_json_parse("image config", text, len, &j, x->err);
	if (r < 0)
		return r;
	jo_object(&o, NULL);
	for (size_t i = 0; i < json_len(j); i++)
		if (!str_eq(json_key(j, i), "rootfs"))
			jo_json(&o, json_key(j, i), json_at(j, i));
	jo_object(&o, "rootfs");
	jo_str(&o, "type", "layers");
	jo_array(&o, "diff_ids");
	for (size_t k = 0; k < x->m.n_layers; k++)
		jo_str(&o, NULL, x->layers[k].diff_id);
	jo_end_array(&o);
	jo_end_object(&o);
	jo_end_object(&o);
	x->config_len = sb.len;
	x->config = sb_take(&sb);
	return x->config ? 0 : vps_err_sys(x->err, -ENOMEM, "export");
}

static void put_desc(struct json_out *o, const char *key, const struct img_desc *d)
{
	jo_object(o, key);
	jo_str(o, "mediaType", d->media_type);
	jo_str(o, "digest", d->digest);
	jo_u64(o, "size", d->size);
}

static int remake_manifest(struct export *x)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	jo_object(&o, NULL);
	jo_int(&o, "schemaVersion", 2);
	jo_str(&o, "mediaType", IMG_MT_MANIFEST);
	put_desc(&o, "config", &x->config_desc);
	jo_end_object(&o);
	jo_array(&o, "layers");
	for (size_t k = 0; k < x->m.n_layers; k++) {
		put_desc(&o, NULL, &x->layers[k].desc);
		jo_end_object(&o);
	}
	jo_end_array(&o);
	jo_end_object(&o);
	x->manifest_len = sb.len;
	x->manifest = sb_take(&sb);
	return x->manifest ? 0 : vps_err_sys(x->err, -ENOMEM, "export");
}

/* Docker's own manifest cannot be mixed with OCI layers: when anything changes, all is OCI. */
static int make_documents(struct export *x, const char *manifest, size_t len)
{
	autofree char *text = NULL;
	size_t n;
	int r = img_blob_read(x->s, x->m.config.digest, &text, &n, x->err);
	if (r < 0)
		return r;
	x->config_desc = x->m.config;
	enum img_media kind;
	bool docker = img_doc_kind(manifest, len, IMG_MT_D_MANIFEST, &kind, NULL) == 0;
	x->manifest_desc = (struct img_desc){ .media = IMG_MEDIA_MANIFEST };
	snprintf(x->manifest_desc.media_type, sizeof(x->manifest_desc.media_type), "%s",
		 docker && !x->changed && strstr(manifest, IMG_MT_D_MANIFEST) ? IMG_MT_D_MANIFEST :
										IMG_MT_MANIFEST);
	if (!x->changed) {
		x->config = take_ptr(text);
		x->config_len = n;
		x->manifest = malloc(len);
		if (!x->manifest)
			return vps_err_sys(x->err, -ENOMEM, "export");
		memcpy(x->manifest, manifest, len);
		x->manifest_len = len;
	} else {
		if ((r = remake_config(x, text, n)) < 0)
			return r;
		digest_of(x->config, x->config_len, x->config_desc.digest);
		x->config_desc.size = x->config_len;
		snprintf(x->config_desc.media_type, sizeof(x->config_desc.media_type), "%s",
			 IMG_MT_CONFIG);
		if ((r = remake_manifest(x)) < 0)
			return r;
	}
	digest_of(x->manifest, x->manifest_len, x->manifest_desc.digest);
	x->manifest_desc.size = x->manifest_len;
	return 0;
}

/* ---- the outer archive ---------------------------------------------------------- */

static la_ssize_t on_write(struct archive *a, void *arg, const void *p, size_t n)
{
	struct export *x = arg;
	int r = fs_write_all(x->fd, p, n);
	if (r < 0) {
		archive_set_error(a, -r, "%s", strerror(-r));
		return -1;
	}
	return (la_ssize_t)n;
}

static int fail(struct export *x)
{
	const char *msg = archive_error_string(x->a);
	int e = archive_errno(x->a);
	return vps_err_set(x->err, e > 0 ? e : EIO, "write the archive: %.200s", msg ? msg : "?");
}

static int put_head(struct export *x, const char *name, uint64_t size, bool dir)
{
	struct archive_entry *e = archive_entry_new();
	if (!e)
		return vps_err_sys(x->err, -ENOMEM, "export");
	archive_entry_copy_pathname(e, name);
	archive_entry_set_filetype(e, dir ? AE_IFDIR : AE_IFREG);
	archive_entry_set_perm(e, dir ? 0755 : 0644);
	archive_entry_set_size(e, (la_int64_t)size);
	archive_entry_set_mtime(e, 0, 0);
	int r = archive_write_header(x->a, e);
	archive_entry_free(e);
	return r == ARCHIVE_OK ? 0 : fail(x);
}

static int put_text(struct export *x, const char *name, const char *text, size_t len)
{
	int r = put_head(x, name, len, false);
	if (r == 0 && archive_write_data(x->a, text, len) != (la_ssize_t)len)
		r = fail(x);
	return r;
}

static int put_layer(struct export *x, const char *name, const struct part *p)
{
	autoclose int fd = p->made ? img_ingest_open(p->made, x->err) :
				     img_blob_open(x->s, p->desc.digest);
	autofree char *buf = malloc(CHUNK);
	if (fd < 0 || !buf)
		return vps_err_sys(x->err, fd < 0 ? fd : -ENOMEM, "open a layer");
	int r = put_head(x, name, p->desc.size, false);
	uint64_t left = p->desc.size;
	while (r == 0 && left) {
		size_t want = left < CHUNK ? (size_t)left : CHUNK;
		ssize_t n = fs_read_full(fd, buf, want);
		if (n < 0 || (size_t)n < want)
			return vps_err_set(x->err, EUCLEAN, "a layer's blob is damaged on disk");
		if (archive_write_data(x->a, buf, want) != (la_ssize_t)want)
			return fail(x);
		left -= want;
		x->done += want;
		if (progress_tell(x->o->progress, 0, "export", x->done, x->total))
			return vps_err_set(x->err, VPS_EINTERRUPTED, "interrupted");
	}
	return r;
}

static bool left_out(const struct export *x, size_t k)
{
	if (k < x->o->without)
		return true;
	for (size_t i = 0; i < k; i++)
		if (str_eq(x->layers[i].desc.digest, x->layers[k].desc.digest))
			return true;
	return false;
}

static int write_oci(struct export *x)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	char path[DIGEST_LEN + 16];
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	jo_object(&o, NULL);
	jo_int(&o, "schemaVersion", 2);
	jo_str(&o, "mediaType", IMG_MT_INDEX);
	jo_array(&o, "manifests");
	put_desc(&o, NULL, &x->manifest_desc);
	if (x->name[0]) {
		const char *tag = strrchr(x->name, ':');
		jo_object(&o, "annotations");
		jo_str(&o, "io.containerd.image.name", x->name);
		jo_str(&o, "org.opencontainers.image.ref.name", tag ? tag + 1 : x->name);
		jo_end_object(&o);
	}
	jo_end_object(&o);
	jo_end_array(&o);
	jo_end_object(&o);
	int r = sb_ok(&sb);
	if (r == 0)
		r = put_text(x, "oci-layout", layout, sizeof(layout) - 1);
	if (r == 0)
		r = put_text(x, "index.json", sb.s, sb.len);
	if (r == 0)
		r = put_head(x, "blobs/", 0, true);
	if (r == 0)
		r = put_head(x, "blobs/sha256/", 0, true);
	snprintf(path, sizeof(path), "blobs/sha256/%s", img_hex(x->manifest_desc.digest));
	if (r == 0)
		r = put_text(x, path, x->manifest, x->manifest_len);
	snprintf(path, sizeof(path), "blobs/sha256/%s", img_hex(x->config_desc.digest));
	if (r == 0)
		r = put_text(x, path, x->config, x->config_len);
	for (size_t k = 0; r == 0 && k < x->m.n_layers; k++) {
		snprintf(path, sizeof(path), "blobs/sha256/%s", img_hex(x->layers[k].desc.digest));
		if (!left_out(x, k))
			r = put_layer(x, path, &x->layers[k]);
	}
	return r;
}

static int write_docker(struct export *x)
{
	char path[DIGEST_LEN + 16];
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	jo_array(&o, NULL);
	jo_object(&o, NULL);
	snprintf(path, sizeof(path), "%s.json", img_hex(x->config_desc.digest));
	jo_str(&o, "Config", path);
	jo_array(&o, "RepoTags");
	if (x->name[0] && !strchr(x->name, '@'))
		jo_str(&o, NULL, x->name);
	jo_end_array(&o);
	jo_array(&o, "Layers");
	for (size_t k = 0; k < x->m.n_layers; k++) {
		snprintf(path, sizeof(path), "%s.tar", img_hex(x->layers[k].desc.digest));
		jo_str(&o, NULL, path);
	}
	jo_end_array(&o);
	jo_end_object(&o);
	jo_end_array(&o);
	int r = sb_ok(&sb);
	if (r == 0)
		r = put_text(x, "manifest.json", sb.s, sb.len);
	snprintf(path, sizeof(path), "%s.json", img_hex(x->config_desc.digest));
	if (r == 0)
		r = put_text(x, path, x->config, x->config_len);
	for (size_t k = 0; r == 0 && k < x->m.n_layers; k++) {
		snprintf(path, sizeof(path), "%s.tar", img_hex(x->layers[k].desc.digest));
		if (!left_out(x, k))
			r = put_layer(x, path, &x->layers[k]);
	}
	return r;
}

static int write_archive(struct export *x, bool docker)
{
	x->a = archive_write_new();
	if (!x->a)
		return vps_err_sys(x->err, -ENOMEM, "export");
	archive_write_set_format_pax_restricted(x->a); /* ustar unless a size needs more */
	archive_write_set_bytes_per_block(x->a, CHUNK);
	archive_write_set_bytes_in_last_block(x->a, 512);
	if (archive_write_open(x->a, x, NULL, on_write, NULL) != ARCHIVE_OK)
		return fail(x);
	int r = docker ? write_docker(x) : write_oci(x);
	if (r == 0 && archive_write_close(x->a) != ARCHIVE_OK)
		r = fail(x);
	return r < 0 ? vps_err_sys(x->err, r, "export") : 0;
}

/* ---- by which digest it is known elsewhere -------------------------------------------- */

static int note_export(struct export *x)
{
	const char *as = x->manifest_desc.digest, *of = x->info.digest;
	if (!x->changed || str_eq(as, of))
		return 0;
	autoclose int lock = img_lock(x->s, false, x->err);
	int r = lock < 0 ? lock : fs_write_atomic(x->s->exports, img_hex(as), of, strlen(of), 0600);
	return r < 0 ? vps_err_sys(x->err, r, "note the export") : 0;
}

int img_exported_as(struct img_store *s, const char *digest, char ***ret)
{
	auto_strv names = NULL;
	auto_strv found = NULL;
	int r = fs_list(s->exports, ".", &names);
	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		char of[DIGEST_LEN];
		if (fs_read_buf(s->exports, names[i], of, sizeof(of)) > 0 && str_eq(of, digest))
			r = strv_addf(&found, "sha256:%s", names[i]);
	}
	if (r == 0)
		*ret = take_ptr(found);
	return r;
}

size_t img_layers_here(struct img_store *s, char *const *chains)
{
	size_t n = 0;
	while (chains && chains[n] && digest_valid(chains[n]) && fs_exists(s->layers, img_hex(chains[n])))
		n++;
	return n;
}

/* ---- the whole --------------------------------------------------------------------- */

/* The name it goes out under: the one asked for, or its first. */
static int choose_name(struct export *x, const char *ref)
{
	char digest[DIGEST_LEN];
	auto_done(img_refs_done) struct img_refs refs = { 0 };
	int r = img_refs_read(x->s, &refs);
	if (r < 0)
		return vps_err_sys(x->err, r, "export");
	char want[IMG_REF_MAX + 1] = "";
	if (img_ref_canonical(ref, want, NULL) < 0)
		want[0] = 0;
	memcpy(digest, x->info.digest, DIGEST_LEN);
	for (size_t i = 0; i < refs.n; i++) {
		if (!str_eq(refs.v[i].digest, digest))
			continue;
		if (!x->name[0] || str_eq(refs.v[i].name, want))
			strcpy(x->name, refs.v[i].name);
	}
	return 0;
}

/* Lease all of it first, so that gc leaves it alone while we read. */
static int load(struct export *x, const char *ref, char **manifest, size_t *len)
{
	char digest[DIGEST_LEN];
	int r = img_resolve(x->s, ref, digest, x->err);
	if (r < 0)
		return r;
	if ((r = img_blob_has(x->w, digest, x->err)) < 0 ||
	    (r = img_info_load(x->s, digest, &x->info, x->err)) < 0 ||
	    (r = img_blob_has(x->w, x->info.config, x->err)) < 0)
		return r;
	for (size_t k = 0; k < x->info.n_layers; k++)
		if ((r = img_layer_has(x->w, x->info.layers[k], x->err)) < 0)
			return r;
	if ((r = img_blob_read(x->s, digest, manifest, len, x->err)) < 0)
		return r;
	return img_manifest_parse(*manifest, *len, NULL, &x->o->caps, &x->m, x->err);
}

static int export_to(struct export *x, const char *ref, bool docker)
{
	autofree char *manifest = NULL;
	size_t len;
	int r = load(x, ref, &manifest, &len);
	if (r < 0 || (r = choose_name(x, ref)) < 0)
		return r;
	x->layers = calloc(x->m.n_layers, sizeof(*x->layers));
	if (!x->layers)
		return vps_err_sys(x->err, -ENOMEM, "export");
	for (size_t k = 0; k < x->m.n_layers; k++) {
		if ((r = make_layer(x, k)) < 0)
			return vps_err_wrap(x->err, r, "layer %zu", k + 1);
		x->total += k < x->o->without ? 0 : x->layers[k].desc.size;
	}
	if ((r = make_documents(x, manifest, len)) < 0 || (r = note_export(x)) < 0)
		return r;
	return write_archive(x, docker);
}

int img_export(struct img_store *s, const char *ref, const char *path, enum img_format fmt,
	       const struct img_opts *o, struct vps_err *err)
{
	struct img_opts opts = img_opts_fill(o);
	auto_work struct img_work w = IMG_WORK_INIT;
	if (fmt != IMG_AUTO && fmt != IMG_OCI_TAR && fmt != IMG_DOCKER_ARCHIVE)
		return vps_err_set(err, VPS_EUSAGE, "export writes an OCI tar or a docker archive");
	int r = img_work_begin(s, &w, err);
	if (r < 0)
		return r;
	bool std = str_eq(path, "-");
	autofree char *temp = std ? NULL : str_fmt("%s.partial.%d", path, (int)getpid());
	if (!std && !temp)
		return vps_err_sys(err, -ENOMEM, "export");
	autoclose int own = std ? -1 : open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
					    0644);
	if (!std && own < 0)
		return vps_err_sys(err, -errno, "create '%s'", temp);
	auto_done(export_done) struct export x = {
		.s = s, .o = &opts, .w = &w, .err = err, .fd = std ? 1 : own
	};
	r = export_to(&x, ref, fmt == IMG_DOCKER_ARCHIVE);
	if (r == 0 && !std && (fsync(own) < 0 || rename(temp, path) < 0))
		r = vps_err_sys(err, -errno, "write '%s'", path);
	if (r < 0 && !std)
		unlink(temp);
	return r < 0 ? vps_err_wrap(err, r, "export '%s'", ref) : 0;
}
