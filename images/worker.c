/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "images/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1 /* shadow memory counts as data */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* What the process has already of what RLIMIT_DATA counts (bytes). */
static uint64_t data_now(void)
{
	char buf[4096];
	if (fs_read_buf(AT_FDCWD, "/proc/self/status", buf, sizeof(buf)) <= 0)
		return 0;
	char *p = strstr(buf, "VmData:");
	return p ? strtoull(p + 7, NULL, 10) << 10 : 0;
}

static int cmp_int(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* Close all but the few. 0 to 2 become /dev/null, so that nothing opened later lands there. */
static int close_others(const int *fds, size_t n)
{
	int keep[160];
	if (n > ARRAY_LEN(keep))
		return -E2BIG;
	memcpy(keep, fds, n * sizeof(*fds));
	qsort(keep, n, sizeof(*keep), cmp_int);
	for (int std = 0; std < (SANITIZED ? 2 : 3); std++) {
		if (bsearch(&std, keep, n, sizeof(*keep), cmp_int))
			continue;
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0)
			return -errno;
		if (null != std && (dup2(null, std) < 0 || close(null) < 0))
			return -errno;
	}
	unsigned from = 3;
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < (int)from)
			continue;
		if ((unsigned)keep[i] > from)
			sys_close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	return sys_close_range(from, ~0u, 0);
}

static int set_limit(int what, uint64_t v)
{
	struct rlimit old, l = { .rlim_cur = v, .rlim_max = v };
	if (getrlimit(what, &old) == 0 && old.rlim_max < v)
		l.rlim_cur = l.rlim_max = old.rlim_max;
	return setrlimit(what, &l) < 0 ? -errno : 0;
}

static int become_nobody(bool writes)
{
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
			       setresuid(65534, 65534, 65534) < 0))
		return -errno;
	if (!writes)
		set_limit(RLIMIT_FSIZE, 0);
	return set_limit(RLIMIT_NPROC, 0);
}

/* Landlock (Linux 5.13): a second wall behind the path handling. Best effort: older kernels and those
 * built without it go on with the first wall alone. */
static void landlock_below(int dir)
{
	struct landlock_ruleset_attr attr = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
				     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
				     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
				     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
				     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
				     LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER,
	};
	struct landlock_path_beneath_attr below = {
		.allowed_access = attr.handled_access_fs &
				  ~(uint64_t)(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_BLOCK),
		.parent_fd = dir,
	};
	/* REFER (ABI 2) is needed for hard links between folders; ABI 1 could not grant it. */
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 2)
		return;
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		return;
	if (syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &below, 0) == 0)
		syscall(SYS_landlock_restrict_self, fd, 0);
	close(fd);
}

static int child_setup(const struct worker_limits *l, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	/* Ctrl-C reaches the whole terminal group: the parent decides and kills us. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int r = close_others(l->fds, l->n_fds);
	if (r < 0)
		return r;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	uint64_t have = data_now(); /* opens a file: before the limits */
	if (l->nobody && (r = become_nobody(l->writes)) < 0)
		return r;
	if (l->write_below >= 0)
		landlock_below(l->write_below);
	set_limit(RLIMIT_CORE, 0);
	if (!SANITIZED && l->memory && (r = set_limit(RLIMIT_DATA, have + l->memory)) < 0)
		return r;
	/* After the change of ids, which clears it (prctl(2)). */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return getppid() == parent ? 0 : -ESRCH;
}

pid_t worker_fork(const struct worker_limits *l, int (*fn)(void *arg), void *arg)
{
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	if (child_setup(l, parent) < 0)
		_exit(127);
	_exit(fn(arg));
}

int worker_wait(pid_t pid)
{
	int st;
	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

int worker_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	return worker_wait(pid);
}
