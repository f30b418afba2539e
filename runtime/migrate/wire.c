// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/wire.h"

#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/sys.h"

#define IDS 65536u /* of a VPS */
#define DOC_MAX (2u << 20)

const struct stream_type wire_types[] = {
	{WIRE_MSG, WIRE_MSG_LEN, false, "message"},
	{WIRE_OFFER, DOC_MAX, true, "offer"},
	{WIRE_ANSWER, DOC_MAX, true, "answer"},
	{WIRE_WORDS, 4096, false, "words"},
	{WIRE_IMAGE, STREAM_CHUNK, true, "image"},
	{WIRE_TREE, 1, false, "tree"},
	{WIRE_ENTRY, 256u << 10, true, "entry"},
	{WIRE_DATA, STREAM_FILE_MAX, true, "data"},
	{WIRE_HOLE, STREAM_HOLE_LEN, false, "hole"},
	{WIRE_REMOVED, PATH_MAX, false, "removed path"},
	{WIRE_ROUND, 8, false, "round"},
	{WIRE_INDEX, STREAM_RECORD_MAX, true, "index"},
	{WIRE_TOOK, 8, false, "time"},
};
const size_t wire_n_types = ARRAY_LEN(wire_types);

/* ---- messages -------------------------------------------------------------------------- */

void wire_msg_put(const struct ho_msg *m, uint8_t buf[WIRE_MSG_LEN])
{
	stream_put_le(buf, m->word, 4);
	stream_put_le(buf + 4, m->phase, 4);
	stream_put_le(buf + 8, m->epoch, 8);
	stream_put_le(buf + 16, m->id, 8);
}

int wire_msg_get(const uint8_t *p, size_t len, struct ho_msg *ret, struct vps_err *err)
{
	uint64_t word, phase;

	if (len != WIRE_MSG_LEN)
		return vps_err_set(err, VPS_EBADIMAGE, "a message of %zu bytes", len);
	word = stream_get_le(p, 4);
	phase = stream_get_le(p + 4, 4);
	if (word < HO_MSG_HELLO || word >= HO_WORDS || phase >= HO_PHASES)
		return vps_err_set(err, VPS_EBADIMAGE, "a message that nobody knows");
	*ret = (struct ho_msg){
		.word = (enum ho_word)word,
		.phase = (enum ho_phase)phase,
		.epoch = stream_get_le(p + 8, 8),
		.id = stream_get_le(p + 16, 8),
	};
	/* it counts hand-overs: nothing near its end is one */
	if (ret->epoch > UINT32_MAX)
		return vps_err_set(err, VPS_EBADIMAGE, "an epoch beyond all reason");
	return 0;
}

/* ---- sending ------------------------------------------------------------------------------ */

/* Behind what it should have been by now: wait. A pause of the operator's own making does not count as credit. */
static void pace(struct wire_out *o)
{
	uint64_t now, sent, due;

	if (!o->limit)
		return;
	now = sys_now_mono();
	sent = stream_out_bytes(o->s) - o->had;
	due = o->since + sent * 1000 / o->limit * 1000000;
	if (!o->since || now > due + 1000000000) {
		o->since = now;
		o->had = stream_out_bytes(o->s);
	} else if (due > now) {
		struct timespec t = {.tv_sec = (time_t)((due - now) / 1000000000), .tv_nsec = (long)((due - now) % 1000000000)};
		nanosleep(&t, NULL);
	}
}

int wire_put(struct wire_out *o, enum wire_type t, const void *data, size_t len, struct vps_err *err)
{
	int r = stream_put(o->s, t, data, len, err);

	if (r >= 0)
		pace(o);
	return r;
}

int wire_put2(struct wire_out *o, enum wire_type t, const void *head, size_t head_len, const void *data, size_t len,
	      struct vps_err *err)
{
	int r = stream_put2(o->s, t, head, head_len, data, len, err);

	if (r >= 0)
		pace(o);
	return r;
}

int wire_say(struct wire_out *o, const struct ho_msg *m, struct vps_err *err)
{
	uint8_t buf[WIRE_MSG_LEN];

	wire_msg_put(m, buf);
	return stream_put(o->s, WIRE_MSG, buf, sizeof(buf), err);
}

/* ---- entries ----------------------------------------------------------------------------- */

void wire_entry_done(struct wire_entry *e)
{
	for (size_t i = 0; i < e->n_xattrs; i++) {
		free(e->xattrs[i].name);
		free(e->xattrs[i].value);
	}
	free(e->xattrs);
	free(e->path);
	free(e->link);
	memset(e, 0, sizeof(*e));
}

bool wire_path_ok(const char *path, size_t len)
{
	size_t start = 0;

	if (len == 0 || len >= PATH_MAX || memchr(path, '\0', len))
		return false;
	if (len == 1 && *path == '.')
		return true;
	for (size_t i = 0; i <= len; i++) {
		if (i < len && path[i] != '/')
			continue;
		size_t n = i - start;
		if (n == 0 || n > NAME_MAX || (n == 1 && path[start] == '.') ||
		    (n == 2 && path[start] == '.' && path[start + 1] == '.'))
			return false;
		start = i + 1;
	}
	return true;
}

bool wire_xattr_ok(const char *name)
{
	return str_starts(name, "user.") || str_eq(name, "security.capability") ||
	       str_eq(name, "system.posix_acl_access") || str_eq(name, "system.posix_acl_default") ||
	       str_eq(name, "trusted.overlay.opaque") || str_eq(name, "trusted.overlay.redirect");
}

static void add_le(struct strbuf *sb, uint64_t v, unsigned bytes)
{
	uint8_t buf[8];

	stream_put_le(buf, v, bytes);
	sb_addn(sb, buf, bytes);
}

static void add_text(struct strbuf *sb, const char *s)
{
	size_t n = s ? strlen(s) : 0;

	add_le(sb, n, 2);
	sb_addn(sb, s, n);
}

int wire_entry_put(const struct wire_entry *e, struct strbuf *sb)
{
	add_le(sb, e->kind, 1);
	add_le(sb, e->n_xattrs, 1);
	add_le(sb, e->mode, 4);
	add_le(sb, e->uid, 4);
	add_le(sb, e->gid, 4);
	add_le(sb, e->size, 8);
	add_le(sb, (uint64_t)e->mtime_s, 8);
	add_le(sb, e->mtime_ns, 4);
	add_le(sb, 0, 8);
	add_text(sb, e->path);
	add_text(sb, e->link);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		add_text(sb, e->xattrs[i].name);
		add_le(sb, e->xattrs[i].len, 4);
		sb_addn(sb, e->xattrs[i].value, e->xattrs[i].len);
	}
	if (sb_ok(sb) < 0)
		return -ENOMEM;
	return sb->len > (256u << 10) || e->n_xattrs > WIRE_XATTRS_MAX ? -E2BIG : 0;
}

struct cursor {
	const uint8_t *p;
	size_t left;
	bool bad, oom;
};

static uint64_t get_le(struct cursor *c, unsigned bytes)
{
	uint64_t v;

	if (c->bad || c->left < bytes) {
		c->bad = true;
		return 0;
	}
	v = stream_get_le(c->p, bytes);
	c->p += bytes;
	c->left -= bytes;
	return v;
}

/* n bytes, NUL-terminated; NULL where there are not so many. */
static char *get_bytes(struct cursor *c, size_t n)
{
	char *s;

	if (c->bad || c->left < n) {
		c->bad = true;
		return NULL;
	}
	s = malloc(n + 1);
	if (!s) {
		c->bad = c->oom = true;
		return NULL;
	}
	memcpy(s, c->p, n);
	s[n] = '\0';
	c->p += n;
	c->left -= n;
	return s;
}

static void get_xattr(struct cursor *c, struct wire_xattr *x)
{
	size_t n = get_le(c, 2);

	x->name = get_bytes(c, n);
	if (!x->name || strlen(x->name) != n || n > 255 || !wire_xattr_ok(x->name))
		c->bad = true;
	x->len = get_le(c, 4);
	if (x->len > WIRE_XATTR_MAX)
		c->bad = true;
	x->value = get_bytes(c, x->len);
}

static bool sane(const struct wire_entry *e, size_t path_len, size_t link_len)
{
	bool data = e->kind == KIND_FILE || e->kind == KIND_PATCH;

	if (!strchr("dfplhwqs", (int)e->kind) || e->kind == 0 || (e->mode & ~07777u))
		return false;
	if (e->uid >= IDS || e->gid >= IDS || e->mtime_ns >= 1000000000 || e->size > INT64_MAX)
		return false;
	if (!data && e->size)
		return false;
	if (!wire_path_ok(e->path, path_len) || (str_eq(e->path, ".") && e->kind != KIND_DIR))
		return false;
	switch (e->kind) {
	case KIND_SYMLINK: return link_len > 0 && link_len < PATH_MAX && strlen(e->link) == link_len;
	case KIND_HARDLINK: return wire_path_ok(e->link, link_len) && !str_eq(e->link, ".");
	default: return link_len == 0;
	}
}

int wire_entry_get(const uint8_t *p, size_t len, struct wire_entry *ret, struct vps_err *err)
{
	struct cursor c = {.p = p, .left = len};
	struct wire_entry e = {0};
	size_t path_len, link_len, n;

	e.kind = (enum wire_kind)get_le(&c, 1);
	n = get_le(&c, 1);
	e.mode = (uint32_t)get_le(&c, 4);
	e.uid = (uint32_t)get_le(&c, 4);
	e.gid = (uint32_t)get_le(&c, 4);
	e.size = get_le(&c, 8);
	e.mtime_s = (int64_t)get_le(&c, 8);
	e.mtime_ns = (uint32_t)get_le(&c, 4);
	get_le(&c, 8);
	path_len = get_le(&c, 2);
	e.path = get_bytes(&c, path_len);
	link_len = get_le(&c, 2);
	e.link = get_bytes(&c, link_len);
	if (n > WIRE_XATTRS_MAX)
		c.bad = true;
	if (!c.bad && n && !(e.xattrs = calloc(n, sizeof(*e.xattrs))))
		c.bad = c.oom = true;
	for (; !c.bad && e.n_xattrs < n; e.n_xattrs++)
		get_xattr(&c, &e.xattrs[e.n_xattrs]);
	if (c.bad || c.left || !sane(&e, path_len, link_len)) {
		wire_entry_done(&e);
		return c.oom ? vps_err_sys(err, -ENOMEM, "entry")
			     : vps_err_set(err, VPS_EBADIMAGE, "an entry that breaks the rules");
	}
	*ret = e;
	return 0;
}
