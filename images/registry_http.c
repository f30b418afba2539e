/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "images/registry_http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"

#define HEADER_MAX	(64u << 10)
#define CONNECT_TIMEOUT 30L /* s */
#define STALL_TIMEOUT	60L /* s without a byte */
#define SMALL_TIMEOUT	60L /* s for a whole blocking transfer (tokens) */

#define CURL_FUNCTIONS(X)                                                               \
	X(curl_global_init) X(curl_easy_init) X(curl_easy_cleanup) X(curl_easy_setopt)  \
	X(curl_easy_getinfo) X(curl_easy_perform) X(curl_easy_strerror)                 \
	X(curl_multi_init) X(curl_multi_cleanup) X(curl_multi_add_handle)               \
	X(curl_multi_remove_handle) X(curl_multi_perform) X(curl_multi_poll)            \
	X(curl_multi_info_read) X(curl_slist_append) X(curl_slist_free_all)

/* libcurl.h wraps the variadic ones in checking macros; the table has the plain functions. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

struct http {
	const struct http_conf *conf;
	CURLM *multi;
#define X(name) __typeof__(name) *name##_;
	CURL_FUNCTIONS(X)
#undef X
};

static int load(struct http *h, struct vps_err *err)
{
	/* Never unloaded: neither libcurl nor the TLS library below would survive it. */
	void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);

	if (!lib)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "pulling needs libcurl (on Debian: apt-get install libcurl4): %s",
				   dlerror());
#define X(name)                                                                         \
	h->name##_ = (__typeof__(h->name##_))dlsym(lib, #name);                         \
	if (!h->name##_)                                                                \
		return vps_err_set(err, VPS_EUNSUPPORTED, "this libcurl lacks " #name);
	CURL_FUNCTIONS(X)
#undef X
	return 0;
}

int http_open(const struct http_conf *conf, struct http **ret, struct vps_err *err)
{
	struct http *h = calloc(1, sizeof *h);

	if (!h)
		return vps_err_sys(err, -ENOMEM, "registry");
	h->conf = conf;
	int r = load(h, err);
	if (r == 0 && h->curl_global_init_(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		r = vps_err_set(err, VPS_EUNSUPPORTED, "libcurl does not start");
	if (r == 0 && !(h->multi = h->curl_multi_init_()))
		r = vps_err_sys(err, -ENOMEM, "libcurl");
	if (r < 0) {
		free(h);
		return r;
	}
	*ret = h;
	return 0;
}

struct http *http_close(struct http *h)
{
	if (h) {
		h->curl_multi_cleanup_(h->multi);
		free(h);
	}
	return NULL;
}

/* ---- URLs ----------------------------------------------------------------- */

/* Length of "scheme://authority", 0 when it is none. */
static size_t origin_len(const char *url)
{
	const char *p = strstr(url, "://");

	if (!p || p == url || p - url > 5)
		return 0;
	return (size_t)(p - url) + 3 + strcspn(p + 3, "/?#\\");
}

bool http_same_origin(const char *a, const char *b)
{
	size_t n = origin_len(a);

	return n && n == origin_len(b) && strncasecmp(a, b, n) == 0;
}

/* An address, not a name that only begins like one ("127.0.0.1.example"). */
static bool is_loopback(const char *authority, size_t len)
{
	char host[64];
	struct in_addr v4;
	size_t n = len;

	if (authority[0] == '[') {
		const char *end = memchr(authority, ']', len);
		n = end ? (size_t)(end - authority) + 1 : 0;
	} else {
		const char *colon = memchr(authority, ':', len);
		n = colon ? (size_t)(colon - authority) : len;
	}
	if (!n || n >= sizeof host)
		return false;
	memcpy(host, authority, n);
	host[n] = '\0';
	if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

int http_url_check(const struct http_conf *conf, const char *url, struct vps_err *err)
{
	size_t n = origin_len(url);
	bool https = strncasecmp(url, "https://", 8) == 0;
	bool http = strncasecmp(url, "http://", 7) == 0;
	const char *host = url + (https ? 8 : 7);

	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return vps_err_set(err, VPS_ENET, "a URL with odd bytes in it");
	if (!n || !(https || http) || memchr(url, '@', n))
		return vps_err_set(err, VPS_ENET, "not an https URL: %.200s", url);
	if (https || (conf->plain && (conf->plain_everywhere ||
				      is_loopback(host, n - (size_t)(host - url)))))
		return 0;
	return vps_err_set(err, VPS_ENET, "%s", conf->plain ?
			   "plain http is for loopback addresses only" :
			   "plain http refused; the registry or a redirect of it has no TLS");
}

/* ---- one transfer --------------------------------------------------------- */

/* "Name: value\r\n" with that name: the value's start and length. */
static const char *header_value(const char *line, size_t n, const char *name, size_t *ret_len)
{
	size_t k = strlen(name);

	if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':')
		return NULL;
	const char *v = line + k + 1, *end = line + n;
	while (v < end && (*v == ' ' || *v == '\t'))
		v++;
	while (end > v && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
		end--;
	*ret_len = (size_t)(end - v);
	return v;
}

static void keep(char *dst, size_t size, const char *v, size_t n)
{
	if (n < size) {
		memcpy(dst, v, n);
		dst[n] = '\0';
	}
}

static void take_challenge(struct http_xfer *x, const char *v, size_t n)
{
	if (n > 7 && strncasecmp(v, "Bearer ", 7) == 0 && !x->bearer)
		x->bearer = strndup(v + 7, n - 7);
	else if (n >= 5 && strncasecmp(v, "Basic", 5) == 0)
		x->basic = true;
}

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
	struct http_xfer *x = arg;
	const char *v;
	size_t len;

	(void)one;
	x->header_bytes += n;
	if (x->header_bytes > HEADER_MAX)
		return 0; /* curl gives up */
	/* A new status line (100 Continue, a proxy's CONNECT): what came before was not it. */
	if (n > 5 && strncmp(line, "HTTP/", 5) == 0) {
		x->content_type[0] = x->digest[0] = '\0';
		x->range_start = UINT64_MAX;
	} else if ((v = header_value(line, n, "content-type", &len))) {
		keep(x->content_type, sizeof x->content_type, v, len);
	} else if ((v = header_value(line, n, "docker-content-digest", &len))) {
		keep(x->digest, sizeof x->digest, v, len);
	} else if ((v = header_value(line, n, "www-authenticate", &len))) {
		take_challenge(x, v, len);
	} else if ((v = header_value(line, n, "content-range", &len))) {
		char buf[64] = "";
		uint64_t start;

		keep(buf, sizeof buf, v, len);
		if (sscanf(buf, "bytes %" SCNu64 "-", &start) == 1)
			x->range_start = start;
	}
	return n;
}

struct ctx {
	struct http *h;
	struct http_xfer *x;
	char text[CURL_ERROR_SIZE];
	bool refused;
};

static size_t on_body(char *p, size_t one, size_t n, void *arg)
{
	struct ctx *c = arg;
	struct http_xfer *x = c->x;

	(void)one;
	if (!x->status)
		c->h->curl_easy_getinfo_(x->easy, CURLINFO_RESPONSE_CODE, &x->status);
	if (x->status == 200 || x->status == 206) {
		if (x->write(x, p, n) == 0)
			return n;
		c->refused = true;
		return 0;
	}
	size_t room = sizeof x->body - 1 - x->body_len;
	size_t k = n < room ? n : room;
	memcpy(x->body + x->body_len, p, k);
	x->body_len += k;
	x->body[x->body_len] = '\0';
	/* Nobody reads an error page of a gigabyte. */
	return k < n ? 0 : n;
}

static int add_header(struct http *h, struct http_xfer *x, const char *name, const char *value)
{
	autofree char *line = str_fmt("%s: %s", name, value);
	struct curl_slist *l = line ? h->curl_slist_append_(x->headers, line) : NULL;

	if (!l)
		return -ENOMEM;
	x->headers = l;
	return 0;
}

static int set_headers(struct http *h, struct http_xfer *x)
{
	char range[64];
	int r = 0;

	if (x->accept)
		r = add_header(h, x, "Accept", x->accept);
	if (r == 0 && x->authorization)
		r = add_header(h, x, "Authorization", x->authorization);
	if (r == 0 && x->from) {
		snprintf(range, sizeof range, "bytes=%" PRIu64 "-", x->from);
		r = add_header(h, x, "Range", range);
	}
	return r;
}

static void set_options(struct http *h, struct http_xfer *x, struct ctx *c)
{
	CURL *e = x->easy;

#define SET(opt, value) h->curl_easy_setopt_(e, CURLOPT_##opt, value)
	SET(URL, x->url);
	SET(PRIVATE, (void *)c);
	SET(HTTPHEADER, x->headers);
	SET(USERAGENT, "vps/" PACKAGE_VERSION);
	SET(NOSIGNAL, 1L);
	SET(FOLLOWLOCATION, 0L);
	SET(NETRC, (long)CURL_NETRC_IGNORED);
	SET(SSL_VERIFYPEER, 1L);
	SET(SSL_VERIFYHOST, 2L);
	SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (h->conf->ca_file) {
		/* A CAINFO of ours replaces the system's bundle; its folder stays. */
		SET(CAINFO, h->conf->ca_file);
		SET(CAPATH, "/etc/ssl/certs");
	}
	SET(CONNECTTIMEOUT, CONNECT_TIMEOUT);
	SET(LOW_SPEED_LIMIT, 1L);
	SET(LOW_SPEED_TIME, STALL_TIMEOUT);
	SET(BUFFERSIZE, 256L << 10);
	SET(ERRORBUFFER, c->text);
	SET(HEADERFUNCTION, on_header);
	SET(HEADERDATA, (void *)x);
	SET(WRITEFUNCTION, on_body);
	SET(WRITEDATA, (void *)c);
#undef SET
}

static int prepare(struct http *h, struct http_xfer *x, struct vps_err *err)
{
	int r = http_url_check(h->conf, x->url, err);

	if (r < 0)
		return r;
	x->retry_after = -1;
	x->range_start = UINT64_MAX;
	struct ctx *c = calloc(1, sizeof *c);
	x->easy = h->curl_easy_init_();
	if (!c || !x->easy || set_headers(h, x) < 0) {
		free(c);
		http_drop(h, x);
		return vps_err_sys(err, -ENOMEM, "request");
	}
	c->h = h;
	c->x = x;
	set_options(h, x, c);
	return 0;
}

static bool is_transient(CURLcode c)
{
	switch (c) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_PARTIAL_FILE:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return true;
	default:
		return false;
	}
}

static void finish(struct http *h, struct ctx *c, CURLcode code)
{
	struct http_xfer *x = c->x;
	curl_off_t wait = 0;
	char *where = NULL;

	h->curl_easy_getinfo_(x->easy, CURLINFO_RESPONSE_CODE, &x->status);
	h->curl_easy_getinfo_(x->easy, CURLINFO_RETRY_AFTER, &wait);
	h->curl_easy_getinfo_(x->easy, CURLINFO_REDIRECT_URL, &where);
	if (wait > 0)
		x->retry_after = wait;
	if (where)
		x->location = strdup(where);
	if (c->refused)
		x->result = HTTP_SINK;
	else if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && x->status >= 300 &&
				      x->header_bytes <= HEADER_MAX))
		x->result = HTTP_RESPONSE;
	else
		x->result = is_transient(code) ? HTTP_TRANSIENT : HTTP_FATAL;
	snprintf(x->why, sizeof x->why, "%.100s%s%s", h->curl_easy_strerror_(code),
		 c->text[0] ? ": " : "", c->text);
	if (x->header_bytes > HEADER_MAX)
		snprintf(x->why, sizeof x->why, "more than %u bytes of headers", HEADER_MAX);
}

static void release(struct http *h, struct http_xfer *x)
{
	struct ctx *c = NULL;

	if (x->easy) {
		h->curl_easy_getinfo_(x->easy, CURLINFO_PRIVATE, (char **)&c);
		h->curl_multi_remove_handle_(h->multi, x->easy); /* not in it: no harm */
		h->curl_easy_cleanup_(x->easy);
		x->easy = NULL;
		free(c);
	}
	h->curl_slist_free_all_(x->headers);
	x->headers = NULL;
}

int http_start(struct http *h, struct http_xfer *x, struct vps_err *err)
{
	int r = prepare(h, x, err);

	if (r < 0)
		return r;
	if (h->curl_multi_add_handle_(h->multi, x->easy) != CURLM_OK)
		return vps_err_sys(err, -ENOMEM, "request");
	return 0;
}

int http_wait(struct http *h, int timeout_ms, struct http_xfer **ret)
{
	int running, left;
	CURLMsg *m;

	*ret = NULL;
	for (int round = 0; round < 2; round++) {
		if (h->curl_multi_perform_(h->multi, &running) != CURLM_OK)
			return -EIO;
		while ((m = h->curl_multi_info_read_(h->multi, &left))) {
			struct ctx *c = NULL;

			if (m->msg != CURLMSG_DONE)
				continue;
			h->curl_easy_getinfo_(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
			*ret = c->x;
			finish(h, c, m->data.result);
			release(h, *ret);
			return 0;
		}
		if (round == 0 && h->curl_multi_poll_(h->multi, NULL, 0, timeout_ms, NULL) !=
				  CURLM_OK)
			return -EIO;
	}
	return 0;
}

int http_perform(struct http *h, struct http_xfer *x, struct vps_err *err)
{
	struct ctx *c = NULL;
	int r = prepare(h, x, err);

	if (r < 0)
		return r;
	h->curl_easy_setopt_(x->easy, CURLOPT_TIMEOUT, SMALL_TIMEOUT);
	h->curl_easy_getinfo_(x->easy, CURLINFO_PRIVATE, (char **)&c);
	finish(h, c, h->curl_easy_perform_(x->easy));
	release(h, x);
	return 0;
}

void http_drop(struct http *h, struct http_xfer *x)
{
	release(h, x);
	free(x->bearer);
	free(x->location);
	x->bearer = x->location = NULL;
}
