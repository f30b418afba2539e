/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames and records, runtime/guest/agent.h: what both sides of the wire share. */
#include <endian.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "runtime/guest/agent.h"

uint16_t agent_u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

uint32_t agent_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

uint64_t agent_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* ---- in ------------------------------------------------------------------------ */

void agent_in_done(struct agent_in *in)
{
	free(in->buf);
	in->buf = NULL;
	in->have = 0;
}

/* How long its payload may be; -1: no such type from that side. */
static void type_range(enum agent_type t, bool from_guest, long *min, long *max)
{
	static const struct {
		uint8_t type;
		int8_t guest; /* 0: the host's, 1: the guest's, -1: both */
		long min, max;
	} types[] = {
		{AGENT_HELLO, -1, 8, 8},
		{AGENT_DATA, -1, 0, AGENT_DATA_MAX},
		{AGENT_END, -1, 0, 0},
		{AGENT_MORE, 0, 0, AGENT_DATA_MAX},
		{AGENT_EXEC, 0, 0, AGENT_DATA_MAX},
		{AGENT_WINSIZE, 0, 4, 4},
		{AGENT_SIGNAL, 0, 4, 4},
		{AGENT_PACK, 0, 0, AGENT_DATA_MAX},
		{AGENT_UNPACK, 0, 0, AGENT_DATA_MAX},
		{AGENT_STAT, 0, 0, 0},
		{AGENT_STOP, 0, 0, 0},
		{AGENT_REBOOT, 0, 0, 0},
		{AGENT_KILL, 0, 4, 4},
		{AGENT_RESEED, 0, 1, 512},
		{AGENT_CLOCK, 0, 8, 8},
		{AGENT_GROW, 0, 0, 0},
		{AGENT_SYNC, 0, 0, 0},
		{AGENT_FREEZE, 0, 0, 0},
		{AGENT_THAW, 0, 0, 0},
		{AGENT_PROCS, 0, 0, 0},
		{AGENT_SET, 0, 0, AGENT_DATA_MAX},
		{AGENT_RESUMED, 0, 72, 72},
		{AGENT_STARTED, 1, 4, 4},
		{AGENT_CREDIT, 1, 4, 4},
		{AGENT_EXIT, 1, 4, 4},
		{AGENT_DONE, 1, 0, AGENT_DATA_MAX},
		{AGENT_ERROR, 1, 8, 1024},
	};

	*min = *max = -1;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (types[i].type != t || types[i].guest == !from_guest)
			continue;
		*min = types[i].min;
		*max = types[i].max;
	}
}

static int check_head(const struct agent_in *in, const struct agent_head *h, uint32_t len)
{
	bool streams = h->type == AGENT_DATA || h->type == AGENT_END;
	long min, max;

	type_range(h->type, in->from_guest, &min, &max);
	if (max < 0 || len > (unsigned long)max || (long)len < min || h->zero)
		return -EPROTO;
	/* stream 0 goes in, 1 and 2 come out */
	if (!streams || !in->from_guest)
		return h->stream ? -EPROTO : 0;
	return h->stream == 1 || h->stream == 2 ? 0 : -EPROTO;
}

ssize_t agent_in_next(struct agent_in *in, struct agent_frame *ret)
{
	struct agent_head h;
	uint32_t len;
	int r;

	if (in->have < sizeof(h))
		return (ssize_t)(sizeof(h) - in->have);
	memcpy(&h, in->buf, sizeof(h));
	len = le32toh(h.len);
	r = check_head(in, &h, len);
	if (r < 0)
		return r;
	if (in->have < sizeof(h) + len)
		return (ssize_t)(sizeof(h) + len - in->have);
	*ret = (struct agent_frame){
		.type = h.type, .stream = h.stream, .data = in->buf + sizeof(h), .len = len};
	in->have = 0;
	return 0;
}

int agent_in_read(struct agent_in *in, int fd, struct agent_frame *ret)
{
	if (!in->buf && !(in->buf = malloc(sizeof(struct agent_head) + AGENT_DATA_MAX)))
		return -ENOMEM;
	for (;;) {
		ssize_t want = agent_in_next(in, ret), n;

		if (want <= 0)
			return want < 0 ? (int)want : 1;
		n = read(fd, in->buf + in->have, (size_t)want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return in->have ? -EPROTO : 0;
		in->have += (size_t)n;
		if (n < want)
			return -EAGAIN;
	}
}

int agent_in_wait(struct agent_in *in, int fd, int timeout_ms, struct agent_frame *ret)
{
	uint64_t end = sys_now_mono() / 1000000 + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms);

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = sys_now_mono() / 1000000;
		int r = poll(&p, 1, timeout_ms < 0 ? -1 : now < end ? (int)(end - now) : 0);

		if (r < 0)
			return -errno;
		if (r == 0)
			return -ETIMEDOUT;
		r = agent_in_read(in, fd, ret);
		if (r != -EAGAIN)
			return r;
	}
}

/* ---- out ----------------------------------------------------------------------- */

void agent_out_done(struct agent_out *o)
{
	sb_done(&o->buf);
	o->sent = 0;
}

int agent_out_add(struct agent_out *o, enum agent_type type, unsigned stream, const void *data,
		  size_t len)
{
	struct agent_head h = {.type = (uint8_t)type, .stream = (uint8_t)stream,
			       .len = htole32((uint32_t)len)};

	sb_addn(&o->buf, &h, sizeof(h));
	if (len)
		sb_addn(&o->buf, data, len);
	return sb_ok(&o->buf);
}

int agent_out_add_u32(struct agent_out *o, enum agent_type type, uint32_t v)
{
	v = htole32(v);
	return agent_out_add(o, type, 0, &v, sizeof(v));
}

int agent_out_add_error(struct agent_out *o, int r, int status, const struct vps_err *err)
{
	uint32_t nums[2] = {htole32(err && err->code ? (uint32_t)err->code : (uint32_t)-r),
			    htole32((uint32_t)status)};
	const char *words = err && err->code ? err->msg : vps_code_str(r);
	char text[sizeof(nums) + sizeof(err->msg)];
	size_t n = strnlen(words, sizeof(err->msg) - 1);

	memcpy(text, nums, sizeof(nums));
	memcpy(text + sizeof(nums), words, n);
	return agent_out_add(o, AGENT_ERROR, 0, text, sizeof(nums) + n);
}

int agent_out_flush(struct agent_out *o, int fd, bool wait)
{
	while (o->sent < o->buf.len) {
		size_t len = o->buf.len - o->sent;
		ssize_t n = send(fd, o->buf.s + o->sent, len < AGENT_SEND_MAX ? len : AGENT_SEND_MAX,
				 MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && wait) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		o->sent += (size_t)n;
	}
	sb_reset(&o->buf);
	o->sent = 0;
	return 0;
}

int agent_send(int fd, enum agent_type type, unsigned stream, const void *data, size_t len)
{
	auto_done(agent_out_done) struct agent_out o = {0};
	int r = agent_out_add(&o, type, stream, data, len);

	return r < 0 ? r : agent_out_flush(&o, fd, true);
}

int agent_send_request(int fd, enum agent_type type, const void *data, size_t len)
{
	const char *p = data;

	if (len > AGENT_REQUEST_MAX)
		return -E2BIG;
	while (len > AGENT_DATA_MAX) {
		int r = agent_send(fd, AGENT_MORE, 0, p, AGENT_DATA_MAX);

		if (r < 0)
			return r;
		p += AGENT_DATA_MAX;
		len -= AGENT_DATA_MAX;
	}
	return agent_send(fd, type, 0, p, len);
}

/* ---- records ------------------------------------------------------------------- */

void rec_addn(struct strbuf *sb, const char *key, const void *p, size_t n)
{
	sb_addf(sb, "%s=%zu:", key, n);
	if (n)
		sb_addn(sb, p, n);
	sb_addc(sb, '\n');
}

void rec_add(struct strbuf *sb, const char *key, const char *value)
{
	if (value)
		rec_addn(sb, key, value, strlen(value));
}

void rec_add_u64(struct strbuf *sb, const char *key, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	rec_add(sb, key, text);
}

void rec_add_strv(struct strbuf *sb, const char *key, char *const *v)
{
	for (; v && *v; v++)
		rec_add(sb, key, *v);
}

/* Digits up to ':', at most 7 of them. */
static int rec_length(const char **p, const char *end, size_t *ret)
{
	size_t n = 0;
	int digits = 0;

	for (; *p < end && **p >= '0' && **p <= '9'; ++*p) {
		if (++digits > 7)
			return -EPROTO;
		n = n * 10 + (size_t)(**p - '0');
	}
	if (!digits || *p == end || *(*p)++ != ':')
		return -EPROTO;
	*ret = n;
	return 0;
}

int rec_next(const char **text, size_t *len, struct rec *ret)
{
	const char *p = *text, *end = p + *len;
	const char *eq;
	struct rec rec = {0};

	if (p == end)
		return 0;
	eq = memchr(p, '=', *len < REC_KEY_MAX ? *len : REC_KEY_MAX);
	if (!eq || eq == p || memchr(p, 0, (size_t)(eq - p)))
		return -EPROTO;
	memcpy(rec.key, p, (size_t)(eq - p));
	p = eq + 1;
	if (rec_length(&p, end, &rec.len) < 0 || (size_t)(end - p) <= rec.len || p[rec.len] != '\n')
		return -EPROTO;
	rec.value = malloc(rec.len + 1);
	if (!rec.value)
		return -ENOMEM;
	memcpy(rec.value, p, rec.len);
	rec.value[rec.len] = '\0';
	p += rec.len + 1;
	*len = (size_t)(end - p);
	*text = p;
	*ret = rec;
	return 1;
}

int rec_str(struct rec *r, char **ret)
{
	if (strlen(r->value) != r->len)
		return -EPROTO;
	free(*ret);
	*ret = take_ptr(r->value);
	return 0;
}

int rec_strv(struct rec *r, char ***ret)
{
	if (strlen(r->value) != r->len)
		return -EPROTO;
	return strv_take(ret, take_ptr(r->value));
}

int rec_u64(const struct rec *r, uint64_t max, uint64_t *ret)
{
	if (strlen(r->value) != r->len || parse_u64(r->value, max, ret) < 0)
		return -EPROTO;
	return 0;
}
