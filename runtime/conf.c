// SPDX-License-Identifier: GPL-2.0-or-later
/* vps.conf(5) and profiles: lines "key = value", '#' starts a comment line, [defaults] holds
 * options. */
#include <ctype.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/internal.h"

enum conf_type { CT_STR, CT_BOOL, CT_U32, CT_UINT, CT_SIZE, CT_MS, CT_STRV };

static const struct conf_key {
	const char *key;
	enum conf_type type;
	size_t off;
	uint64_t min, max;
} conf_keys[] = {
#define K(key, type, member, min, max)                                                             \
	{                                                                                          \
		key, type, offsetof(struct vps_conf, member), min, max                             \
	}
	K("tag", CT_STR, tag, 0, 0),
	K("root", CT_STR, root, 0, 0),
	K("run", CT_STR, run, 0, 0),
	/* below 65536 the host's own users live; the end: internal.h */
	K("uid-base", CT_U32, uid_base, 65536, RUNTIME_UID_END - RUNTIME_IDS_PER_VPS),
	K("first-id", CT_UINT, first_id, 1, 1000000),
	K("pool4", CT_STR, pool4, 0, 0),
	K("pool6", CT_STR, pool6, 0, 0),
	K("nat", CT_BOOL, nat, 0, 0),
	K("macvlan-unfiltered", CT_BOOL, macvlan_unfiltered, 0, 0),
	K("dns", CT_STRV, dns, 0, 0),
	K("default-registry", CT_STR, default_registry, 0, 0),
	K("default-image", CT_STR, default_image, 0, 0),
	K("disk-backend", CT_STR, disk_backend, 0, 0),
	K("lxcfs", CT_STR, lxcfs, 0, 0),
	K("criu", CT_STR, criu, 0, 0),
	K("console-log-max", CT_SIZE, console_log_max, 0, 1ull << 40),
	K("hook-timeout", CT_MS, hook_timeout_ms, 1, 3600000),
	K("lock-timeout", CT_MS, lock_timeout_ms, 0, 3600000),
#undef K
};

void conf_init(struct vps_conf *c)
{
	*c = (struct vps_conf){
		.uid_base = 0x20000000,
		.first_id = 101,
		.nat = true,
		.console_log_max = 1 << 20,
		.lock_timeout_ms = 10000,
		.hook_timeout_ms = 60000,
	};
}

void conf_done(struct vps_conf *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < ARRAY_LEN(conf_keys); i++) {
		void *p = (char *)c + conf_keys[i].off;
		if (conf_keys[i].type == CT_STR)
			free(*(char **)p);
		else if (conf_keys[i].type == CT_STRV)
			strv_free(*(char ***)p);
	}
	strv_free(c->defaults);
	conf_init(c);
}

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s;
}

/* "a" and 'a' are a: for values with blanks at their ends. */
static char *unquote(char *s)
{
	size_t n = strlen(s);

	if (n >= 2 && (*s == '"' || *s == '\'') && s[n - 1] == *s) {
		s[n - 1] = '\0';
		return s + 1;
	}
	return s;
}

static int set_bool(const char *v, bool *ret)
{
	if (str_eq(v, "yes") || str_eq(v, "true") || str_eq(v, "on") || str_eq(v, "1"))
		*ret = true;
	else if (str_eq(v, "no") || str_eq(v, "false") || str_eq(v, "off") || str_eq(v, "0"))
		*ret = false;
	else
		return -EINVAL;
	return 0;
}

static int set_strv(const char *v, char ***ret)
{
	auto_strv list = NULL;
	auto_strv parts = NULL;
	int r = strv_split(v, ", ", &parts);

	for (char **p = parts; r == 0 && *p; p++)
		if (**p)
			r = strv_add(&list, *p);
	if (r < 0)
		return r;
	strv_free(*ret);
	*ret = take_ptr(list);
	return 0;
}

/* Ranges of ids are thought of in hexadecimal. */
static int parse_u32(const char *v, uint64_t *ret)
{
	size_t n = str_starts(v, "0x") ? strlen(v + 2) : 0;

	if (n == 0)
		return parse_u64(v, UINT32_MAX, ret);
	if (strspn(v + 2, "0123456789abcdefABCDEF") != n)
		return -EINVAL;
	if (n > 8)
		return -ERANGE;
	*ret = strtoul(v, NULL, 16);
	return 0;
}

static int set_key(struct vps_conf *c, const struct conf_key *k, const char *v)
{
	void *p = (char *)c + k->off;
	uint64_t n = 0;
	int r = 0;

	switch (k->type) {
	case CT_STR:
		return str_set(p, v);
	case CT_STRV:
		return set_strv(v, p);
	case CT_BOOL:
		return set_bool(v, p);
	case CT_U32:
		r = parse_u32(v, &n);
		break;
	case CT_UINT:
		r = parse_u64(v, UINT32_MAX, &n);
		break;
	case CT_SIZE:
		r = parse_size(v, &n);
		break;
	case CT_MS:
		r = parse_duration_ms(v, &n);
		break;
	}
	if (r == 0 && (n < k->min || n > k->max))
		r = -ERANGE;
	if (r < 0)
		return r;
	if (k->type == CT_SIZE || k->type == CT_MS)
		*(uint64_t *)p = n;
	else
		*(uint32_t *)p = (uint32_t)n;
	return 0;
}

static int conf_line(struct vps_conf *c, const char *key, const char *v, struct vps_err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(conf_keys); i++) {
		if (!str_eq(conf_keys[i].key, key))
			continue;
		int r = set_key(c, &conf_keys[i], v);
		if (r == -ENOMEM)
			return vps_err_sys(err, r, "%s", key);
		if (r < 0)
			return vps_err_set(err, VPS_ECONF, "%s: '%.80s' is not a value for it", key,
					   v);
		return 0;
	}
	return vps_err_set(err, VPS_ECONF, "unknown key '%.60s' (see vps.conf(5))", key);
}

/* A default is tried out on a scratch definition: a wrong one is told now, not at the next create.
 */
static int default_line(struct vps_conf *c, const char *key, const char *v, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec scratch;
	const struct spec_option *o = spec_option_find(key);
	int r;

	spec_init(&scratch);
	r = spec_set(&scratch, key, v, err);
	if (r == 0)
		r = strv_addf(&c->defaults, "%s=%s", o->name, v);
	return r;
}

/* Calls fn for each "key = value" line; section is "" before the first [section]. */
static int each_line(const char *text, const char *name,
		     int (*fn)(void *arg, const char *section, const char *key, const char *v,
			       struct vps_err *err),
		     void *arg, struct vps_err *err)
{
	autofree char *copy = strdup(text);
	const char *section = "";
	char *rest = copy, *line;
	unsigned n = 0;

	if (!copy)
		return vps_err_sys(err, -ENOMEM, "%s", name);
	while ((line = strsep(&rest, "\n"))) {
		struct vps_err why = {0};
		char *eq;
		int r = 0;
		n++;
		line = trim(line);
		if (!*line || *line == '#')
			continue;
		if (*line == '[' && line[strlen(line) - 1] == ']') {
			line[strlen(line) - 1] = '\0';
			section = line + 1;
			continue;
		}
		eq = strchr(line, '=');
		if (!eq) {
			r = vps_err_set(&why, VPS_ECONF, "not 'key = value'");
		} else {
			*eq = '\0';
			r = fn(arg, section, trim(line), unquote(trim(eq + 1)), &why);
		}
		if (r < 0)
			return vps_err_set(err, VPS_ECONF, "%s:%u: %s", name, n,
					   why.code ? why.msg : vps_code_str(r));
	}
	return 0;
}

static int on_conf(void *arg, const char *section, const char *key, const char *v,
		   struct vps_err *err)
{
	if (!*section)
		return conf_line(arg, key, v, err);
	if (str_eq(section, "defaults"))
		return default_line(arg, key, v, err);
	return vps_err_set(err, VPS_ECONF, "unknown section [%.40s]", section);
}

static int check_tag(const char *tag, struct vps_err *err)
{
	/* Interfaces are <tag><id>: 15 characters (IFNAMSIZ) with up to 7 of them digits. */
	size_t n = strlen(tag);

	if (n == 0 || n > IFNAMSIZ - 1 - 7 || !islower((unsigned char)*tag) ||
	    strspn(tag, "abcdefghijklmnopqrstuvwxyz0123456789-") != n)
		return vps_err_set(err, VPS_ECONF,
				   "tag: 1 to 8 of a-z, 0-9 and '-', a letter in front");
	return 0;
}

int conf_parse(struct vps_conf *c, const char *text, const char *name, struct vps_err *err)
{
	int r = each_line(text, name, on_conf, c, err);

	if (r == 0 && c->tag)
		r = check_tag(c->tag, err);
	if (r == 0 && ((c->root && c->root[0] != '/') || (c->run && c->run[0] != '/')))
		r = vps_err_set(err, VPS_ECONF, "%s: root and run are absolute paths", name);
	return r;
}

static int on_profile(void *arg, const char *section, const char *key, const char *v,
		      struct vps_err *err)
{
	if (*section)
		return vps_err_set(err, VPS_ECONF, "a profile has no sections");
	return spec_set(arg, key, v, err);
}

int profile_parse(struct vps_spec *s, const char *text, const char *name, struct vps_err *err)
{
	return each_line(text, name, on_profile, s, err);
}
