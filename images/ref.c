/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * References: their grammar (distribution-spec 1.1 and the reference grammar of the distribution
 * project) and the folder refs/, one file a name. '/' in a name is '+' in the file's name, which
 * the grammar leaves free.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "images/store.h"

static bool is_alnum(char c) { return isalnum((unsigned char)c) && (unsigned char)c < 128; }
static bool is_low(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

static int bad_ref(struct vps_err *err, const char *text, const char *why)
{
	autofree char *esc = str_escape(text);
	return vps_err_set(err, VPS_EUSAGE, "image reference '%.300s': %s", esc ? esc : "?", why);
}

/* [A-Za-z0-9] parts with '-' inside, dots between, an optional port; or [v6]:port */
static bool host_ok(const char *h)
{
	const char *p = h;
	if (*p == '[') {
		for (p++; isxdigit((unsigned char)*p) || *p == ':'; p++)
			;
		if (*p++ != ']')
			return false;
	} else {
		for (;;) {
			if (!is_alnum(*p))
				return false;
			while (is_alnum(*p) || *p == '-')
				p++;
			if (p[-1] == '-')
				return false;
			if (*p != '.')
				break;
			p++;
		}
	}
	if (*p == ':') {
		const char *port = ++p;
		while (*p >= '0' && *p <= '9')
			p++;
		if (p == port || p - port > 5 || atol(port) > 65535)
			return false;
	}
	return !*p;
}

/* One part of a path: [a-z0-9]+ joined by '.', '_', '__' or any number of '-'. */
static const char *path_part(const char *p)
{
	for (;;) {
		if (!is_low(*p))
			return NULL;
		while (is_low(*p))
			p++;
		if (*p == '-') {
			while (*p == '-')
				p++;
		} else if (p[0] == '_') {
			p += p[1] == '_' ? 2 : 1;
		} else if (*p == '.') {
			p++;
		} else {
			return p;
		}
	}
}

static bool path_ok(const char *p)
{
	for (;;) {
		p = path_part(p);
		if (!p)
			return false;
		if (!*p)
			return true;
		if (*p++ != '/')
			return false;
	}
}

static bool tag_ok(const char *t)
{
	size_t n = strlen(t);
	if (n < 1 || n > 128 || !(is_alnum(*t) || *t == '_'))
		return false;
	for (; *t; t++)
		if (!is_alnum(*t) && *t != '_' && *t != '.' && *t != '-')
			return false;
	return true;
}

static bool is_hex(const char *s)
{
	for (; *s; s++)
		if (!(*s >= '0' && *s <= '9') && !(*s >= 'a' && *s <= 'f'))
			return false;
	return true;
}

/* Splits text (which it may write to) at its punctuation; judges nothing. */
static int ref_split(char *text, struct img_ref *r)
{
	char *at = strchr(text, '@');
	if (at) {
		*at++ = 0;
		if (!digest_valid(at))
			return -EINVAL;
		memcpy(r->digest, at, DIGEST_LEN);
	}
	char *slash = strchr(text, '/');
	if (slash) {
		*slash = 0;
		bool host = strpbrk(text, ".:") || str_eq(text, "localhost");
		size_t n = strlen(text);
		if (host && n >= sizeof(r->host))
			return -ENAMETOOLONG;
		if (host)
			memcpy(r->host, text, n + 1);
		*slash = '/';
		if (host)
			text = slash + 1;
	}
	char *last = strrchr(text, '/');
	char *colon = strchr(last ? last : text, ':');
	if (colon) {
		*colon++ = 0;
		if (!tag_ok(colon))
			return -EDOM;
		memcpy(r->tag, colon, strlen(colon) + 1);
	}
	size_t n = strlen(text);
	if (n >= sizeof(r->path))
		return -ENAMETOOLONG;
	memcpy(r->path, text, n + 1);
	return 0;
}

int img_ref_parse(const char *text, struct img_ref *ret, struct vps_err *err)
{
	struct img_ref r = { 0 };
	if (!text || !*text)
		return bad_ref(err, "", "is empty");
	autofree char *copy = strdup(text);
	if (!copy)
		return vps_err_sys(err, -ENOMEM, "reference");
	switch (ref_split(copy, &r)) {
	case 0:
		break;
	case -EINVAL:
		return bad_ref(err, text, "after '@' belongs sha256: and 64 hex digits");
	case -EDOM:
		return bad_ref(err, text, "a tag has 1 to 128 letters, digits, '_', '.' and '-'");
	default:
		return bad_ref(err, text, "is too long");
	}
	if (r.host[0] && !host_ok(r.host))
		return bad_ref(err, text, "not a host name before the first '/'");
	if (!path_ok(r.path))
		return bad_ref(err, text, "a name has lower-case letters and digits, with '.', '_', "
					  "'-' between them and '/' between parts");
	if (!r.host[0] && strlen(r.path) == 64 && is_hex(r.path))
		return bad_ref(err, text, "64 hex digits would be a digest (sha256:…), not a name");
	char name[IMG_REF_MAX + 1];
	int e = img_ref_name(&r, name, err);
	if (e < 0)
		return e;
	*ret = r;
	return 0;
}

int img_ref_name(const struct img_ref *r, char *name, struct vps_err *err)
{
	const char *slash = r->host[0] ? "/" : "";
	int n;
	if (!r->tag[0] && r->digest[0])
		n = snprintf(name, IMG_REF_MAX + 1, "%s%s%s@%s", r->host, slash, r->path, r->digest);
	else
		n = snprintf(name, IMG_REF_MAX + 1, "%s%s%s:%s", r->host, slash, r->path,
			     r->tag[0] ? r->tag : "latest");
	if (n < 0 || n > IMG_REF_MAX)
		return vps_err_set(err, VPS_EUSAGE, "image reference is longer than %d characters",
				   IMG_REF_MAX);
	return 0;
}

int img_ref_check(const char *ref, struct vps_err *err)
{
	struct img_ref r;
	return img_ref_parse(ref, &r, err);
}

int img_ref_canonical(const char *text, char *name, struct vps_err *err)
{
	struct img_ref r;
	int e = img_ref_parse(text, &r, err);
	return e < 0 ? e : img_ref_name(&r, name, err);
}

/* ---- refs/ --------------------------------------------------------------- */

void img_ref_file(const char *name, char *file)
{
	for (; *name; name++)
		*file++ = *name == '/' ? '+' : *name;
	*file = 0;
}

void img_refs_done(struct img_refs *r)
{
	free(r->v);
	*r = (struct img_refs){ 0 };
}

static int cmp_item(const void *a, const void *b)
{
	return strcmp(((const struct img_refs_item *)a)->name,
		      ((const struct img_refs_item *)b)->name);
}

/* Every file of a folder whose content is a digest. slash: '+' stands for '/'. */
static int read_dir(int dirfd, bool slash, struct img_refs *ret)
{
	auto_strv names = NULL;
	int r = fs_list(dirfd, ".", &names);
	if (r < 0)
		return r;
	auto_done(img_refs_done) struct img_refs out = { 0 };
	for (size_t i = 0; names && names[i]; i++) {
		if (names[i][0] == '.' || strlen(names[i]) > IMG_REF_MAX)
			continue;
		if ((r = mem_grow(out.v, out.n, out.cap)) < 0)
			return r;
		struct img_refs_item *it = &out.v[out.n];
		char text[DIGEST_LEN + 2];
		if (fs_read_buf(dirfd, names[i], text, sizeof(text)) < 0 || !digest_valid(text))
			continue;
		memcpy(it->digest, text, DIGEST_LEN);
		strcpy(it->name, names[i]);
		for (char *p = it->name; slash && *p; p++)
			if (*p == '+')
				*p = '/';
		out.n++;
	}
	if (out.n)
		qsort(out.v, out.n, sizeof(*out.v), cmp_item);
	*ret = out;
	out = (struct img_refs){ 0 };
	return 0;
}

int img_refs_read(struct img_store *s, struct img_refs *ret) { return read_dir(s->refs, true, ret); }
int img_pins_read(struct img_store *s, struct img_refs *ret) { return read_dir(s->pins, false, ret); }

/* ---- looking up ---------------------------------------------------------- */

/* Edit distance, at most 240 × 240. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[IMG_REF_MAX + 2];
	size_t nb = strlen(b);
	for (size_t j = 0; j <= nb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; *a; a++, i++) {
		unsigned diag = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned sub = diag + (*a != b[j - 1]);
			diag = row[j];
			unsigned m = (row[j - 1] < diag ? row[j - 1] : diag) + 1;
			row[j] = m < sub ? m : sub;
		}
	}
	return row[nb];
}

/* Lower is nearer; a name that ends in what was asked for, or has the same path, is near. */
static unsigned nearness(const char *want, const char *name)
{
	if (str_ends(name, want))
		return 0;
	size_t stem = strcspn(want, ":@");
	const char *base = strrchr(name, '/');
	base = base ? base + 1 : name;
	if (strncmp(base, want, stem) == 0 && strchr(":@", base[stem]))
		return 1;
	unsigned d = distance(want, name);
	return d <= 1 + strlen(want) / 4 ? 1 + d : UINT_MAX;
}

static int no_image(const struct img_refs *refs, const char *ref, const char *name,
		    struct vps_err *err)
{
	const struct img_refs_item *best[3] = { NULL };
	unsigned score[3] = { UINT_MAX, UINT_MAX, UINT_MAX };
	for (size_t i = 0; name && i < refs->n; i++) {
		const struct img_refs_item *it = &refs->v[i];
		unsigned sc = nearness(name, it->name);
		for (int k = 0; k < 3; k++) {
			if (sc >= score[k])
				continue;
			const struct img_refs_item *t = best[k];
			unsigned ts = score[k];
			best[k] = it;
			score[k] = sc;
			it = t;
			sc = ts;
			if (!it)
				break;
		}
	}
	autofree char *esc = str_escape(ref);
	if (best[0])
		return vps_err_set(err, VPS_ENOIMAGE, "no image '%.160s'; near: %.100s%s%.100s%s%.100s",
				   esc ? esc : "?", best[0]->name, best[1] ? ", " : "",
				   best[1] ? best[1]->name : "", best[2] ? ", " : "",
				   best[2] ? best[2]->name : "");
	return vps_err_set(err, VPS_ENOIMAGE, "no image '%.300s'%s", esc ? esc : "?",
			   refs->n ? "" : " (the store is empty: import, pull or bootstrap one)");
}

/* Is hex a prefix of exactly one image's digest? 1: it is; 0: of none; -VPS_EUSAGE: of several. */
static int by_prefix(struct img_store *s, const struct img_refs *refs, const char *hex, char *digest,
		     struct vps_err *err)
{
	auto_done(img_refs_done) struct img_refs pins = { 0 };
	int r = img_pins_read(s, &pins);
	if (r < 0)
		return vps_err_sys(err, r, "read the image pins");
	char found[DIGEST_LEN] = "";
	const struct img_refs *lists[] = { refs, &pins };
	for (size_t l = 0; l < 2; l++)
		for (size_t i = 0; i < lists[l]->n; i++) {
			const char *d = lists[l]->v[i].digest;
			if (!str_starts(img_hex(d), hex) || str_eq(d, found))
				continue;
			if (found[0])
				return vps_err_set(err, VPS_EUSAGE,
						   "'%s' begins several digests: give more of it",
						   hex);
			memcpy(found, d, DIGEST_LEN);
		}
	if (!found[0])
		return 0;
	memcpy(digest, found, DIGEST_LEN);
	return 1;
}

/* What names it exactly: 1 and the digest, or 0, or an error. name gets the canonical name. */
static int by_name(struct img_store *s, const char *ref, char *name, char *digest,
		   struct vps_err *err)
{
	struct img_ref r;
	char file[IMG_REF_MAX + 1], text[DIGEST_LEN + 2];
	int e = img_ref_parse(ref, &r, err);
	if (e < 0)
		return e;
	if (r.digest[0]) {
		if (!fs_exists(s->blobs, img_hex(r.digest)))
			return 0;
		memcpy(digest, r.digest, DIGEST_LEN);
		return 1;
	}
	if ((e = img_ref_name(&r, name, err)) < 0)
		return e;
	img_ref_file(name, file);
	ssize_t n = fs_read_buf(s->refs, file, text, sizeof(text));
	if (n == -ENOENT)
		return 0;
	if (n < 0)
		return vps_err_sys(err, (int)n, "read image reference '%s'", name);
	if (!digest_valid(text))
		return vps_err_set(err, EUCLEAN, "image reference '%s' is damaged", name);
	memcpy(digest, text, DIGEST_LEN);
	return 1;
}

int img_resolve(struct img_store *s, const char *ref, char digest[DIGEST_LEN], struct vps_err *err)
{
	bool said = str_starts(ref, "sha256:");
	const char *hex = said ? ref + 7 : ref;
	size_t n = strlen(hex);
	bool prefix = n >= 8 && n <= 64 && is_hex(hex);
	char name[IMG_REF_MAX + 1] = "";
	auto_done(img_refs_done) struct img_refs refs = { 0 };
	int e = 0;

	if (prefix && n == 64) {
		/* a whole digest also finds what has no name any more, until gc takes it */
		e = fs_exists(s->blobs, hex);
		if (e)
			snprintf(digest, DIGEST_LEN, "sha256:%s", hex);
		else /* as this store has exported it */
			e = fs_read_buf(s->exports, hex, digest, DIGEST_LEN) > 0 && digest_valid(digest) &&
			    fs_exists(s->blobs, img_hex(digest));
	} else if (!said || !prefix) {
		e = by_name(s, ref, name, digest, err);
	}
	if (e)
		return e < 0 ? e : 0;
	e = img_refs_read(s, &refs);
	if (e < 0)
		return vps_err_sys(err, e, "read the image references");
	if (prefix && n < 64 && (e = by_prefix(s, &refs, hex, digest, err)) != 0)
		return e < 0 ? e : 0;
	return no_image(&refs, ref, name[0] ? name : NULL, err);
}
