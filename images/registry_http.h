/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTPS transfers, many at a time, for registry.c alone: the only file that knows libcurl, which
 * it loads when the first transfer needs it. Linked in, it and its forty libraries would cost every
 * other command, also `vps start`, several milliseconds.
 *
 * A transfer is one request and one response. Redirects, logins and retries are decided above: so
 * a redirect can never carry a credential along.
 */
#ifndef VPS_IMAGES_REGISTRY_HTTP_H
#define VPS_IMAGES_REGISTRY_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"

struct http;
struct http_conf {
	const char *ca_file;   /* PEM, added to the system's; NULL: none */
	bool plain;	       /* http:// to loopback addresses is allowed */
	bool plain_everywhere; /* … and to others */
};
/* conf stays the caller's and has to last. -VPS_EUNSUPPORTED without libcurl. */
int http_open(const struct http_conf *conf, struct http **ret, struct vps_err *err);
struct http *http_close(struct http *h);
/* 0, or -VPS_ENET: not a URL that we go to (scheme, user in it). */
int http_url_check(const struct http_conf *conf, const char *url, struct vps_err *err);
/* Same scheme, host and port? */
bool http_same_origin(const char *a, const char *b);

enum http_result {
	HTTP_RESPONSE,	/* a whole response; see status */
	HTTP_TRANSIENT, /* the connection failed or broke off: worth another try */
	HTTP_FATAL,	/* TLS refused, protocol broken */
	HTTP_SINK,	/* write said no */
};
struct http_xfer {
	const char *url;
	const char *authorization; /* the header's value; NULL: none */
	const char *accept;
	uint64_t from;		   /* Range: bytes=from-; 0: all */
	/* Body of a 200 or 206; anything but 0 stops the transfer. */
	int (*write)(struct http_xfer *x, const void *p, size_t n);
	void *arg;

	enum http_result result;
	char why[384]; /* words when not HTTP_RESPONSE */
	long status;
	char content_type[128];
	char digest[DIGEST_LEN];   /* Docker-Content-Digest; "" when none or odd */
	char *bearer;		   /* challenges of a 401 without their scheme; NULL: none */
	bool basic;
	char *location;		   /* of a redirect, absolute */
	int64_t retry_after;	   /* seconds; -1: not said */
	uint64_t range_start;	   /* of a 206; UINT64_MAX: not said */
	char body[512];		   /* head of a body of another status, NUL-terminated */

	void *easy, *headers; /* http's own */
	size_t body_len, header_bytes;
};
/* Start; x has to stay where it is until done or dropped. Afterwards http_drop it. */
int http_start(struct http *h, struct http_xfer *x, struct vps_err *err);
/* Wait at most timeout_ms for one to be done. 0 or -errno; *ret NULL: none yet. */
int http_wait(struct http *h, int timeout_ms, struct http_xfer **ret);
/* Start to end, blocking. */
int http_perform(struct http *h, struct http_xfer *x, struct vps_err *err);
/* Free what x holds; a running one is cut off. */
void http_drop(struct http *h, struct http_xfer *x);

#endif
