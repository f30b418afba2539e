/* SPDX-License-Identifier: GPL-2.0-or-later */
/* backup and restore: from and to streams. */
#include "cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

#define BASES_MAX 64

/* ---- a file that is there when it is whole ------------------------------------------------ */

struct output {
	const char *path; /* "-": standard output */
	int dir, fd;
	char *name, *tmp; /* tmp: where O_TMPFILE is not known */
};
#define OUTPUT_INIT { .dir = -1, .fd = -1 }

static void output_done(struct output *o)
{
	if (o->tmp)
		unlinkat(o->dir, o->tmp, 0);
	free(o->tmp);
	free(o->name);
	close_fd(&o->dir);
	if (o->fd != STDOUT_FILENO)
		close_fd(&o->fd);
}

static int output_open_file(struct output *o, struct vps_err *err)
{
	const char *slash = strrchr(o->path, '/');
	autofree char *dir = slash ? strndup(o->path, (size_t)(slash - o->path) + 1) : strdup(".");

	o->name = strdup(slash ? slash + 1 : o->path);
	if (!dir || !o->name)
		return vps_err_sys(err, -ENOMEM, "output");
	if (!*o->name)
		return vps_err_set(err, VPS_EUSAGE, "'%s' is a directory; name a file in it", o->path);
	o->dir = fs_open_dir(AT_FDCWD, dir);
	if (o->dir < 0)
		return vps_err_sys(err, o->dir, "open '%s'", dir);
	if (fs_exists(o->dir, o->name))
		return vps_err_set(err, VPS_EEXISTS, "'%s' is there already", o->path);
	/* Killed at any moment, nothing of it stays. */
	o->fd = openat(o->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (o->fd >= 0)
		return 0;
	o->tmp = str_fmt(".%s.part", o->name);
	o->fd = o->tmp ? openat(o->dir, o->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	return o->fd < 0 ? vps_err_sys(err, -errno, "make '%s'", o->path) : 0;
}

static int output_open(struct output *o, const char *path, struct vps_err *err)
{
	o->path = path;
	if (!str_eq(path, "-"))
		return output_open_file(o, err);
	if (isatty(STDOUT_FILENO))
		return vps_err_set(err, VPS_EUSAGE, "standard output is a terminal; redirect it, or give -o FILE");
	o->fd = STDOUT_FILENO;
	return 0;
}

static int output_place(struct output *o, struct vps_err *err)
{
	char link[40];
	int r;

	if (o->fd == STDOUT_FILENO)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", o->fd);
	r = fsync(o->fd) < 0 ? -errno : 0;
	if (r == 0 && o->tmp)
		r = renameat2(o->dir, o->tmp, o->dir, o->name, RENAME_NOREPLACE) < 0 ? -errno : 0;
	else if (r == 0)
		r = linkat(AT_FDCWD, link, o->dir, o->name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	r = r < 0 ? r : fs_sync_dir(o->dir, ".");
	if (r == -EEXIST)
		r = -VPS_EEXISTS;
	return r < 0 ? vps_err_sys(err, r, "write '%s'", o->path) : 0;
}

/* ---- backup ------------------------------------------------------------------------------------ */

static int parse_level(const char *s, int *ret, struct vps_err *err)
{
	uint64_t n = 3;

	*ret = 0;
	if (!s || str_eq(s, "zstd"))
		return 0;
	*ret = -1;
	if (str_eq(s, "none"))
		return 0;
	if (!str_starts(s, "zstd:") || parse_u64(s + 5, 19, &n) < 0 || n == 0)
		return vps_err_set(err, VPS_EUSAGE, "--compress '%.40s': it is zstd, zstd:1 to zstd:19, or none", s);
	*ret = (int)n;
	return 0;
}

static int print_backup(struct cli *c, const struct vps_backup_result *res, const char *path)
{
	char a[16], b[16];

	if (str_eq(path, "-"))
		return EXIT_OK;
	if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, true);

		jo_object(&o, NULL);
		jo_str(&o, "file", path);
		jo_str(&o, "digest", res->digest);
		jo_u64(&o, "bytes", res->bytes);
		jo_u64(&o, "data", res->data);
		jo_end_object(&o);
		return cli_print_json(&sb);
	}
	if (!c->quiet)
		printf("%s  %s  %s of %s\n", path, res->digest, fmt_size(res->bytes, a, sizeof(a)),
		       fmt_size(res->data, b, sizeof(b)));
	return EXIT_OK;
}

int verb_backup(struct cli *c)
{
	struct vps_err err = {0};
	auto_done(output_done) struct output out = OUTPUT_INIT;
	struct vps_backup_opts o = {.base_fd = -1, .snapshot = cli_value(c, "snapshot"),
				    .no_image = cli_flag(c, "no-image"), .memory = cli_flag(c, "memory")};
	struct vps_backup_result res = {0};
	const char *path = cli_value(c, "output"), *base = cli_value(c, "base");
	autoclose int base_fd = -1;
	int r = parse_level(cli_value(c, "compress"), &o.level, &err);

	if (!path)
		return cli_usage(c, "where to? Give -o FILE, or -o - for standard output");
	if (r >= 0 && base) {
		base_fd = open(base, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (base_fd < 0)
			r = vps_err_sys(&err, -errno, "open '%s'", base);
		o.base_fd = base_fd;
	}
	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0)
		r = output_open(&out, path, &err);
	o.fd = out.fd;
	/* A reader that went away is an error to be told, and there is a copy to be removed. */
	signal(SIGPIPE, SIG_IGN);
	if (r >= 0)
		r = vps_backup(c->host, c->args[0], &o, cli_progress(c), &res, &err);
	cli_progress_end();
	if (r >= 0)
		r = output_place(&out, &err);
	return r < 0 ? cli_fail(c, r, &err) : print_backup(c, &res, path);
}

/* ---- restore ---------------------------------------------------------------------------------------- */

struct bases {
	int fd[BASES_MAX];
	size_t n;
};

static void bases_done(struct bases *b)
{
	while (b->n > 0)
		close(b->fd[--b->n]);
}

static int open_bases(struct cli *c, struct bases *b, struct vps_err *err)
{
	for (size_t i = 0; i < c->n_given; i++) {
		if (c->given[i].spec || !str_eq(c->given[i].name, "base"))
			continue;
		if (b->n == BASES_MAX)
			return vps_err_set(err, VPS_EUSAGE, "more than %d backups before this one", BASES_MAX);
		b->fd[b->n] = open(c->given[i].value, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (b->fd[b->n] < 0)
			return vps_err_sys(err, -errno, "open '%s'", c->given[i].value);
		b->n++;
	}
	return 0;
}

int verb_restore(struct cli *c)
{
	struct vps_err err = {0};
	auto_strv settings = NULL;
	auto_done(vps_info_done) struct vps_info i = {0};
	auto_done(bases_done) struct bases bases = {.n = 0};
	bool std = str_eq(c->args[0], "-");
	autoclose int file = std ? -1 : open(c->args[0], O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct vps_restore_opts o = {.fd = std ? STDIN_FILENO : file, .name = cli_value(c, "name"),
				     .trust = cli_flag(c, "trust"), .new_identity = cli_flag(c, "new-identity"),
				     .no_memory = cli_flag(c, "no-memory")};
	int r = o.fd < 0 ? vps_err_sys(&err, -errno, "open '%s'", c->args[0]) : cli_spec_settings(c, &settings);

	if (r >= 0 && std && isatty(STDIN_FILENO))
		r = vps_err_set(&err, VPS_EUSAGE, "standard input is a terminal, not a backup");
	if (r >= 0)
		r = open_bases(c, &bases, &err);
	if (r >= 0)
		r = cli_host(c, &err);
	o.settings = settings;
	o.base_fds = bases.fd;
	o.n_bases = bases.n;
	if (r >= 0)
		r = vps_restore(c->host, &o, cli_progress(c), &i, &err);
	cli_progress_end();
	if (r < 0)
		return cli_fail(c, r, &err);
	cli_warn_caveats(c, &i.spec);
	return cli_print_new(c, &i);
}
