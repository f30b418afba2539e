/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PID 1 for a command, as vps-init is in a container: runs it, reaps everybody, passes signals on, and
 * powers off with its exit status. Without a terminal its stdio is three ports of the host's, through pipes:
 * a program may open /dev/stdout, which a socket is not good for.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/container/container.h"
#include "runtime/guest/guest.h"

struct relay {
	int from, to; /* nonblocking; from -1: the end was seen */
	char buf[16384];
	size_t have, done;
	int *sock; /* which of the two is the host's port: again, when the machine was restored */
	unsigned port;
};

struct init {
	struct guest *g;
	int signals;
	pid_t child;
	int status; /* of the child, when it is gone */
	struct relay relays[3];
	int stdio[3]; /* the child's */
};

/* ---- bytes --------------------------------------------------------------------- */

static void relay_end(struct relay *r)
{
	close_fd(&r->from);
	r->have = r->done = 0;
	close_fd(&r->to);
}

/* A restored machine has lost its connections, and its host awaits them anew. What was on its way is lost. */
static bool relay_again(struct relay *r)
{
	int sock;

	if (!r->sock || (errno != ENOTCONN && errno != ECONNRESET))
		return false;
	sock = host_connect(r->port);
	if (sock < 0)
		return false;
	if (fcntl(sock, F_SETFL, O_NONBLOCK) < 0) {
		close(sock);
		return false;
	}
	close_fd(r->sock);
	*r->sock = sock;
	return true;
}

static void relay_step(struct relay *r)
{
	ssize_t n;

	if (r->done == r->have && r->from >= 0) {
		r->done = r->have = 0;
		n = read(r->from, r->buf, sizeof(r->buf));
		if (n > 0)
			r->have = (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR && !relay_again(r)))
			relay_end(r);
	}
	while (r->done < r->have) {
		n = write(r->to, r->buf + r->done, r->have - r->done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 && relay_again(r))
			continue;
		if (n < 0) { /* nobody wants it */
			relay_end(r);
			return;
		}
		r->done += (size_t)n;
	}
}

/* The host's port i, or nothing where there is none. */
static int port_relay(struct relay *r, int i, int *stdio)
{
	int sock = host_connect(AGENT_STDIO_PORT + (unsigned)i), p[2];

	*r = (struct relay){.from = -1, .to = -1};
	if (sock < 0) {
		*stdio = open("/dev/null", O_RDWR | O_CLOEXEC);
		return *stdio < 0 ? -errno : 0;
	}
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	*stdio = p[i != 0];
	r->from = i ? p[0] : sock;
	r->to = i ? sock : p[1];
	r->sock = i ? &r->to : &r->from;
	r->port = AGENT_STDIO_PORT + (unsigned)i;
	if (fcntl(r->from, F_SETFL, O_NONBLOCK) < 0 || fcntl(r->to, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

/* The last word of /sys/class/tty/console/active is what /dev/console stands for. */
static int open_console(void)
{
	char names[128] = "ttyS0", path[160];
	const char *last;
	int fd;

	fs_read_buf(AT_FDCWD, "/sys/class/tty/console/active", names, sizeof(names));
	last = strrchr(names, ' ');
	snprintf(path, sizeof(path), "/dev/%s", last ? last + 1 : names);
	fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int make_stdio(struct init *i, struct vps_err *err)
{
	int r = 0;

	for (int n = 0; n < 3; n++)
		i->relays[n] = (struct relay){.from = -1, .to = -1};
	for (int n = 0; n < 3 && r >= 0; n++) {
		if (i->g->cfg.tty)
			r = i->stdio[n] = open_console();
		else
			r = port_relay(&i->relays[n], n, &i->stdio[n]);
	}
	return r < 0 ? vps_err_sys(err, r, "standard input and output") : 0;
}

/* ---- the command --------------------------------------------------------------- */

static _Noreturn void become_command(struct init *i)
{
	struct vps_err err = {0};
	const struct guest_cfg *c = &i->g->cfg;
	struct payload p = {.argv = c->argv, .exe = -1, .tty = c->tty, .make_cwd = true};
	int status = 126, r;

	payload_signals();
	setsid();
	for (int n = 0; n < 3; n++)
		if (dup2(i->stdio[n], n) < 0)
			_exit(126);
	if (c->tty)
		ioctl(0, TIOCSCTTY, 0);
	r = payload_find(&p, c->user, c->cwd ? c->cwd : "/", c->env, NULL, &status, &err);
	for (int n = 0; n < 3 && r >= 0; n++)
		if (p.user.uid && fchown(n, p.user.uid, (gid_t)-1) < 0)
			r = vps_err_sys(&err, -errno, "hand over the console");
	if (r >= 0)
		r = payload_become(&p, &err);
	dprintf(2, "vps: %s\n", err.msg);
	_exit(status);
}

static int spawn(struct init *i, struct vps_err *err)
{
	int r = make_stdio(i, err);

	if (r < 0)
		return r;
	i->child = fork();
	if (i->child == 0)
		become_command(i);
	for (int n = 0; n < 3; n++)
		close_fd(&i->stdio[n]);
	return i->child < 0 ? vps_err_sys(err, -errno, "fork") : 0;
}

/* ---- signals ------------------------------------------------------------------- */

static void reap(struct init *i)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != i->child)
			continue;
		i->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		i->child = 0;
	}
}

/* What each signal means: true, the VPS ends. */
static bool signalled(struct init *i)
{
	struct signalfd_siginfo si;
	bool had = i->child > 0;

	while (read(i->signals, &si, sizeof(si)) == sizeof(si)) {
		int sig = (int)si.ssi_signo;

		if (sig == SIGCHLD)
			reap(i);
		else if (i->child > 0 && sig != SIGTTIN && sig != SIGTTOU)
			kill(i->child, sig);
		else if (sig == SIGTERM || sig == SIGINT || sig == SIGPWR || sig == SIGRTMIN + 3)
			return true;
	}
	return had && i->child <= 0;
}

static void serve(struct init *i)
{
	for (bool end = false; !end;) {
		struct pollfd p[4] = {{.fd = i->signals, .events = POLLIN}};

		for (int n = 0; n < 3; n++) {
			const struct relay *r = &i->relays[n];
			bool full = r->done < r->have;

			p[n + 1] = (struct pollfd){full ? r->to : r->from,
						   full ? POLLOUT : POLLIN, 0};
		}
		if (poll(p, 4, -1) < 0)
			continue;
		for (int n = 0; n < 3; n++)
			if (p[n + 1].revents)
				relay_step(&i->relays[n]);
		end = p[0].revents && signalled(i);
	}
}

/* What the command wrote is in the pipes; who else lives may not hold up the end. */
static void flush_output(struct init *i)
{
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	for (int n = 1; n < 3; n++) {
		struct relay *r = &i->relays[n];

		if (r->to >= 0)
			fcntl(r->to, F_SETFL, 0);
		while (r->from >= 0)
			relay_step(r);
	}
}

_Noreturn void init_run(struct guest *g)
{
	struct init i = {.g = g, .stdio = {-1, -1, -1}};
	struct vps_err err = {0};
	autofree char *last = NULL;
	sigset_t all;
	int r = 0;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGPIPE, SIG_IGN);
	i.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	for (int n = 0; n < 3; n++)
		i.relays[n] = (struct relay){.from = -1, .to = -1};
	if (i.signals < 0)
		r = vps_err_sys(&err, -errno, "signalfd");
	if (r >= 0 && g->cfg.argv)
		r = spawn(&i, &err);
	if (r >= 0) {
		host_tell("READY=1\n");
		serve(&i);
	}
	flush_output(&i);
	if (r < 0) {
		dprintf(2, "vps-guest: %s\n", err.msg);
		last = str_fmt("ERROR=%s\nEXIT=255\n", err.msg);
	} else {
		last = str_fmt("EXIT=%d\n", i.status);
	}
	if (last)
		host_tell(last);
	root_leave(g);
	root_power(RB_POWER_OFF);
}
