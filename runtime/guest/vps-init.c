/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vps-init: PID 1 of a VPS whose payload is a command.
 *
 *   vps-init                       wait for SIGTERM (or SIGINT, SIGPWR, SIGRTMIN+3), reaping
 *   vps-init -t|-- PATH ARGV0 ...  run PATH as a child, reap everybody, pass signals on, exit as
 *                                  it does (128+signal); -t: fd 0 becomes its terminal
 *
 * Executed from a copy in the VPS's own /dev, one for each VPS: it is small (no C library) so that a thousand
 * of them weigh nothing. The environment passes through.
 */
#include <linux/errno.h>
#include <linux/signal.h>
#include <linux/wait.h>

#include "runtime/guest/raw.h"

#define SIGRTMIN_3 37 /* the C library's SIGRTMIN is 34 */

static long child;

static size_t length(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

static void say(const char *s)
{
	raw3(__NR_write, 2, (long)s, (long)length(s));
}

static _Noreturn void leave(int code)
{
	for (;;)
		raw1(__NR_exit_group, code);
}

static void block(unsigned long long *old)
{
	unsigned long long all = ~0ULL;
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)old, 8);
}

static _Noreturn void become(int tty, char **argv, char **envp)
{
	unsigned long long none = 0;
	raw0(__NR_setsid);
	if (tty)
		raw3(__NR_ioctl, 0, 0x540E /* TIOCSCTTY */, 0);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, 8);
	long r = raw3(__NR_execve, (long)argv[0], (long)(argv + 1), (long)envp);
	say("vps: cannot run ");
	say(argv[0]);
	say(r == -ENOENT    ? ": not found\n"
	    : r == -EACCES  ? ": permission denied\n"
	    : r == -ENOEXEC ? ": not a program of this machine\n"
			    : ": failed\n");
	leave(r == -ENOENT ? 127 : 126);
}

static long spawn(int tty, char **argv, char **envp)
{
	/* clone(2) as fork; with a stack of 0 the child goes on with a copy of ours. */
	long pid = raw5(__NR_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		become(tty, argv, envp);
	return pid;
}

/* Reap all that have ended; leave when the payload is among them. */
static void reap(void)
{
	for (;;) {
		int status = 0;
		long pid = raw4(__NR_wait4, -1, (long)&status, WNOHANG, 0);
		if (pid == -EINTR)
			continue;
		if (pid <= 0)
			return;
		if (pid != child || (status & 0xff) == 0x7f)
			continue;
		int sig = status & 0x7f;
		leave(sig ? 128 + sig : (status >> 8) & 0xff);
	}
}

static int ends_us(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGPWR || sig == SIGRTMIN_3;
}

static void pass_on(int sig)
{
	if (child > 0)
		raw2(__NR_kill, child, sig);
	else if (ends_us(sig))
		leave(0);
}

/* Never runs: all signals are blocked and waited for. But it tells whoever looks (proc(5), SigCgt) that none is lost here. */
static void handler(int sig)
{
}

static void show_handlers(void)
{
	const struct sigaction sa = {.sa_handler = handler};

	for (int sig = 1; sig <= 64; sig++)
		raw4(__NR_rt_sigaction, sig, (long)&sa, 0, 8);
}

_Noreturn void vps_init(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1);
	char **envp = argv + argc + 1;
	unsigned long long all = ~0ULL;

	block(0);
	if (argc >= 4) {
		child = spawn(argv[1][1] == 't', argv + 2, envp);
		if (child < 0) {
			say("vps: cannot fork\n");
			leave(126);
		}
	}
	show_handlers(); /* not for the child */
	for (;;) {
		/* Terminal stops and the like are not for an init: only what somebody sent. */
		long sig = raw4(__NR_rt_sigtimedwait, (long)&all, 0, 0, 8);
		if (sig == SIGCHLD)
			reap();
		else if (sig > 0 && sig != SIGTTIN && sig != SIGTTOU)
			pass_on((int)sig);
	}
}
