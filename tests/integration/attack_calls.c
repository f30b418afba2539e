/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System calls as a tenant makes them, for isolation.sh. Static: it runs inside.
 *
 *   calls           lines "NUMBER NAME ..." from stdin, each called with all arguments -1 in a child of
 *                   its own: "NUMBER NAME ERRNO" (OK, SIGNAL, BLOCKED)
 *   families        socket(f, -1, 0) for every family: "f ERRNO"
 *   int80, x32      getpid by the other doors of the kernel: REFUSED or REACHED
 *   ptrace PID, kill PID    OK or the errno
 *   ptys N          open N terminals: how many could be opened
 *   inotify N       the same for inotify instances, which are then kept
 *   boottime        CLOCK_BOOTTIME in seconds
 *   sti TEXT        push TEXT into the controlling terminal and into every fd that is one
 *   listen @NAME, connect @NAME     an abstract socket
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *name_of(int e)
{
	const char *s = strerrorname_np(e);
	return e == 0 ? "OK" : s ? s : "?";
}

/* The word for how a child ended. */
static const char *child_word(pid_t pid)
{
	int st;
	if (waitpid(pid, &st, 0) < 0)
		return "LOST";
	if (WIFSIGNALED(st))
		return WTERMSIG(st) == SIGALRM ? "BLOCKED" : "SIGNAL";
	return name_of(WEXITSTATUS(st));
}

static const char *call(long nr)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		return "NOFORK";
	if (pid == 0) {
		signal(SIGALRM, SIG_DFL);
		alarm(2);
		long r = syscall(nr, -1L, -1L, -1L, -1L, -1L, -1L);
		_exit(r < 0 && r >= -1 ? errno : 0);
	}
	return child_word(pid);
}

static int calls(void)
{
	char line[256], name[64];
	long nr;
	while (fgets(line, sizeof(line), stdin))
		if (sscanf(line, "%ld %63s", &nr, name) == 2)
			printf("%ld %s %s\n", nr, name, call(nr));
	return 0;
}

/* The kernel looks at the type before it looks for the family: EINVAL means that it was reached. */
static int families(void)
{
	for (int f = 0; f < 64; f++)
		printf("%d %s\n", f, socket(f, -1, 0) < 0 ? name_of(errno) : "OK");
	return 0;
}

static int other_door(const char *which)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		long r = -ENOSYS;
#ifdef __x86_64__
		if (strcmp(which, "int80") == 0)
			__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10",
					 "r11");
		else
			__asm__ volatile("syscall" : "=a"(r) : "a"(0x40000000L | 39) : "memory", "rcx",
					 "r11");
#else
		(void)which;
#endif
		_exit((int)r == getpid() ? 1 : 0);
	}
	int st = 0;
	waitpid(pid, &st, 0);
	puts(WIFEXITED(st) && WEXITSTATUS(st) == 1 ? "REACHED" : "REFUSED");
	return 0;
}

static int ptys(int n)
{
	int got = 0;
	while (got < n && open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0)
		got++;
	printf("%d %s\n", got, got < n ? name_of(errno) : "OK");
	return 0;
}

static int inotify(int n)
{
	int got = 0;
	while (got < n && inotify_init1(IN_CLOEXEC) >= 0)
		got++;
	printf("%d %s\n", got, got < n ? name_of(errno) : "OK");
	fflush(stdout);
	pause();
	return 0;
}

static int sti(const char *text)
{
	int tried = 0;
	int tty = open("/dev/tty", O_RDWR);
	for (int fd = 0; fd < 16; fd++)
		if (isatty(fd)) {
			tried++;
			for (const char *c = text; *c; c++)
				if (ioctl(fd, TIOCSTI, c) < 0)
					break;
		}
	printf("terminals %d\n", tried);
	close(tty);
	return 0;
}

static int abstract(bool listening, const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	strncpy(a.sun_path + 1, name + 1, sizeof(a.sun_path) - 2);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	int r = listening ? bind(s, (struct sockaddr *)&a, len) : connect(s, (struct sockaddr *)&a, len);
	if (r == 0 && listening)
		r = listen(s, 8);
	puts(r < 0 ? name_of(errno) : "OK");
	fflush(stdout);
	if (r == 0 && listening)
		pause();
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "0";
	if (strcmp(what, "calls") == 0)
		return calls();
	if (strcmp(what, "families") == 0)
		return families();
	if (strcmp(what, "int80") == 0 || strcmp(what, "x32") == 0)
		return other_door(what);
	if (strcmp(what, "ptrace") == 0) {
		puts(ptrace(PTRACE_SEIZE, atoi(arg), NULL, NULL) < 0 ? name_of(errno) : "OK");
		return 0;
	}
	if (strcmp(what, "kill") == 0) {
		puts(kill(atoi(arg), 0) < 0 ? name_of(errno) : "OK");
		return 0;
	}
	if (strcmp(what, "ptys") == 0)
		return ptys(atoi(arg));
	if (strcmp(what, "inotify") == 0)
		return inotify(atoi(arg));
	if (strcmp(what, "boottime") == 0) {
		struct timespec t;
		clock_gettime(CLOCK_BOOTTIME, &t);
		printf("%lld\n", (long long)t.tv_sec);
		return 0;
	}
	if (strcmp(what, "sti") == 0)
		return sti(arg);
	if (strcmp(what, "listen") == 0 || strcmp(what, "connect") == 0)
		return abstract(what[0] == 'l', arg);
	fprintf(stderr, "attack_calls: what?\n");
	return 2;
}
