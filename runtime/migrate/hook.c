// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/hook.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"

#define HOOK "hooks/migrate"

static int env_of(const struct hook *k, char ***ret)
{
	int r = strv_add(ret, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

	r = r ?: strv_addf(ret, "VPS_NAME=%s", k->spec->name);
	r = r ?: strv_addf(ret, "VPS_ID=%u", k->spec->id);
	r = r ?: strv_addf(ret, "VPS_UUID=%s", k->spec->uuid);
	r = r ?: strv_addf(ret, "VPS_ROLE=%s", k->role);
	r = r ?: strv_addf(ret, "VPS_PEER=%s", k->peer ? k->peer : "");
	if (r == 0) {
		auto_strbuf sb = STRBUF_INIT;
		sb_add(&sb, "VPS_ADDRESSES=");
		for (char **a = k->spec->addrs; a && *a; a++)
			sb_addf(&sb, "%s%.*s", a == k->spec->addrs ? "" : " ", (int)strcspn(*a, "/"), *a);
		r = sb_ok(&sb) ?: strv_add(ret, sb_str(&sb));
	}
	return r;
}

/* A program of root's alone: nobody else may say what we run. */
static int open_hook(int dir, const char *path, struct vps_err *err)
{
	int fd = openat(dir, path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ENOENT : -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022) || !(st.st_mode & 0111)) {
		close(fd);
		return vps_err_set(err, VPS_ECONF, "'%s' is not a program that root alone can change", path);
	}
	return fd;
}

static int run_at(const struct hook *k, int dir, const char *path, const char *when, const char *step,
		  struct vps_err *err)
{
	autoclose int fd = open_hook(dir, path, err);
	char self[32];
	char *argv[] = {self, (char *)when, (char *)step, NULL};
	struct proc_opts o = PROC_OPTS_INIT;
	auto_strv env = NULL;
	int r;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return vps_err_sys(err, fd, "hook");
	/* The very file that was looked at; a script's interpreter finds it by the same name. */
	snprintf(self, sizeof(self), "/proc/%d/fd/%d", (int)getpid(), fd);
	r = env_of(k, &env);
	if (r < 0)
		return vps_err_sys(err, r, "hook");
	o.env = env;
	o.timeout_ms = (int)k->h->conf.hook_timeout_ms;
	r = proc_run_ok(argv, &o, err);
	return r < 0 ? vps_err_wrap(err, r, "hook '%s %s %s'", path, when, step) : 0;
}

int hook_run(const struct hook *k, const char *when, const char *step, struct vps_err *err)
{
	const char *slash = strrchr(k->h->conf_path, '/');
	autofree char *path = NULL;
	int r;

	path = str_fmt("%.*s/" HOOK, slash ? (int)(slash - k->h->conf_path) : 1, slash ? k->h->conf_path : ".");
	r = path ? run_at(k, AT_FDCWD, path, when, step, err) : -ENOMEM;
	if (r == 0 && k->instance_dir >= 0)
		r = run_at(k, k->instance_dir, HOOK, when, step, err);
	return r;
}
