/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/err.h"

#include <stdio.h>
#include <string.h>

static const char *const own_words[] = {
	[VPS_ENOVPS - 1000] = "no such VPS",
	[VPS_ENOIMAGE - 1000] = "no such image",
	[VPS_EEXISTS - 1000] = "already taken",
	[VPS_ELOCKED - 1000] = "locked by another command",
	[VPS_ESTATE - 1000] = "wrong state for this operation",
	[VPS_EUSAGE - 1000] = "bad option or value",
	[VPS_EUNSUPPORTED - 1000] = "not supported on this host",
	[VPS_ERESOURCE - 1000] = "out of resources",
	[VPS_EBADIMAGE - 1000] = "broken image",
	[VPS_EDIGEST - 1000] = "content does not match its digest",
	[VPS_ENET - 1000] = "network failure",
	[VPS_EAUTH - 1000] = "not authorized",
	[VPS_ETIMEDOUT - 1000] = "timed out",
	[VPS_EEXEC - 1000] = "the command could not be started",
	[VPS_ECONF - 1000] = "bad configuration",
	[VPS_EINTERRUPTED - 1000] = "interrupted",
};

const char *vps_code_str(int code)
{
	const char *words = NULL;

	/* Not abs(): it is undefined for INT_MIN. */
	unsigned u = code < 0 ? -(unsigned)code : (unsigned)code;

	if (u >= 1000 && u - 1000 < sizeof(own_words) / sizeof(own_words[0]))
		words = own_words[u - 1000];
	else if (u < 1000)
		/* Unlike strerror(3): no locale, no static buffer, safe after vfork. */
		words = strerrordesc_np((int)u);
	return words ? words : "unknown error";
}

/* A message cut in the middle of a UTF-8 sequence would be invalid text. */
static void trim_cut_sequence(char *msg, size_t len)
{
	size_t i = len;

	while (i > 0 && len - i < 3 && ((unsigned char)msg[i - 1] & 0xc0) == 0x80)
		i--;
	if (i == 0)
		return;

	unsigned char lead = (unsigned char)msg[i - 1];
	size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;

	if (want > len - i + 1)
		msg[i - 1] = '\0';
}

static void __attribute__((format(printf, 2, 0)))
fill(struct vps_err *err, const char *fmt, va_list ap)
{
	int n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);

	if (n < 0)
		err->msg[0] = '\0';
	else if ((size_t)n >= sizeof(err->msg))
		trim_cut_sequence(err->msg, sizeof(err->msg) - 1);
}

static void __attribute__((format(printf, 2, 3))) append(struct vps_err *err, const char *fmt, ...)
{
	size_t len = strlen(err->msg);
	size_t room = sizeof(err->msg) - len;
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(err->msg + len, room, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n >= room)
		trim_cut_sequence(err->msg, sizeof(err->msg) - 1);
}

int vps_err_set(struct vps_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (code < 0)
		code = -code;
	if (!err)
		return -code;
	if (err->code)
		return -err->code;
	err->code = code;
	va_start(ap, fmt);
	fill(err, fmt, ap);
	va_end(ap);
	return -code;
}

int vps_err_sys(struct vps_err *err, int r, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return r;
	if (err->code)
		return -err->code;
	err->code = r < 0 ? -r : r;
	va_start(ap, fmt);
	fill(err, fmt, ap);
	va_end(ap);
	append(err, ": %s", vps_code_str(r));
	return r;
}

int vps_err_wrap(struct vps_err *err, int r, const char *fmt, ...)
{
	struct vps_err inner;
	va_list ap;

	if (!err)
		return r;
	inner = *err;
	if (!err->code)
		err->code = r < 0 ? -r : r;
	va_start(ap, fmt);
	fill(err, fmt, ap);
	va_end(ap);
	append(err, ": %s", inner.code ? inner.msg : vps_code_str(r));
	return r;
}

void vps_err_clear(struct vps_err *err)
{
	if (err)
		*err = (struct vps_err){0};
}
