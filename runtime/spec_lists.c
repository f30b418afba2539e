// SPDX-License-Identifier: GPL-2.0-or-later
/* Settings that may be given several times. Each change is made on a copy, which takes the old
 * list's place when all of it was good. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "runtime/spec_fields.h"
#include "runtime/spec_set.h"

static int usage(struct vps_err *err, const char *v, const char *why)
{
	autofree char *safe = str_escape(v);

	return vps_err_set(err, VPS_EUSAGE, "'%.80s': %s", safe ? safe : "?", why);
}

/* Do entry and want name the same thing? */
static bool same_entry(const char *entry, const char *want, bool keyed)
{
	size_t n;

	if (str_eq(entry, want))
		return true;
	if (!keyed)
		return false;
	n = strcspn(want, "=");
	return strncmp(entry, want, n) == 0 && entry[n] == '=';
}

static bool list_drop(char **v, const char *want, bool keyed)
{
	bool found = false;
	char **to = v;

	for (char **from = v; from && *from; from++) {
		if (same_entry(*from, want, keyed)) {
			free(*from);
			found = true;
		} else {
			*to++ = *from;
		}
	}
	if (to)
		*to = NULL;
	return found;
}

static int list_change(char ***v, const struct spec_setter *how, const char *entry,
		       struct vps_err *err)
{
	int r;

	if (*entry == '-' && entry[1]) {
		if (!list_drop(*v, entry + 1, how->keyed))
			return usage(err, entry + 1, "is not there, so it cannot be taken away");
		return 0;
	}
	r = how->chk ? how->chk(entry, err) : 0;
	if (r < 0)
		return r;
	if (how->keyed)
		list_drop(*v, entry, true);
	else if (*v && strv_has(*v, entry))
		return 0;
	r = strv_add(v, entry);
	return r < 0 ? vps_err_sys(err, r, "setting") : 0;
}

/* An empty list and none are the same thing in a definition. */
static void list_store(char ***dst, char ***src)
{
	strv_free(*dst);
	*dst = take_ptr(*src);
	if (*dst && !**dst)
		*dst = strv_free(*dst);
}

int spec_set_list(struct vps_spec *s, const struct spec_setter *how, const char *v,
		  struct vps_err *err)
{
	char ***member = (char ***)((char *)s + how->off);
	auto_strv copy = NULL;
	auto_strv parts = NULL;
	int r;

	if (!*v) {
		*member = strv_free(*member);
		return 0;
	}
	r = strv_copy(&copy, *member);
	if (r == 0)
		r = strv_split(v, how->seps ? how->seps : "", &parts);
	if (r < 0)
		return vps_err_sys(err, r, "setting");
	for (char **p = parts; *p; p++) {
		r = list_change(&copy, how, *p, err);
		if (r < 0)
			return r;
	}
	list_store(member, &copy);
	return 0;
}

/* net_raw, NET_RAW, CAP_NET_RAW: one spelling. */
int spec_set_caps(struct vps_spec *s, const struct spec_setter *how, const char *v,
		  struct vps_err *err)
{
	struct spec_setter list = {.off = how->off, .chk = spec_chk_cap, .seps = ","};
	auto_strbuf sb = STRBUF_INIT;
	auto_strv parts = NULL;

	if (!*v)
		return spec_set_list(s, &list, v, err);
	if (strv_split(v, ",", &parts) < 0)
		return vps_err_sys(err, -ENOMEM, "capabilities");
	for (char **p = parts; *p; p++) {
		char *name = *p;
		if (sb.len)
			sb_addc(&sb, ',');
		if (*name == '-') {
			sb_addc(&sb, '-');
			name++;
		}
		for (char *c = name; *c; c++)
			*c = (char)toupper((unsigned char)*c);
		sb_addf(&sb, "%s%s", str_starts(name, "CAP_") ? "" : "CAP_", name);
	}
	return spec_set_list(s, &list, sb_str(&sb), err);
}

static void mount_drop(struct vps_spec *s, size_t i)
{
	free(s->mounts[i].src);
	free(s->mounts[i].dst);
	memmove(&s->mounts[i], &s->mounts[i + 1], (s->n_mounts - i - 1) * sizeof(*s->mounts));
	s->n_mounts--;
}

static bool mount_find(const struct vps_spec *s, const char *dst, size_t *ret)
{
	for (size_t i = 0; i < s->n_mounts; i++) {
		if (str_eq(s->mounts[i].dst, dst)) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static int mount_parse(const char *v, struct spec_mount *ret, struct vps_err *err)
{
	auto_strv part = NULL;
	struct spec_mount m = {0};
	size_t n;
	int r;

	if (strv_split(v, ":", &part) < 0)
		return vps_err_sys(err, -ENOMEM, "mount");
	n = strv_len(part);
	if (n < 2 || n > 3 || (n == 3 && !str_eq(part[2], "ro") && !str_eq(part[2], "rw")))
		return usage(err, v, "a mount is SRC:DST[:ro]; for example /srv/data:/data:ro");
	r = spec_chk_abs_path(part[0], err);
	if (r == 0)
		r = spec_chk_abs_path(part[1], err);
	if (r < 0)
		return r;
	m.src = take_ptr(part[0]);
	m.dst = take_ptr(part[1]);
	m.ro = n == 3 && str_eq(part[2], "ro");
	for (size_t i = 2; i < n; i++) /* strv_free stops at the first NULL */
		free(take_ptr(part[i]));
	*ret = m;
	return 0;
}

int spec_set_mount(struct vps_spec *s, const struct spec_setter *how, const char *v,
		   struct vps_err *err)
{
	struct spec_mount m = {0}, *grown;
	size_t i;
	int r;

	if (!*v) {
		while (s->n_mounts)
			mount_drop(s, s->n_mounts - 1);
		return 0;
	}
	if (*v == '-') {
		if (!mount_find(s, v + 1, &i))
			return usage(err, v + 1, "nothing is mounted there");
		mount_drop(s, i);
		return 0;
	}
	r = mount_parse(v, &m, err);
	if (r < 0)
		return r;
	grown = reallocarray(s->mounts, s->n_mounts + 1, sizeof(*grown));
	if (!grown) {
		free(m.src);
		free(m.dst);
		return vps_err_sys(err, -ENOMEM, "mount");
	}
	s->mounts = grown;
	if (mount_find(s, m.dst, &i))
		mount_drop(s, i);
	s->mounts[s->n_mounts++] = m;
	return 0;
}

static int io_max_field(struct spec_io_max *m, char *word, struct vps_err *err)
{
	char *eq = strchr(word, '=');
	uint64_t n, *to = NULL;
	bool bytes = false;

	if (eq)
		*eq = '\0';
	if (str_eq(word, "rbps"))
		to = &m->rbps, bytes = true;
	else if (str_eq(word, "wbps"))
		to = &m->wbps, bytes = true;
	else if (str_eq(word, "riops"))
		to = &m->riops;
	else if (str_eq(word, "wiops"))
		to = &m->wiops;
	if (!to || !eq)
		return usage(err, word,
			     "io-max takes rbps, wbps, riops and wiops; for example "
			     "/dev/sda:rbps=20M,wiops=500");
	if (str_eq(eq + 1, "max"))
		n = SPEC_MAX;
	else if ((bytes ? parse_size(eq + 1, &n) : parse_u64(eq + 1, SPEC_BYTES_MOST, &n)) < 0 ||
		 n == 0 || (n > SPEC_BYTES_MOST && n != SPEC_MAX))
		return usage(err, eq + 1, "not a number of bytes or operations a second");
	*to = n;
	return 0;
}

static int io_max_parse(const char *v, struct spec_io_max *m, struct vps_err *err)
{
	const char *colon = strrchr(v, ':');
	auto_strv words = NULL;
	int r;

	if (!colon || !strchr(colon, '='))
		return usage(err, v,
			     "io-max is DEVICE:LIMITS; for example "
			     "/dev/sda:rbps=20M,wbps=10M");
	m->rbps = m->wbps = m->riops = m->wiops = SPEC_UNSET;
	m->device = strndup(v, (size_t)(colon - v));
	if (!m->device || strv_split(colon + 1, ",", &words) < 0)
		return vps_err_sys(err, -ENOMEM, "io-max");
	r = spec_chk_io_device(m->device, err);
	for (char **p = words; r == 0 && *p; p++)
		r = io_max_field(m, *p, err);
	return r;
}

static void io_max_drop(struct vps_spec *s, const char *device)
{
	size_t to = 0;

	for (size_t i = 0; i < s->n_io_max; i++) {
		if (str_eq(s->io_max[i].device, device))
			free(s->io_max[i].device);
		else
			s->io_max[to++] = s->io_max[i];
	}
	s->n_io_max = to;
}

int spec_set_io_max(struct vps_spec *s, const struct spec_setter *how, const char *v,
		    struct vps_err *err)
{
	struct spec_io_max m = {0}, *grown;
	int r;

	if (!*v) {
		while (s->n_io_max)
			free(s->io_max[--s->n_io_max].device);
		return 0;
	}
	if (*v == '-') {
		size_t was = s->n_io_max;
		io_max_drop(s, v + 1);
		return s->n_io_max < was ? 0 : usage(err, v + 1, "has no limit here");
	}
	r = io_max_parse(v, &m, err);
	if (r < 0) {
		free(m.device);
		return r;
	}
	grown = reallocarray(s->io_max, s->n_io_max + 1, sizeof(*grown));
	if (!grown) {
		free(m.device);
		return vps_err_sys(err, -ENOMEM, "io-max");
	}
	s->io_max = grown;
	io_max_drop(s, m.device);
	s->io_max[s->n_io_max++] = m;
	return 0;
}

/* A file of public keys, one a line, or one key itself. */
int spec_set_ssh_key(struct vps_spec *s, const struct spec_setter *how, const char *v,
		     struct vps_err *err)
{
	struct spec_setter list = {.off = offsetof(struct vps_spec, ssh_keys),
				   .chk = spec_chk_ssh_key};
	autofree char *text = NULL;
	auto_strv lines = NULL;
	auto_strv copy = NULL;
	size_t len;
	int r;

	if (!*v || *v == '-' || str_starts(v, "ssh-") || str_starts(v, "ecdsa-") ||
	    str_starts(v, "sk-"))
		return spec_set_list(s, &list, v, err);
	r = fs_read(AT_FDCWD, v, 256 << 10, &text, &len);
	if (r < 0)
		return vps_err_sys(err, r, "key file '%s'", v);
	if (strlen(text) != len)
		return usage(err, v, "not a file of ssh public keys");
	r = strv_split(text, "\n", &lines);
	if (r == 0)
		r = strv_copy(&copy, s->ssh_keys);
	if (r < 0)
		return vps_err_sys(err, r, "ssh-key");
	for (char **p = lines; *p; p++) {
		if (!**p || **p == '#')
			continue;
		r = list_change(&copy, &list, *p, err);
		if (r < 0)
			return vps_err_wrap(err, r, "%s", v);
	}
	list_store(&s->ssh_keys, &copy);
	return 0;
}
