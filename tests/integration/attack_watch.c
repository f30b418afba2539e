/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tenant's root lies in wait for processes that join the VPS (exec, cp) and tries to get at what
 * they still hold of the host before they have become the command (CVE-2016-9962, CVE-2019-5736). For
 * isolation.sh; static: it runs inside.
 *
 *   attack_watch FILE    until FILE.stop exists; FILE gets the counts
 *
 * A process that has become its command has fds 0-2 and an executable of the VPS. So a success is: an fd above 2,
 * or an executable of another file system.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned long seen, waiting, refused, broken;
static dev_t root_dev;

static void breach(const char *what, int pid, const char *detail)
{
	broken++;
	printf("BREACH %s pid %d %s\n", what, pid, detail);
}

/* The name of the process before its execve: readable by all. */
static int is_joining(int pid)
{
	char path[64], comm[32] = "";
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, comm, sizeof(comm) - 1);
	close(fd);
	return n > 0 && strcmp(comm, "vps\n") == 0;
}

/* In the midst of its execve a process is readable before its last fd above 2 is closed: the socket that tells the
 * caller of a failure. It cannot be opened, and pidfd_getfd(2) waits for the end of the execve. */
static void try_fd(int pid, const char *name)
{
	char path[300], to[256];
	snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, name);
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	if (n < 0)
		return;
	to[n] = 0;
	int fd = open(path, O_RDONLY | O_NONBLOCK);
	if (fd >= 0 || strncmp(to, "socket:", 7) != 0)
		breach("fd", pid, to);
	if (fd >= 0)
		close(fd);
}

static void try_fds(int pid)
{
	char path[32];
	struct dirent *e;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *d = opendir(path);
	if (!d) {
		refused += errno == EACCES;
		return;
	}
	while ((e = readdir(d)))
		if (atoi(e->d_name) > 2)
			try_fd(pid, e->d_name);
	closedir(d);
	/* guessed numbers, without the list */
	for (int i = 3; i < 48; i++) {
		snprintf(path, sizeof(path), "%d", i);
		try_fd(pid, path);
	}
}

static void try_exe(int pid)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	if (stat(path, &st) == 0 && st.st_dev != root_dev)
		breach("exe", pid, path);
	snprintf(path, sizeof(path), "/proc/%d/root/.", pid);
	if (stat(path, &st) == 0 && st.st_dev != root_dev)
		breach("root", pid, path);
	snprintf(path, sizeof(path), "/proc/%d/cwd/.", pid);
	if (stat(path, &st) == 0 && st.st_dev != root_dev)
		breach("cwd", pid, path);
}

static void try_steal(int pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	for (int i = 3; pidfd >= 0 && i < 48; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);
		if (fd >= 0) {
			breach("getfd", pid, "");
			close(fd);
		}
	}
	if (pidfd >= 0)
		close(pidfd);
}

static void try_trace(int pid)
{
	int st;
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0) {
		refused += errno == EPERM;
		return;
	}
	/* It may be traced from within its execve on, when fds and executable are the VPS's already. */
	try_exe(pid);
	try_fds(pid);
	while (waitpid(pid, &st, __WALL) == pid && !WIFEXITED(st) && !WIFSIGNALED(st))
		ptrace(PTRACE_CONT, pid, NULL, NULL);
}

int main(int argc, char **argv)
{
	char stop[4096];
	struct stat st;
	static unsigned char known[1 << 22];
	if (argc != 2 || stat("/", &st) < 0)
		return 2;
	root_dev = st.st_dev;
	snprintf(stop, sizeof(stop), "%s.stop", argv[1]);
	if (!freopen(argv[1], "w", stdout))
		return 2;
	for (int round = 0; access(stop, F_OK) < 0; round++) {
		DIR *d = opendir("/proc");
		struct dirent *e;
		while (d && (e = readdir(d))) {
			int pid = atoi(e->d_name);
			if (pid <= 0 || pid >= (int)sizeof(known) || pid == getpid())
				continue;
			if (round == 0)
				known[pid] = 1;
			if (known[pid])
				continue;
			known[pid] = 1;
			seen++;
			/* As long as it has not become its command, and once more after. */
			for (int more = 1, i = 0; more && i < 100000; i++) {
				more = is_joining(pid);
				waiting += i == 0 && more;
				try_fds(pid);
				try_exe(pid);
				try_steal(pid);
				if (i % 4 == 0)
					try_trace(pid);
			}
		}
		if (d)
			closedir(d);
	}
	printf("seen %lu joining %lu refused %lu breaches %lu\n", seen, waiting, refused, broken);
	return 0;
}
