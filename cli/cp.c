/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cp: NAME:PATH on one side. Both sides speak tar through a pipe; the VPS's side runs inside it. */
#include "cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const struct cli_opt cp_opts[] = {
	{"chown", 0, "UID:GID",
	 "owner inside (default: as on the host when copied in by root, 0:0)"},
	{0},
};

/* "NAME:PATH" apart; false for a host path. A path with '/' before ':' is the host's. */
static bool split_remote(const char *arg, char **name, const char **path)
{
	const char *colon = strchr(arg, ':'), *slash = strchr(arg, '/');
	if (!colon || colon == arg || (slash && slash < colon))
		return false;
	*name = strndup(arg, colon - arg);
	*path = colon[1] ? colon + 1 : "/";
	return *name;
}

/* Run fn in a child with one end of a pipe; the other end is ours. Errors come back through a
 * second pipe. */
struct side {
	int (*fn)(void *arg, int tar_fd, struct vps_err *err);
	void *arg;
};

static int run_both(struct side *writer, struct side *reader, struct vps_err *err)
{
	int data[2], report[2];
	if (pipe2(data, O_CLOEXEC) < 0)
		return vps_err_sys(err, -errno, "pipe");
	if (pipe2(report, O_CLOEXEC) < 0) {
		close(data[0]);
		close(data[1]);
		return vps_err_sys(err, -errno, "pipe");
	}
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct vps_err e = {0};
		close(data[0]);
		int r = writer->fn(writer->arg, data[1], &e);
		if (r < 0 && !e.code)
			vps_err_sys(&e, r, "copy");
		if (r < 0)
			(void)!write(report[1], &e, sizeof(e));
		_exit(r < 0);
	}
	int r = pid < 0 ? -errno : 0;
	close(data[1]);
	close(report[1]);
	struct vps_err werr = {0}, rerr = {0};
	if (r >= 0)
		r = reader->fn(reader->arg, data[0], &rerr);
	close(data[0]);
	bool failed = pid > 0 && read(report[0], &werr, sizeof(werr)) == sizeof(werr);
	close(report[0]);
	if (pid > 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	/* The writer's broken pipe is only the echo of the reader's failure. */
	if (failed && (r >= 0 || werr.code != EPIPE)) {
		*err = werr;
		return -werr.code;
	}
	if (r < 0 && err)
		*err = rerr;
	return r;
}

struct remote {
	struct vps_host *host;
	char *name;
	const char *path;
	long uid, gid;
};

static int remote_out(void *arg, int fd, struct vps_err *err)
{
	struct remote *m = arg;
	return vps_copy_out(m->host, m->name, m->path, fd, err);
}

static int remote_in(void *arg, int fd, struct vps_err *err)
{
	struct remote *m = arg;
	return vps_copy_in(m->host, m->name, m->path, fd, m->uid, m->gid, err);
}

struct local {
	int dir;
	const char *name, *as;
};

static int local_pack(void *arg, int fd, struct vps_err *err)
{
	struct local *l = arg;
	return vps_tar_pack(l->dir, l->name, l->as, fd, err);
}

static int local_unpack(void *arg, int fd, struct vps_err *err)
{
	struct local *l = arg;
	return vps_tar_unpack(l->dir, l->as, fd, err);
}

/* Open the directory that dst goes into; *as: its name there, NULL to keep the source's. */
static int open_target(const char *dst, char *copy, struct local *l, struct vps_err *err)
{
	struct stat st;
	bool is_dir = stat(dst, &st) == 0 && S_ISDIR(st.st_mode);
	if (!is_dir && str_ends(dst, "/"))
		return vps_err_set(err, ENOENT, "'%s': no such directory", dst);
	const char *dir = is_dir ? dst : dirname(copy);
	l->as = is_dir ? NULL : strrchr(dst, '/') ? strrchr(dst, '/') + 1 : dst;
	l->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return l->dir < 0 ? vps_err_sys(err, -errno, "open '%s'", dir) : 0;
}

static int open_source(const char *src, char *copy, struct local *l, struct vps_err *err)
{
	size_t n = strlen(copy);
	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	char *slash = strrchr(copy, '/');
	const char *dir = !slash ? "." : slash == copy ? "/" : (*slash = '\0', copy);
	l->name = slash ? slash + 1 : copy;
	if (!*l->name)
		l->name = ".";
	l->as = l->name;
	l->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return l->dir < 0 ? vps_err_sys(err, -errno, "open '%s'", src) : 0;
}

static int copy_out(struct remote *m, const char *dst, struct vps_err *err)
{
	if (str_eq(dst, "-"))
		return isatty(STDOUT_FILENO)
			       ? vps_err_set(err, VPS_EUSAGE,
					     "a tar stream to a terminal? Redirect it")
			       : remote_out(m, STDOUT_FILENO, err);
	autofree char *copy = strdup(dst);
	struct local l = {.dir = -1};
	int r = copy ? open_target(dst, copy, &l, err) : -ENOMEM;
	struct side w = {remote_out, m}, rd = {local_unpack, &l};
	if (r >= 0)
		r = run_both(&w, &rd, err);
	close_fd(&l.dir);
	return r;
}

static int copy_in(struct remote *m, const char *src, struct vps_err *err)
{
	if (str_eq(src, "-"))
		return remote_in(m, STDIN_FILENO, err);
	autofree char *copy = strdup(src);
	struct local l = {.dir = -1};
	int r = copy ? open_source(src, copy, &l, err) : -ENOMEM;
	struct side w = {local_pack, &l}, rd = {remote_in, m};
	if (r >= 0)
		r = run_both(&w, &rd, err);
	close_fd(&l.dir);
	return r;
}

static int parse_owner(const char *s, struct remote *m)
{
	const char *colon = strchr(s, ':');
	uint64_t uid, gid;
	autofree char *left = colon ? strndup(s, colon - s) : NULL;
	if (!left || parse_u64(left, 65535, &uid) < 0 || parse_u64(colon + 1, 65535, &gid) < 0)
		return -EINVAL;
	m->uid = (long)uid;
	m->gid = (long)gid;
	return 0;
}

int verb_cp(struct cli *c)
{
	struct vps_err err = {0};
	autofree char *from_name = NULL, *to_name = NULL;
	struct remote m = {.uid = -1, .gid = -1};
	const char *from_path, *to_path;
	bool out = split_remote(c->args[0], &from_name, &from_path);
	bool in = split_remote(c->args[1], &to_name, &to_path);
	if (out == in)
		return cli_usage(c, "exactly one side is NAME:PATH");
	const char *owner = cli_value(c, "chown");
	if (owner && parse_owner(owner, &m) < 0)
		return cli_usage(c, "--chown '%s': say UID:GID, numbers up to 65535", owner);
	if (!owner && in && !str_eq(c->args[0], "-"))
		m.uid = m.gid = 0;
	int r = cli_host(c, &err);
	m.host = c->host;
	m.name = out ? from_name : to_name;
	m.path = out ? from_path : to_path;
	if (r >= 0)
		r = out ? copy_out(&m, c->args[1], &err) : copy_in(&m, c->args[0], &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}
