/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/migrate/obstacles.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"

/* ---- rules --------------------------------------------------------------------------- */

const char *obstacle_of_link(const char *link)
{
	static const struct { const char *start, *what; } never[] = {
		{"anon_inode:[io_uring]", "an io_uring"},
		{"anon_inode:[perf_event]", "a performance counter (perf_event_open)"},
		{"anon_inode:[userfaultfd]", "a userfaultfd"},
		{"anon_inode:bpf", "a BPF object"},
		{"anon_inode:[bpf", "a BPF object"},
		{"anon_inode:[fscontext]", "a mount that is being made (fsopen)"},
		{"anon_inode:kvm", "a virtual machine"},
		{"anon_inode:[landlock", "a Landlock ruleset"},
		{"anon_inode:seccomp notify", "a seccomp listener"},
		{"/secretmem", "secret memory (memfd_secret)"},
	};

	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		if (str_starts(link, never[i].start))
			return never[i].what;
	return NULL;
}

/* Documentation/admin-guide/devices.txt */
bool obstacle_device_ok(unsigned major, unsigned minor)
{
	if (major == 1)
		return minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9;
	if (major == 5)
		return minor == 0 || minor == 2;
	return (major >= 136 && major <= 143) || (major == 10 && minor == 200);
}

bool obstacle_fs_ok(const char *type)
{
	static const char *const ok[] = {"tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2", "overlay", "ramfs",
					 "autofs", "binfmt_misc", "securityfs", "fuse.lxcfs", "ext4", "xfs", "btrfs"};

	for (size_t i = 0; i < ARRAY_LEN(ok); i++)
		if (str_eq(type, ok[i]))
			return true;
	return false;
}

/* ---- findings --------------------------------------------------------------------------- */

void obstacles_done(struct obstacles *o)
{
	vps_obstacles_free(o->v, o->n);
	*o = (struct obstacles){0};
}

struct look {
	const struct vps_live *l;
	struct obstacles *o;
	pid_t pid; /* at hand */
	int proc;  /* its /proc directory */
};

static int found(struct look *k, const char *help, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* 0 for one that is in no PID namespace below ours: of `vps exec`, the half that stays outside. */
static pid_t number_inside(int proc)
{
	char buf[4096], *p, *end;
	unsigned depth = 0;
	pid_t pid = 0;

	if (fs_read_buf(proc, "status", buf, sizeof(buf)) < 0)
		return 0;
	p = strstr(buf, "\nNSpid:");
	for (p = p ? p + strlen("\nNSpid:") : NULL; p && *p && *p != '\n'; p = end) {
		long v = strtol(p, &end, 10);
		if (end == p)
			break;
		pid = (pid_t)v;
		depth++;
	}
	return depth > 1 ? pid : 0;
}

static int open_proc(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int found(struct look *k, const char *help, const char *fmt, ...)
{
	char what[400], comm[32] = "";
	struct obstacles *o = k->o;
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	r = mem_grow(o->v, o->n, o->cap);
	if (r < 0)
		return r;
	if (k->proc >= 0)
		fs_read_buf(k->proc, "comm", comm, sizeof(comm));
	o->v[o->n] = (struct vps_obstacle){.pid = k->proc < 0 ? 0 : number_inside(k->proc),
					   .process = k->proc < 0 ? NULL : strdup(comm),
					   .what = strdup(what), .help = strdup(help)};
	return o->v[o->n++].what ? 0 : -ENOMEM;
}

#define HELP_END     "end it, or restart the service that runs it"
#define HELP_OPTION  "vps set --migratable on, and a restart: then programs go on without it"

/* ---- one process --------------------------------------------------------------------------- */

static long field(const char *status, const char *key)
{
	const char *p = strstr(status, key);

	return p ? atol(p + strlen(key)) : 0;
}

static bool is_inside(pid_t pid)
{
	autoclose int proc = open_proc(pid);

	return proc >= 0 && number_inside(proc) > 0;
}

static int look_at_status(struct look *k)
{
	char buf[4096];
	int r = 0;

	if (fs_read_buf(k->proc, "status", buf, sizeof(buf)) < 0)
		return 0;
	if (k->pid != k->l->init->pid && !is_inside((pid_t)field(buf, "\nPPid:")))
		r = found(k, "wait until that command has ended, or end it",
			  "was started from outside (vps exec), and its parent is there");
	if (r == 0 && field(buf, "\nTracerPid:"))
		r = found(k, "end the debugger", "is being traced (ptrace)");
	return r;
}

static int look_at_namespaces(struct look *k)
{
	static const struct { const char *name, *words; } own[] = {
		{"ns/uts", "host name (UTS)"}, {"ns/ipc", "IPC"}, {"ns/user", "user"},
		{"ns/pid", "PID"}, {"ns/pid_for_children", "PID (for its children)"}, {"ns/cgroup", "cgroup"},
		{"ns/time", "time"},
	};
	char init[64], its[64], path[64];
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(own); i++) {
		ssize_t a, b;

		snprintf(path, sizeof(path), "/proc/%d/%s", (int)k->l->init->pid, own[i].name);
		a = readlink(path, init, sizeof(init) - 1);
		b = readlinkat(k->proc, own[i].name, its, sizeof(its) - 1);
		if (a > 0 && b > 0 && (a != b || memcmp(init, its, (size_t)a) != 0))
			r = found(k, HELP_OPTION, "has a %s namespace of its own", own[i].words);
	}
	return r;
}

static int look_at_fd(struct look *k, int fds, const char *name)
{
	char link[256];
	struct stat st;
	const char *what;
	ssize_t n = readlinkat(fds, name, link, sizeof(link) - 1);

	if (n < 0)
		return 0;
	link[n] = '\0';
	what = obstacle_of_link(link);
	if (what)
		return found(k, HELP_END, "has %s open (descriptor %s)", what, name);
	if (link[0] != '/' || fstatat(fds, name, &st, 0) < 0)
		return 0;
	if ((S_ISCHR(st.st_mode) && !obstacle_device_ok(major(st.st_rdev), minor(st.st_rdev))) ||
	    S_ISBLK(st.st_mode)) {
		autofree char *shown = str_escape(link);
		return found(k, HELP_END, "has the device %s open (%u:%u)", shown ? shown : "?", major(st.st_rdev),
			     minor(st.st_rdev));
	}
	return 0;
}

static int look_at_fds(struct look *k)
{
	auto_strv names = NULL;
	autoclose int fds = openat(k->proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fds < 0 || fs_list(fds, ".", &names) < 0)
		return 0;
	for (char **n = names; r == 0 && n && *n; n++)
		r = look_at_fd(k, fds, *n);
	return r;
}

static int look_at(struct look *k, pid_t pid)
{
	autoclose int proc = open_proc(pid);
	int r;

	if (proc < 0 || number_inside(proc) == 0)
		return 0; /* it has gone, or is not of the VPS */
	k->pid = pid;
	k->proc = proc;
	r = look_at_status(k);
	r = r ?: look_at_namespaces(k);
	r = r ?: look_at_fds(k);
	k->proc = -1;
	return r;
}

/* ---- mounts ---------------------------------------------------------------------------------- */

/* "36 35 98:0 /root /point options - type source …" */
static int look_at_mount(struct look *k, const char *line, dev_t root)
{
	char type[32], point[256];
	const char *dash = strstr(line, " - ");
	unsigned maj, min;

	if (!dash || sscanf(dash, " - %31s", type) != 1 ||
	    sscanf(line, "%*s %*s %u:%u %*s %255s", &maj, &min, point) != 3)
		return 0;
	autofree char *shown = str_escape(point);
	/* A part of the root bound elsewhere is an overlay, too: the same one. */
	if (str_eq(type, "overlay") && makedev(maj, min) != root)
		return found(k, "unmount it", "an overlay is mounted on %s inside", shown ? shown : "?");
	if (!obstacle_fs_ok(type))
		return found(k, "unmount it", "%s is mounted on %s inside", type, shown ? shown : "?");
	return 0;
}

static int look_at_mounts(struct look *k)
{
	char path[40];
	autofree char *text = NULL;
	struct stat st;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/root", (int)k->l->init->pid);
	if (stat(path, &st) < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)k->l->init->pid);
	if (fs_read(AT_FDCWD, path, 16u << 20, &text, NULL) < 0)
		return 0;
	for (char *line = text, *next; r == 0 && line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		r = look_at_mount(k, line, st.st_dev);
	}
	return r;
}

int obstacles_find(const struct vps_live *l, struct obstacles *ret, struct vps_err *err)
{
	struct obstacles o = {0};
	struct look k = {.l = l, .o = &o, .proc = -1};
	autofree pid_t *pids = NULL;
	size_t n = 0;
	int r = cg_pids(l->cg, &pids, &n);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = look_at(&k, pids[i]);
	r = r ?: look_at_mounts(&k);
	if (r < 0) {
		obstacles_done(&o);
		return vps_err_sys(err, r, "look at the processes");
	}
	*ret = o;
	return 0;
}

/* ---- the public face ----------------------------------------------------------------------------- */

void vps_obstacles_free(struct vps_obstacle *v, size_t n)
{
	for (size_t i = 0; v && i < n; i++) {
		free(v[i].process);
		free(v[i].what);
		free(v[i].help);
	}
	free(v);
}
