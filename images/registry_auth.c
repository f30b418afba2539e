/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Logins: who we are, from options or a file, and how a registry's challenge is answered
 * (Bearer token servers as in the distribution project's token specification, RFC 7617 Basic). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "images/registry.h"
#include "images/registry_http.h"

#define AUTH_FILE_MAX (1u << 20)
#define TOKEN_DOC_MAX (256u << 10)
#define TOKEN_MAX     (32u << 10)

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void sb_base64(struct strbuf *sb, const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)(unsigned char)s[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)(unsigned char)s[i + 1] << 8;
		if (i + 2 < n)
			v |= (unsigned char)s[i + 2];
		sb_addc(sb, b64[v >> 18]);
		sb_addc(sb, b64[v >> 12 & 63]);
		sb_addc(sb, i + 1 < n ? b64[v >> 6 & 63] : '=');
		sb_addc(sb, i + 2 < n ? b64[v & 63] : '=');
	}
}

/* NULL when it is no base64 or holds a NUL. */
static char *base64_text(const char *s)
{
	auto_strbuf sb = STRBUF_INIT;
	uint32_t v = 0;
	unsigned bits = 0;

	for (; *s && *s != '='; s++) {
		const char *p = strchr(b64, *s);
		if (!p)
			return NULL;
		v = v << 6 | (uint32_t)(p - b64);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			char c = (char)(v >> bits & 0xff);
			if (!c)
				return NULL;
			sb_addc(&sb, c);
		}
	}
	return sb_take(&sb);
}

void reg_login_done(struct reg_login *l)
{
	if (l->password)
		explicit_bzero(l->password, strlen(l->password));
	free(l->user);
	free(l->password);
	l->user = l->password = NULL;
}

/* Keys are hosts, of old also "https://host/v1/". */
static bool key_is_host(const char *key, const char *host)
{
	size_t n = strlen(host);

	if (str_starts(key, "https://"))
		key += 8;
	return strncasecmp(key, host, n) == 0 && (!key[n] || key[n] == '/');
}

static int split_login(char *both, struct reg_login *ret)
{
	char *colon = strchr(both, ':');

	if (!colon)
		return -EINVAL;
	*colon = '\0';
	ret->user = strdup(both);
	ret->password = strdup(colon + 1);
	return ret->user && ret->password ? 0 : -ENOMEM;
}

static int from_file(const char *path, const char *host, struct reg_login *ret,
		     struct vps_err *err)
{
	autofree char *text = NULL;
	auto_json doc = NULL;
	size_t len;

	int r = fs_read(AT_FDCWD, path, AUTH_FILE_MAX, &text, &len);
	if (r < 0)
		return vps_err_sys(err, r, "auth file %s", path);
	r = json_parse(text, len, &doc, err);
	explicit_bzero(text, len);
	if (r < 0)
		return vps_err_wrap(err, r, "auth file %s", path);
	const struct json *auths = json_get(doc, "auths");
	for (size_t i = 0; i < json_len(auths) && json_type(auths) == JSON_OBJECT; i++) {
		const struct json *a = json_at(auths, i);

		if (!key_is_host(json_key(auths, i), host))
			continue;
		const char *auth = json_str(json_get(a, "auth"), NULL);
		if (!auth)
			return vps_err_set(err, VPS_EAUTH,
					   "auth file %s: the entry of %s has no \"auth\" (identity "
					   "tokens and credential helpers are not supported)", path, host);
		autofree char *both = base64_text(auth);
		r = both ? split_login(both, ret) : -EINVAL;
		if (both)
			explicit_bzero(both, strlen(both));
		return r < 0 ? vps_err_set(err, VPS_EAUTH, "auth file %s: the entry of %s is "
					   "broken", path, host) : 0;
	}
	return 0;
}

int reg_login_find(const struct img_pull_opts *p, const char *host, struct reg_login *ret,
		   struct vps_err *err)
{
	if (p->user) {
		if (!p->password)
			return vps_err_set(err, VPS_EAUTH, "a user without a password");
		ret->user = strdup(p->user);
		ret->password = strdup(p->password);
		return ret->user && ret->password ? 0 : vps_err_sys(err, -ENOMEM, "login");
	}
	return p->auth_file ? from_file(p->auth_file, host, ret, err) : 0;
}

/* ---- challenges ----------------------------------------------------------- */

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == ',')
		p++;
	return p;
}

/* Value at p, quoted or a token, into sb; behind it, or NULL when broken. */
static const char *take_value(const char *p, struct strbuf *sb)
{
	if (*p != '"') {
		size_t n = strcspn(p, ", \t");

		sb_addn(sb, p, n);
		return p + n;
	}
	for (p++; *p && *p != '"'; p++) {
		if (*p == '\\' && p[1])
			p++;
		sb_addc(sb, *p);
	}
	return *p ? p + 1 : NULL;
}

char *reg_challenge_param(const char *challenge, const char *key)
{
	const char *p = skip_space(challenge);

	while (*p) {
		auto_strbuf sb = STRBUF_INIT;
		size_t n = strcspn(p, "= ,");
		bool ours = n == strlen(key) && strncasecmp(p, key, n) == 0;

		if (!n || p[n] != '=')
			return NULL;
		p = take_value(p + n + 1, &sb);
		if (!p)
			return NULL;
		if (ours)
			return sb_take(&sb);
		p = skip_space(p);
	}
	return NULL;
}

static void add_encoded(struct strbuf *sb, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		/* isalnum(3) would ask the locale. */
		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    strchr("-._~", c))
			sb_addc(sb, (char)c);
		else
			sb_addf(sb, "%%%02X", c);
	}
}

static int basic_value(const struct reg_login *l, char **ret)
{
	auto_strbuf sb = STRBUF_INIT;
	autofree char *both = str_fmt("%s:%s", l->user, l->password);

	if (!both)
		return -ENOMEM;
	sb_add(&sb, "Basic ");
	sb_base64(&sb, both);
	explicit_bzero(both, strlen(both));
	*ret = sb_take(&sb);
	return *ret ? 0 : -ENOMEM;
}

static int on_token(struct http_xfer *x, const void *p, size_t n)
{
	struct strbuf *sb = x->arg;

	if (n > TOKEN_DOC_MAX - sb->len)
		return -EFBIG;
	sb_addn(sb, p, n);
	return sb_ok(sb);
}

static int token_of(const struct strbuf *sb, char **ret, struct vps_err *err)
{
	auto_json doc = NULL;
	int r = json_parse(sb->s ? sb->s : "", sb->len, &doc, err);

	if (r < 0)
		return vps_err_wrap(err, r, "token server");
	const char *t = json_str(json_get(doc, "token"), NULL);
	if (!t)
		t = json_str(json_get(doc, "access_token"), NULL);
	if (!t || !*t || strlen(t) > TOKEN_MAX)
		return vps_err_set(err, VPS_EAUTH, "the token server sent no token");
	/* It goes into a header: nothing that could end one. */
	for (const char *p = t; *p; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return vps_err_set(err, VPS_EAUTH, "the token server sent an odd token");
	*ret = str_fmt("Bearer %s", t);
	return *ret ? 0 : vps_err_sys(err, -ENOMEM, "token");
}

static int token_url(const struct reg_login *l, const char *bearer, char **ret,
		     struct vps_err *err)
{
	auto_strbuf url = STRBUF_INIT;
	autofree char *realm = reg_challenge_param(bearer, "realm");
	autofree char *service = reg_challenge_param(bearer, "service");

	if (!realm)
		return vps_err_set(err, VPS_EAUTH, "the registry's challenge has no realm");
	sb_add(&url, realm);
	sb_addc(&url, strchr(realm, '?') ? '&' : '?');
	if (service) {
		sb_add(&url, "service=");
		add_encoded(&url, service);
		sb_addc(&url, '&');
	}
	/* Our own scope, not the challenge's: no more than we came for. */
	sb_add(&url, "scope=");
	autofree char *scope = str_fmt("repository:%s:pull", l->path);
	add_encoded(&url, scope ? scope : "");
	*ret = scope ? sb_take(&url) : NULL;
	return *ret ? 0 : vps_err_sys(err, -ENOMEM, "token");
}

static int ask_token(struct http *h, const struct http_conf *conf, const struct reg_login *l,
		     const char *bearer, char **ret, struct vps_err *err)
{
	autofree char *url = NULL, *basic = NULL;
	auto_strbuf body = STRBUF_INIT;

	int r = token_url(l, bearer, &url, err);
	if (r < 0)
		return r;
	if (l->user && (r = basic_value(l, &basic)) < 0)
		return vps_err_sys(err, r, "token");
	struct http_xfer x = {.url = url, .authorization = basic, .write = on_token, .arg = &body};
	r = http_perform(h, &x, err);
	if (basic)
		explicit_bzero(basic, strlen(basic));
	if (r < 0)
		return vps_err_wrap(err, r, "token server");
	http_drop(h, &x);
	if (x.result == HTTP_TRANSIENT ||
	    (x.result == HTTP_RESPONSE && (x.status == 429 || x.status >= 500)))
		return 1;
	if (x.result != HTTP_RESPONSE)
		return vps_err_set(err, VPS_ENET, "token server: %s", x.why);
	if (x.status == 401 || x.status == 403)
		return vps_err_set(err, VPS_EAUTH, "the token server refuses %s%s",
				   l->user ? "user " : "anonymous pulls; give --user or --auth-file",
				   l->user ? l->user : "");
	if (x.status != 200)
		return vps_err_set(err, VPS_EAUTH, "the token server answered %ld", x.status);
	return token_of(&body, ret, err);
}

int reg_answer(struct http *h, const struct http_conf *conf, const struct reg_login *l,
	       const char *bearer, bool basic, char **ret_value, struct vps_err *err)
{
	if (bearer)
		return ask_token(h, conf, l, bearer, ret_value, err);
	if (!basic)
		return vps_err_set(err, VPS_EAUTH, "the registry wants a login of a kind that we do "
				   "not know");
	if (!l->user)
		return vps_err_set(err, VPS_EAUTH,
				   "the registry wants a login; give --user or --auth-file");
	int r = basic_value(l, ret_value);
	return r < 0 ? vps_err_sys(err, r, "login") : 0;
}
