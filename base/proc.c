/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Process identity: the first half of base/proc.h. */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/sys.h"

const char *proc_boot_id(void)
{
	static char id[sizeof(((struct proc_ident *)0)->boot_id)];

	/* A host fact. Two threads that race here write the same bytes. */
	if (!id[0]) {
		char text[64];

		if (fs_read_buf(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text)) ==
		    sizeof(id) - 1)
			memcpy(id, text, sizeof(id));
	}
	return id;
}

/* proc(5): fields 3 (state) and 22 (starttime) of /proc/PID/stat. Field 2 is the command
 * in parentheses, which may hold anything, ") R 1" too; so the last ')' counts. */
static int read_stat(pid_t pid, char *ret_state, uint64_t *ret_start)
{
	char path[32], text[1024];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);

	ssize_t n = fs_read_buf(AT_FDCWD, path, text, sizeof(text));

	if (n < 0)
		return n == -ENOENT ? -ESRCH : (int)n;

	char *p = strrchr(text, ')');

	if (!p || p[1] != ' ' || !p[2])
		return -EIO;

	char state = p[2];
	unsigned long long start;

	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, " %llu", &start) != 1)
		return -EIO;
	*ret_state = state;
	*ret_start = start;
	return 0;
}

int proc_ident_of(pid_t pid, struct proc_ident *ret)
{
	struct proc_ident id = {.pid = pid};
	char state;

	if (pid <= 0)
		return -ESRCH;
	snprintf(id.boot_id, sizeof(id.boot_id), "%s", proc_boot_id());
	if (!id.boot_id[0])
		return -EIO;

	int r = read_stat(pid, &state, &id.start_time);

	if (r == 0)
		*ret = id;
	return r;
}

bool proc_ident_eq(const struct proc_ident *a, const struct proc_ident *b)
{
	return a->pid > 0 && a->boot_id[0] && a->pid == b->pid && a->start_time == b->start_time &&
	       str_eq(a->boot_id, b->boot_id);
}

int proc_ident_open(const struct proc_ident *id)
{
	uint64_t start;
	char state;

	if (id->pid <= 0 || !id->boot_id[0] || !str_eq(id->boot_id, proc_boot_id()))
		return -ESRCH;

	/* First the pidfd, then the look: should the pid pass to another process in between,
	 * that one's start time tells. */
	autoclose int fd = sys_pidfd_open(id->pid, 0);

	if (fd < 0)
		return fd == -EINVAL ? -ESRCH : fd; /* EINVAL: now a thread of someone */

	int r = read_stat(id->pid, &state, &start);

	if (r < 0)
		return r;
	if (start != id->start_time || state == 'Z' || state == 'X')
		return -ESRCH;
	return take_fd(fd);
}

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	       faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

char *proc_find(const char *name)
{
	const char *path = getenv("PATH");
	auto_strv dirs = NULL;

	if (!*name)
		return NULL;
	if (strchr(name, '/'))
		return is_program(name) ? strdup(name) : NULL;
	if (path && strv_split(path, ":", &dirs) < 0)
		return NULL;
	/* What a root shell has and cron or su may not. */
	if (strv_add(&dirs, "/usr/local/sbin") < 0 || strv_add(&dirs, "/usr/sbin") < 0 ||
	    strv_add(&dirs, "/sbin") < 0)
		return NULL;
	for (size_t i = 0; dirs[i]; i++) {
		/* An empty or relative one means the current directory: not as root. */
		if (dirs[i][0] != '/')
			continue;

		autofree char *full = str_fmt("%s/%s", dirs[i], name);

		if (full && is_program(full))
			return take_ptr(full);
	}
	return NULL;
}

pid_t proc_fork_into(int cgroup)
{
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
	pid_t pid = cgroup < 0 ? -1 : sys_clone3(&args, sizeof(args));

	if (pid >= 0)
		return pid;
	pid = fork();
	return pid < 0 ? -errno : pid;
}

int proc_takes_signal(pid_t pid, int sig)
{
	static const char *const sets[] = {"\nSigBlk:\t", "\nSigCgt:\t"};
	char path[32], text[4096];
	unsigned long long all = 0, set;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);

	ssize_t n = fs_read_buf(AT_FDCWD, path, text, sizeof(text));

	if (n < 0)
		return n == -ENOENT ? -ESRCH : (int)n;
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		const char *p = strstr(text, sets[i]);

		if (!p || sscanf(p + strlen(sets[i]), "%llx", &set) != 1)
			return -EIO;
		all |= set;
	}
	return all >> (sig - 1) & 1;
}
