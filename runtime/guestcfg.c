/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /vps/config, runtime/guestcfg.h. Pure. */
#include "runtime/guestcfg.h"

#include <string.h>

#include "runtime/guest/agent.h"
#include "runtime/guestconf.h"

#define VERSION 1

void guest_cfg_done(struct guest_cfg *c)
{
	char **strvs[] = {c->argv, c->env, c->sysctls, c->addrs, c->old_addrs};
	char *strs[] = {c->user, c->cwd, c->hostname, c->uuid, c->gw4, c->gw6, c->gw_mac};

	for (size_t i = 0; i < ARRAY_LEN(strvs); i++)
		strv_free(strvs[i]);
	for (size_t i = 0; i < ARRAY_LEN(strs); i++)
		free(strs[i]);
	guest_files_free(c->files, c->n_files);
	*c = (struct guest_cfg){0};
}

/* ---- writing ------------------------------------------------------------------- */

enum {
	F_MISSING = 1,
	F_OURS = 2,
	F_APPEND = 4,
	F_OPTIONAL = 8,
	F_REMOVE = 16,
};

static unsigned file_flags(const struct guest_file *f)
{
	return (f->only_missing ? F_MISSING : 0) | (f->only_ours ? F_OURS : 0) |
	       (f->append_line ? F_APPEND : 0) | (f->optional ? F_OPTIONAL : 0) |
	       (f->remove ? F_REMOVE : 0);
}

/* "file" opens one, what follows belongs to it. */
static void write_file(const struct guest_file *f, struct strbuf *sb)
{
	rec_add(sb, "file", f->path);
	rec_add_u64(sb, "mode", f->mode);
	rec_add_u64(sb, "flags", file_flags(f));
	rec_add(sb, "link", f->link_to);
	if (f->len)
		rec_addn(sb, "data", f->data, f->len);
}

int guest_cfg_write(const struct guest_cfg *c, struct strbuf *sb)
{
	rec_add_u64(sb, "version", VERSION);
	rec_add_u64(sb, "role", c->role);
	rec_add_strv(sb, "arg", c->argv);
	rec_add_strv(sb, "env", c->env);
	rec_add(sb, "user", c->user);
	rec_add(sb, "cwd", c->cwd);
	rec_add_u64(sb, "tty", c->tty);
	rec_add_u64(sb, "stop", (unsigned)c->stop_signal);
	rec_add(sb, "hostname", c->hostname);
	rec_add(sb, "uuid", c->uuid);
	rec_add_strv(sb, "sysctl", c->sysctls);
	rec_add_u64(sb, "nic", c->nic);
	rec_add_strv(sb, "addr", c->addrs);
	rec_add_strv(sb, "addr-old", c->old_addrs);
	rec_add(sb, "gw4", c->gw4);
	rec_add(sb, "gw6", c->gw6);
	rec_add(sb, "gw-mac", c->gw_mac);
	rec_add_u64(sb, "mtu", c->mtu);
	rec_add_u64(sb, "modules", c->modules);
	for (size_t i = 0; i < c->n_files; i++)
		write_file(&c->files[i], sb);
	return sb_ok(sb);
}

/* ---- reading ------------------------------------------------------------------- */

struct reader {
	struct guest_cfg c;
	size_t cap_files;
};

static int new_file(struct reader *rd, struct rec *rec)
{
	struct guest_cfg *c = &rd->c;
	int r = mem_grow(c->files, c->n_files, rd->cap_files);

	if (r < 0)
		return r;
	c->files[c->n_files] = (struct guest_file){.data = strdup("")};
	r = rec_str(rec, &c->files[c->n_files].path);
	c->n_files++;
	return r < 0 ? r : c->files[c->n_files - 1].data ? 0 : -ENOMEM;
}

static int of_file(struct guest_file *f, struct rec *rec)
{
	uint64_t v = 0;
	int r;

	if (str_eq(rec->key, "mode")) {
		r = rec_u64(rec, 07777, &v);
		f->mode = (mode_t)v;
		return r;
	}
	if (str_eq(rec->key, "flags")) {
		r = rec_u64(rec, F_MISSING | F_OURS | F_APPEND | F_OPTIONAL | F_REMOVE, &v);
		f->only_missing = v & F_MISSING;
		f->only_ours = v & F_OURS;
		f->append_line = v & F_APPEND;
		f->optional = v & F_OPTIONAL;
		f->remove = v & F_REMOVE;
		return r;
	}
	if (str_eq(rec->key, "link"))
		return rec_str(rec, &f->link_to);
	free(f->data); /* "data" */
	f->data = take_ptr(rec->value);
	f->len = rec->len;
	return 0;
}

static int number(struct rec *rec, uint64_t max, uint64_t *v)
{
	*v = 0;
	return rec_u64(rec, max, v);
}

static int take_number(struct guest_cfg *c, struct rec *rec)
{
	uint64_t v;
	int r = -ENOENT;

	if (str_eq(rec->key, "version")) {
		r = number(rec, UINT32_MAX, &v);
		r = r == 0 && v != VERSION ? -EPROTO : r;
	} else if (str_eq(rec->key, "role")) {
		r = number(rec, GUEST_SESSION, &v);
		c->role = (enum guest_role)v;
	} else if (str_eq(rec->key, "tty")) {
		r = number(rec, 1, &v);
		c->tty = v;
	} else if (str_eq(rec->key, "stop")) {
		r = number(rec, 64, &v);
		c->stop_signal = (int)v;
	} else if (str_eq(rec->key, "nic")) {
		r = number(rec, 1, &v);
		c->nic = v;
	} else if (str_eq(rec->key, "modules")) {
		r = number(rec, 1, &v);
		c->modules = v;
	} else if (str_eq(rec->key, "mtu")) {
		r = number(rec, 65535, &v);
		c->mtu = (uint32_t)v;
	}
	return r;
}

static int take(struct reader *rd, struct rec *rec)
{
	struct guest_cfg *c = &rd->c;
	const struct { const char *key; char **str, ***strv; } words[] = {
		{"user", &c->user, NULL}, {"cwd", &c->cwd, NULL},
		{"hostname", &c->hostname, NULL}, {"uuid", &c->uuid, NULL},
		{"gw4", &c->gw4, NULL}, {"gw6", &c->gw6, NULL}, {"gw-mac", &c->gw_mac, NULL},
		{"arg", NULL, &c->argv}, {"env", NULL, &c->env},
		{"sysctl", NULL, &c->sysctls}, {"addr", NULL, &c->addrs},
		{"addr-old", NULL, &c->old_addrs},
	};
	static const char *const of_files[] = {"mode", "flags", "link", "data"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (str_eq(rec->key, words[i].key))
			return words[i].str ? rec_str(rec, words[i].str)
					    : rec_strv(rec, words[i].strv);
	if (str_eq(rec->key, "file"))
		return new_file(rd, rec);
	for (size_t i = 0; c->n_files && i < ARRAY_LEN(of_files); i++)
		if (str_eq(rec->key, of_files[i]))
			return of_file(&c->files[c->n_files - 1], rec);
	return take_number(c, rec);
}

int guest_cfg_parse(const char *text, size_t len, struct guest_cfg *ret, struct vps_err *err)
{
	struct reader rd = {0};
	struct rec rec = {0};
	int r;

	while ((r = rec_next(&text, &len, &rec)) > 0) {
		r = take(&rd, &rec);
		rec_done(&rec);
		if (r < 0)
			break;
	}
	if (r < 0) {
		guest_cfg_done(&rd.c);
		*ret = (struct guest_cfg){0};
		return vps_err_set(err, r == -ENOMEM ? ENOMEM : EPROTO,
				   "the guest's configuration: record '%s'", rec.key);
	}
	*ret = rd.c;
	return 0;
}
