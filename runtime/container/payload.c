/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From "inside the VPS" to execve(2): the same steps for init and for a joined command, and in a guest. */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "base/inroot.h"
#include "base/sys.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void payload_done(struct payload *p)
{
	p->env = strv_free(p->env);
	free(p->path);
	p->path = NULL;
}

void payload_signals(void)
{
	/* Ignored signals outlive execve; the caller may be under nohup, or ignore SIGPIPE. */
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;
	for (int s = 1; s < 32; s++)
		if (s != SIGKILL && s != SIGSTOP)
			sigaction(s, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int fds_keep_only(const int *keep, size_t n)
{
	int sorted[FDS_KEEP_MAX];
	unsigned from = 3;
	if (n > ARRAY_LEN(sorted))
		return -EINVAL;
	memcpy(sorted, keep, n * sizeof(int));
	qsort(sorted, n, sizeof(int), by_number);
	for (size_t i = 0; i < n; i++) {
		if (sorted[i] < (int)from)
			continue;
		if ((unsigned)sorted[i] > from) {
			int r = sys_close_range(from, (unsigned)sorted[i] - 1, 0);
			if (r < 0)
				return r;
		}
		from = (unsigned)sorted[i] + 1;
	}
	return sys_close_range(from, ~0u, 0);
}

/* ---- environment ------------------------------------------------------------- */

static const char *env_get(char *const *env, const char *key)
{
	size_t n = strlen(key);
	for (; env && *env; env++)
		if (strncmp(*env, key, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

/* Add or replace "K=V". */
static int env_put(char ***env, const char *entry)
{
	const char *eq = strchr(entry, '=');
	if (!eq || eq == entry)
		return 0;
	size_t n = (size_t)(eq - entry) + 1;
	for (char **e = *env; e && *e; e++)
		if (strncmp(*e, entry, n) == 0)
			return str_set(e, entry);
	return strv_add(env, entry);
}

static int env_put_all(char ***env, char *const *from)
{
	int r = 0;
	for (; r >= 0 && from && *from; from++)
		r = env_put(env, *from);
	return r;
}

static int env_dflt(char ***env, const char *key, const char *value)
{
	return env_get(*env, key) ? 0 : strv_addf(env, "%s=%s", key, value);
}

static int build_env(struct payload *p, char *const *base, char *const *extra)
{
	int r = strv_add(&p->env, "PATH=" DEFAULT_PATH);
	if (r >= 0)
		r = env_put_all(&p->env, base);
	if (r >= 0)
		r = env_put_all(&p->env, extra);
	if (r >= 0)
		r = env_dflt(&p->env, "HOME", p->user.home);
	if (r >= 0 && p->user.name[0])
		r = env_dflt(&p->env, "USER", p->user.name);
	if (r >= 0 && p->tty)
		r = env_dflt(&p->env, "TERM", "xterm");
	return r;
}

/* ---- directory and program ----------------------------------------------------- */

static int enter_dir(int root, const char *cwd, bool make)
{
	autoclose int fd = inroot_open(root, cwd, O_PATH | O_DIRECTORY, 0);
	if (fd == -ENOENT && make)
		fd = inroot_mkdir_p(root, cwd, 0755, (uid_t)-1, (gid_t)-1);
	if (fd < 0)
		return fd;
	return fchdir(fd) < 0 ? -errno : 0;
}

/* 1: this is it. 0: go on looking; *why keeps the better reason. */
static int try_program(struct payload *p, int root, const char *cwd, const char *dir, size_t dir_len,
		       const char *name, int *why)
{
	autofree char *path = dir_len ? str_fmt("%.*s/%s", (int)dir_len, dir, name) : strdup(name);
	if (!path)
		return -ENOMEM;
	autofree char *abs = path[0] == '/' ? strdup(path) : str_fmt("%s/%s", cwd, path);
	if (!abs)
		return -ENOMEM;
	int r = inroot_is_executable(root, abs);
	if (r == 1) {
		p->path = take_ptr(path);
		return 1;
	}
	if (r < 0 || inroot_exists(root, abs) == 1)
		*why = EACCES;
	return 0;
}

static int find_program(struct payload *p, int root, const char *cwd, int *ret_status,
			struct vps_err *err)
{
	const char *name = p->argv[0], *path = env_get(p->env, "PATH");
	int why = ENOENT, r = 0;
	if (strchr(name, '/')) {
		r = try_program(p, root, cwd, "", 0, name, &why);
	} else {
		for (const char *d = path && *path ? path : DEFAULT_PATH; r == 0 && *name;) {
			size_t n = strcspn(d, ":");
			r = try_program(p, root, cwd, n ? d : ".", n ? n : 1, name, &why);
			if (!d[n])
				break;
			d += n + 1;
		}
	}
	if (r < 0)
		return vps_err_sys(err, r, "look for the program");
	if (r == 1)
		return 0;
	autofree char *shown = str_escape(name);
	*ret_status = why == ENOENT ? 127 : 126;
	return vps_err_set(err, VPS_EEXEC, why == ENOENT ? "%s: not found in the VPS"
							 : "%s: not executable in the VPS",
			   shown ? shown : "program");
}

int payload_find(struct payload *p, const char *user, const char *cwd, char *const *base_env,
		 char *const *extra_env, int *ret_status, struct vps_err *err)
{
	*ret_status = 126;
	autoclose int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return vps_err_sys(err, -errno, "open the root");
	int r = user_lookup(root, user, &p->user, err);
	if (r < 0)
		return r;
	if (build_env(p, base_env, extra_env) < 0)
		return vps_err_sys(err, -ENOMEM, "environment");
	const char *dir = cwd ? cwd : p->user.home;
	r = enter_dir(root, dir, cwd && p->make_cwd);
	if (r < 0 && !cwd) {
		dir = "/";
		r = enter_dir(root, dir, false);
	}
	if (r < 0) {
		autofree char *shown = str_escape(dir);
		return vps_err_set(err, VPS_EEXEC, "working directory %s: %s",
				   shown ? shown : "", vps_code_str(r));
	}
	if (!p->argv || !p->argv[0])
		return p->under_init ? 0
				     : vps_err_set(err, VPS_EUSAGE, "no command");
	return find_program(p, root, dir, ret_status, err);
}

/* ---- execve ---- */

int payload_exec(struct payload *p)
{
	if (!p->under_init) {
		execve(p->path, p->argv, p->env);
		return -errno;
	}
	auto_strv argv = NULL;
	int r = strv_add(&argv, "vps-init");
	if (r >= 0 && p->path) {
		r = strv_add(&argv, p->tty ? "-t" : "--");
		if (r >= 0)
			r = strv_add(&argv, p->path);
		for (char *const *a = p->argv; r >= 0 && *a; a++)
			r = strv_add(&argv, *a);
	}
	if (r < 0)
		return r;
	execveat(p->exe, "", argv, p->env, AT_EMPTY_PATH);
	return -errno;
}
