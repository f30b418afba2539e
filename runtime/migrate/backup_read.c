// SPDX-License-Identifier: GPL-2.0-or-later
/* Reading backups, which are strangers' until shown otherwise. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/json.h"
#include "runtime/migrate/backup.h"

#define DOC_MAX	  (1u << 20)
#define META_MAX  (64u << 10)
#define BASES_MAX 64

const struct stream_type backup_types[] = {
	{B_META, META_MAX, false, "meta"},	 {B_SPEC, DOC_MAX, true, "spec"},
	{B_SECCOMP, DOC_MAX, true, "seccomp"},	 {B_PART, META_MAX, false, "part"},
	{B_CHUNK, STREAM_FILE_MAX, true, "chunk"}, {B_REF, B_REF_LEN, false, "reference"},
	{B_PARTEND, B_PARTEND_LEN, false, "end of a part"},
};
const size_t backup_n_types = ARRAY_LEN(backup_types);

/* ---- sets of chunks ------------------------------------------------------------------------ */

void chunk_set_done(struct chunk_set *s)
{
	free(s->v);
	*s = (struct chunk_set){0};
}

static struct chunk *slot(const struct chunk_set *s, struct chunk *v, size_t cap, const uint8_t *hash)
{
	uint64_t sum = 0;
	size_t i;

	for (size_t k = 0; k < ARRAY_LEN(s->key); k++)
		sum += stream_get_le(hash + 8 * k, 8) * s->key[k];
	i = (size_t)(sum >> 24) & (cap - 1);
	while (v[i].used && memcmp(v[i].hash, hash, DIGEST_RAW_LEN) != 0)
		i = (i + 1) & (cap - 1);
	return &v[i];
}

static int grow(struct chunk_set *s)
{
	size_t cap = s->cap ? 2 * s->cap : 1024;
	struct chunk *v;

	if (4 * (s->n + 1) <= 3 * s->cap)
		return 0;
	if (!s->cap && getrandom(s->key, sizeof(s->key), 0) != sizeof(s->key))
		return -errno;
	for (size_t k = 0; k < ARRAY_LEN(s->key); k++)
		s->key[k] |= 1;
	v = calloc(cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < s->cap; i++)
		if (s->v[i].used)
			*slot(s, v, cap, s->v[i].hash) = s->v[i];
	free(s->v);
	s->v = v;
	s->cap = cap;
	return 0;
}

/* Bytes are better than a reference to them. */
int chunk_set_add(struct chunk_set *s, const uint8_t hash[DIGEST_RAW_LEN], uint32_t file, uint64_t at)
{
	struct chunk *c;

	if (s->n >= B_CHUNKS_MAX)
		return -EOVERFLOW;
	if (grow(s) < 0)
		return -ENOMEM;
	c = slot(s, s->v, s->cap, hash);
	if (c->used && c->at != UINT64_MAX)
		return 0;
	s->n += !c->used;
	memcpy(c->hash, hash, DIGEST_RAW_LEN);
	c->file = file;
	c->at = at;
	c->used = 1;
	return 0;
}

const struct chunk *chunk_set_find(const struct chunk_set *s, const uint8_t hash[DIGEST_RAW_LEN])
{
	const struct chunk *c = s->cap ? slot(s, s->v, s->cap, hash) : NULL;

	return c && c->used ? c : NULL;
}

/* ---- the head ---------------------------------------------------------------------------------- */

void backup_in_init(struct backup_in *b)
{
	memset(b, 0, sizeof(*b));
	spec_init(&b->spec);
}

void backup_in_done(struct backup_in *b)
{
	stream_in_free(b->s);
	for (size_t i = 0; i < b->n_bases; i++)
		stream_in_free(b->bases[i]);
	free(b->bases);
	chunk_set_done(&b->known);
	free(b->meta.source);
	free(b->seccomp);
	spec_done(&b->spec);
	backup_in_init(b);
}

static int next(struct backup_in *b, struct stream_rec *rec, struct vps_err *err)
{
	b->rec_at = stream_in_bytes(b->s);
	return stream_next(b->s, rec, err);
}

static int expect(struct backup_in *b, uint16_t type, struct stream_rec *rec, struct vps_err *err)
{
	int r = next(b, rec, err);

	if (r < 0)
		return r;
	return r == 1 && rec->type == type ? 0 : vps_err_set(err, VPS_EBADIMAGE, "the backup's parts are not in order");
}

static int parse(const struct stream_rec *rec, const char *what, struct json **ret, struct vps_err *err)
{
	struct vps_err why = {0};

	if (json_parse((const char *)rec->data, rec->len, ret, &why) < 0)
		return vps_err_set(err, VPS_EBADIMAGE, "the backup's %s: %s", what, why.msg);
	return 0;
}

static int read_meta(struct backup_in *b, const struct stream_rec *rec, struct vps_err *err)
{
	auto_json j = NULL;
	const char *base;
	int r = parse(rec, "head", &j, err);

	if (r < 0)
		return r;
	if (json_int(json_get(j, "version"), 0) != BACKUP_VERSION)
		return vps_err_set(err, VPS_EBADIMAGE, "the backup is of version %lld, this vps reads %d; use a newer one",
				   (long long)json_int(json_get(j, "version"), 0), BACKUP_VERSION);
	base = json_str(json_get(j, "base"), "");
	if (*base && !digest_valid(base))
		return vps_err_set(err, VPS_EBADIMAGE, "the backup names no digest as its base");
	strcpy(b->meta.base, base);
	b->meta.created = json_u64(json_get(j, "created"), 0);
	b->meta.booted = json_bool(json_get(j, "booted"), true);
	b->meta.memory = json_bool(json_get(j, "memory"), false);
	r = str_set(&b->meta.source, json_str(json_get(j, "source"), "?"));
	return r < 0 ? vps_err_sys(err, r, "backup") : 0;
}

static int read_spec(struct backup_in *b, const struct stream_rec *rec, struct vps_err *err)
{
	auto_json j = NULL;
	struct vps_err why = {0};
	int r = parse(rec, "definition", &j, err);

	if (r < 0)
		return r;
	r = spec_from_json(j, &b->spec, &why);
	r = r ?: spec_check(&b->spec, &why);
	if (r == 0 && (!b->spec.name || !b->spec.image || !b->spec.image_digest || !digest_valid(b->spec.image_digest) ||
		       !b->spec.disk_backend))
		r = vps_err_set(&why, VPS_EBADIMAGE, "it is not whole");
	return r < 0 ? vps_err_set(err, VPS_EBADIMAGE, "the backup's definition: %s", why.msg) : 0;
}

static int read_seccomp(struct backup_in *b, struct vps_err *err)
{
	struct stream_rec rec;
	int r = expect(b, B_SECCOMP, &rec, err);

	if (r < 0)
		return r;
	b->seccomp = malloc(rec.len + 1);
	if (!b->seccomp)
		return vps_err_sys(err, -ENOMEM, "backup");
	memcpy(b->seccomp, rec.data, rec.len);
	b->seccomp[rec.len] = '\0';
	b->seccomp_len = rec.len;
	return 0;
}

int backup_in_open(int fd, const struct stream_opts *o, struct backup_in *ret, struct vps_err *err)
{
	struct backup_in b;
	struct stream_rec rec;
	int r;

	backup_in_init(&b);
	r = stream_in_begin(fd, BACKUP_KIND, backup_types, backup_n_types, o, &b.s, err);
	r = r ?: expect(&b, B_META, &rec, err);
	r = r ?: read_meta(&b, &rec, err);
	r = r ?: expect(&b, B_SPEC, &rec, err);
	r = r ?: read_spec(&b, &rec, err);
	if (r == 0 && str_eq(b.spec.seccomp, SPEC_SECCOMP_FILE))
		r = read_seccomp(&b, err);
	if (r < 0) {
		backup_in_done(&b);
		return r;
	}
	*ret = b;
	return 0;
}

/* ---- parts ------------------------------------------------------------------------------------------ */

static int begin_part(struct backup_in *b, const struct stream_rec *rec, struct vps_err *err)
{
	auto_json j = NULL;
	const char *part, *as;
	int r = parse(rec, "part", &j, err);

	if (r < 0)
		return r;
	part = json_str(json_get(j, "part"), "");
	as = json_str(json_get(j, "as"), "");
	b->at = b->size = 0;
	b->last = false;
	if (str_eq(part, "image") && !b->had_image && !b->had_disk) {
		b->part = PART_IMAGE;
		b->had_image = true;
	} else if (str_eq(part, "disk") && !b->had_disk && (str_eq(as, "tree") || str_eq(as, "blocks"))) {
		b->part = str_eq(as, "tree") ? PART_TREE : PART_BLOCKS;
		b->had_disk = true;
		b->size = json_u64(json_get(j, "size"), 0);
	} else if (str_eq(part, "memory") && b->meta.memory && b->had_disk && !b->had_memory) {
		b->part = PART_MEMORY;
		b->had_memory = true;
	} else {
		return vps_err_set(err, VPS_EBADIMAGE, "the backup has a part too many, or one that is not known");
	}
	return 1;
}

int backup_in_part(struct backup_in *b, struct vps_err *err)
{
	struct stream_rec rec;
	int r = next(b, &rec, err);

	b->part = PART_NONE;
	if (r < 0)
		return r;
	if (r == 0) {
		if (!b->had_disk)
			return vps_err_set(err, VPS_EBADIMAGE, "the backup has no disk");
		if (b->meta.memory && !b->had_memory)
			return vps_err_set(err, VPS_EBADIMAGE, "the backup lacks the memory that it is to have");
		stream_in_digest(b->s, b->digest);
		return 0;
	}
	if (rec.type != B_PART)
		return vps_err_set(err, VPS_EBADIMAGE, "the backup's parts are not in order");
	return begin_part(b, &rec, err);
}

static int end_part(struct backup_in *b, const struct stream_rec *rec, struct vps_err *err)
{
	uint64_t len = rec->len == B_PARTEND_LEN ? stream_get_le(rec->data, 8) : UINT64_MAX;

	if (len != (b->part == PART_BLOCKS ? b->size : b->at))
		return vps_err_set(err, VPS_EBADIMAGE, "a part of the backup has another length than it says");
	b->part = PART_NONE;
	return 0;
}

/* In order, within bounds, and none of them so small that there could be too many. */
static int check_piece(struct backup_in *b, const struct piece *p, struct vps_err *err)
{
	bool blocks = b->part == PART_BLOCKS;

	if (p->len == 0 || p->len > STREAM_CHUNK || p->offset > UINT64_MAX - p->len ||
	    (blocks ? p->offset < b->at || p->offset + p->len > b->size : p->offset != b->at))
		return vps_err_set(err, VPS_EBADIMAGE, "a chunk of the backup is not where it can be");
	if (b->last)
		return vps_err_set(err, VPS_EBADIMAGE, "the backup is cut into too small chunks");
	b->last = p->len < B_CHUNK_MIN;
	b->at = p->offset + p->len;
	return 1;
}

int backup_in_piece(struct backup_in *b, struct piece *ret, struct vps_err *err)
{
	struct piece p = {0};
	struct stream_rec rec;
	int r = next(b, &rec, err);

	if (r < 0)
		return r;
	if (r == 1 && rec.type == B_PARTEND)
		return end_part(b, &rec, err);
	if (r == 1 && rec.type == B_CHUNK && rec.len > STREAM_FILE_HEAD) {
		p.offset = stream_get_le(rec.data, 8);
		p.data = rec.data + STREAM_FILE_HEAD;
		p.len = rec.len - STREAM_FILE_HEAD;
	} else if (r == 1 && rec.type == B_REF && rec.len == B_REF_LEN && *b->meta.base) {
		p.offset = stream_get_le(rec.data, 8);
		p.len = (size_t)stream_get_le(rec.data + 8, 4);
		memcpy(p.hash, rec.data + 12, DIGEST_RAW_LEN);
	} else {
		return vps_err_set(err, VPS_EBADIMAGE, "the backup's parts are not in order");
	}
	r = check_piece(b, &p, err);
	if (r == 1)
		*ret = p;
	return r;
}

static int hash_of(const uint8_t *data, size_t len, uint8_t out[DIGEST_RAW_LEN])
{
	struct digest_ctx *d = digest_new();

	if (!d)
		return -ENOMEM;
	digest_add(d, data, len);
	return digest_end_raw(d, out);
}

/* The place is one that was verified before; that the bytes still are is shown by their hash. */
int backup_in_resolve(struct backup_in *b, struct piece *p, struct vps_err *err)
{
	const struct chunk *c = chunk_set_find(&b->known, p->hash);
	uint8_t hash[DIGEST_RAW_LEN];
	struct stream_rec rec;
	int r;

	if (!c || c->at == UINT64_MAX || c->file >= b->n_bases)
		return vps_err_set(err, VPS_EBADIMAGE, "the backup refers to bytes that none of those before it has");
	r = stream_read_at(b->bases[c->file], c->at, &rec, err);
	if (r < 0)
		return r;
	if (rec.type != B_CHUNK || rec.len != p->len + STREAM_FILE_HEAD)
		return vps_err_set(err, VPS_EDIGEST, "a backup that this one is incremental to has changed");
	r = hash_of(rec.data + STREAM_FILE_HEAD, p->len, hash);
	if (r < 0)
		return vps_err_sys(err, r, "hash");
	if (memcmp(hash, p->hash, sizeof(hash)) != 0)
		return vps_err_set(err, VPS_EDIGEST, "a backup that this one is incremental to has changed");
	p->data = rec.data + STREAM_FILE_HEAD;
	return 0;
}

/* ---- all of it, for what is in it -------------------------------------------------------------------------- */

static int scan_part(struct backup_in *b, uint32_t file, struct chunk_set *set, struct vps_err *err)
{
	struct piece p;
	int r;

	while ((r = backup_in_piece(b, &p, err)) > 0) {
		int e = p.data ? hash_of(p.data, p.len, p.hash) : 0;

		e = e ?: chunk_set_add(set, p.hash, file, p.data ? b->rec_at : UINT64_MAX);
		if (e < 0)
			return vps_err_sys(err, e, "remember the backup's chunks");
	}
	return r;
}

int backup_scan(int fd, uint32_t file, const struct stream_opts *o, struct chunk_set *set, struct backup_in *ret,
		struct vps_err *err)
{
	struct backup_in b;
	int r;

	backup_in_init(&b);
	r = backup_in_open(fd, o, &b, err);
	while (r >= 0 && (r = backup_in_part(&b, err)) > 0)
		r = scan_part(&b, file, set, err);
	if (r < 0) {
		backup_in_done(&b);
		return r;
	}
	*ret = b;
	return 0;
}

/* ---- what it is incremental to ------------------------------------------------------------------------------- */


static int scan_base(struct backup_in *b, int fd, uint32_t file, const struct stream_opts *o, struct backup_in *ret,
		     struct vps_err *err)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_SET) < 0)
		return vps_err_set(err, VPS_EUSAGE, "a backup that another is incremental to has to be a plain file");
	r = backup_scan(fd, file, o, &b->known, ret, err);
	if (r < 0)
		return r;
	b->bases[b->n_bases++] = ret->s;
	ret->s = NULL;
	return 0;
}

/* Is everything there that b needs, and what that needs? */
static int check_chain(const struct backup_in *b, const struct backup_in *have, size_t n, struct vps_err *err)
{
	const char *want = b->meta.base;

	for (size_t steps = 0; *want && steps <= n; steps++) {
		size_t i;

		for (i = 0; i < n && !str_eq(have[i].digest, want); i++)
			;
		if (i == n)
			return vps_err_set(err, VPS_EUSAGE, "the backup is incremental to another, whose digest is %.19s…; "
					   "give that file, too (--base FILE)", want);
		want = have[i].meta.base;
	}
	return 0;
}

int backup_in_bases(struct backup_in *b, const int *fds, size_t n, const struct stream_opts *o, struct vps_err *err)
{
	autofree struct backup_in *have = calloc(n + 1, sizeof(*have));
	size_t k;
	int r = 0;

	if (n > BASES_MAX)
		return vps_err_set(err, VPS_EUSAGE, "more than %d backups before this one", BASES_MAX);
	b->bases = calloc(n + 1, sizeof(*b->bases));
	if (!have || !b->bases)
		return vps_err_sys(err, -ENOMEM, "backup");
	for (k = 0; r == 0 && k < n; k++) {
		backup_in_init(&have[k]);
		r = scan_base(b, fds[k], (uint32_t)k, o, &have[k], err);
	}
	r = r ?: check_chain(b, have, n, err);
	for (size_t i = 0; i < k; i++)
		backup_in_done(&have[i]);
	return r;
}
