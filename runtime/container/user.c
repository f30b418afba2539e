/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Users of a VPS, passwd(5) and group(5): the tenant's files, hostile, read by a parser of our own. libc's would load
 * what the tenant's nsswitch.conf names.
 */
#include "runtime/container/container.h"

#include <stdio.h>
#include <string.h>

#include "base/inroot.h"

#define FILE_MAX (4u << 20)

struct field { const char *s; size_t len; };

/* Cut [s, s+len) at sep into at most max fields; the last gets the rest. */
static size_t cut(const char *s, size_t len, char sep, struct field *f, size_t max)
{
	size_t n = 0;
	while (n < max) {
		const char *end = n + 1 < max ? memchr(s, sep, len) : NULL;
		size_t here = end ? (size_t)(end - s) : len;
		f[n++] = (struct field){s, here};
		if (!end)
			break;
		s += here + 1;
		len -= here + 1;
	}
	return n;
}

static bool is(const struct field *f, const char *s)
{
	return strlen(s) == f->len && memcmp(f->s, s, f->len) == 0;
}

/* Decimal id below 65536, or -1. */
static long number(const struct field *f)
{
	long v = 0;
	if (f->len == 0 || f->len > 5)
		return -1;
	for (size_t i = 0; i < f->len; i++) {
		if (f->s[i] < '0' || f->s[i] > '9')
			return -1;
		v = v * 10 + (f->s[i] - '0');
	}
	return v < (long)VPS_N_IDS ? v : -1;
}

/* False, and out "", when it does not fit or holds a NUL: never a cut path. */
static bool keep(const struct field *f, char *out, size_t size)
{
	out[0] = 0;
	if (f->len >= size || memchr(f->s, 0, f->len))
		return false;
	memcpy(out, f->s, f->len);
	out[f->len] = 0;
	return true;
}

/* The next line of [*s, *s + *len); false at the end. */
static bool next_line(const char **s, size_t *len, struct field *line)
{
	if (*len == 0)
		return false;
	const char *end = memchr(*s, '\n', *len);
	size_t n = end ? (size_t)(end - *s) : *len;
	*line = (struct field){*s, n};
	*s += n + (end != NULL);
	*len -= n + (end != NULL);
	return true;
}

int user_find(const char *text, size_t len, const char *name, long uid, struct vps_user *ret)
{
	struct field line, f[7];
	while (next_line(&text, &len, &line)) {
		if (cut(line.s, line.len, ':', f, 7) != 7 || f[0].len == 0)
			continue;
		long u = number(&f[2]), g = number(&f[3]);
		if (u < 0 || g < 0 || (name ? !is(&f[0], name) : u != uid))
			continue;
		ret->uid = (uid_t)u;
		ret->gid = (gid_t)g;
		keep(&f[0], ret->name, sizeof(ret->name));
		if (!keep(&f[5], ret->home, sizeof(ret->home)) || ret->home[0] != '/')
			strcpy(ret->home, "/");
		keep(&f[6], ret->shell, sizeof(ret->shell));
		return 1;
	}
	return 0;
}

int group_find(const char *text, size_t len, const char *name, gid_t *ret)
{
	struct field line, f[4];
	while (next_line(&text, &len, &line)) {
		if (cut(line.s, line.len, ':', f, 4) < 3 || !is(&f[0], name))
			continue;
		long g = number(&f[2]);
		if (g < 0)
			continue;
		*ret = (gid_t)g;
		return 1;
	}
	return 0;
}

static void add_group(struct vps_user *u, gid_t g)
{
	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] == g)
			return;
	if (u->n_groups < USER_GROUPS_MAX)
		u->groups[u->n_groups++] = g;
}

static bool lists(struct field members, const char *user)
{
	struct field f[2];
	while (members.len) {
		size_t n = cut(members.s, members.len, ',', f, 2);
		if (is(&f[0], user))
			return true;
		if (n < 2)
			return false;
		members = f[1];
	}
	return false;
}

void group_members(const char *text, size_t len, const char *user, struct vps_user *ret)
{
	struct field line, f[4];
	while (next_line(&text, &len, &line)) {
		if (cut(line.s, line.len, ':', f, 4) != 4)
			continue;
		long g = number(&f[2]);
		if (g >= 0 && lists(f[3], user))
			add_group(ret, (gid_t)g);
	}
}

/* "" when there is no such file. */
static int load(int root, const char *path, char **ret, size_t *len, struct vps_err *err)
{
	int r = inroot_read_file(root, path, FILE_MAX, ret, len);
	if (r == -ENOENT || r == -ENOTDIR) {
		*ret = strdup("");
		*len = 0;
		return *ret ? 0 : -ENOMEM;
	}
	return r < 0 ? vps_err_sys(err, r, "read the VPS's %s", path) : 0;
}

static int no_such(const char *what, const char *name, struct vps_err *err)
{
	autofree char *shown = str_escape(name);
	return vps_err_set(err, VPS_EEXEC, "no %s '%s' in the VPS", what, shown ? shown : "");
}

static int find_user(const char *text, size_t len, const char *who, struct vps_user *u,
		     struct vps_err *err)
{
	long n = number(&(struct field){who, strlen(who)});
	if (n < 0)
		return user_find(text, len, who, -1, u) ? 0 : no_such("user", who, err);
	if (!user_find(text, len, NULL, n, u)) {
		u->uid = (uid_t)n;
		u->gid = 0; /* as everybody else does */
		strcpy(u->home, n == 0 ? "/root" : "/");
	}
	return 0;
}

static int find_group(const char *text, size_t len, const char *who, struct vps_user *u,
		      struct vps_err *err)
{
	long n = number(&(struct field){who, strlen(who)});
	if (n >= 0)
		u->gid = (gid_t)n;
	else if (!group_find(text, len, who, &u->gid))
		return no_such("group", who, err);
	return 0;
}

int user_lookup(int root, const char *who, struct vps_user *ret, struct vps_err *err)
{
	autofree char *passwd = NULL, *group = NULL;
	size_t passwd_len = 0, group_len = 0;
	autofree char *name = strdup(who && *who ? who : "0");
	if (!name)
		return vps_err_sys(err, -ENOMEM, "user");
	char *colon = strchr(name, ':');
	if (colon)
		*colon = 0;
	*ret = (struct vps_user){0};
	int r = load(root, "/etc/passwd", &passwd, &passwd_len, err);
	if (r >= 0)
		r = load(root, "/etc/group", &group, &group_len, err);
	if (r >= 0)
		r = find_user(passwd, passwd_len, name, ret, err);
	if (r >= 0 && colon)
		r = find_group(group, group_len, colon + 1, ret, err);
	if (r < 0)
		return r;
	add_group(ret, ret->gid);
	if (ret->name[0] && !colon)
		group_members(group, group_len, ret->name, ret);
	return 0;
}
