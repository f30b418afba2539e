/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console: bytes from init to the log and the clients, and back. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime/monitor/impl.h"
#include "runtime/monitor_files.h"

static void log_open(struct monitor *m)
{
	struct console *c = &m->con;
	struct stat st;

	c->log = openat(m->a.instance_dir, MONITOR_LOG_FILE,
			O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	c->log_size = c->log >= 0 && fstat(c->log, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Both files together stay within console_log_max. A log that cannot be written (disk full) is
 * no reason to stop a console. */
static void log_add(struct monitor *m, const char *data, size_t n)
{
	struct console *c = &m->con;
	uint64_t half = m->a.console_log_max / 2;

	if (half == 0)
		return;
	if (n > half) {
		data += n - half;
		n = half;
	}
	if (c->log >= 0 && c->log_size + n > half) {
		renameat(m->a.instance_dir, MONITOR_LOG_FILE, m->a.instance_dir, MONITOR_LOG_OLD);
		close_fd(&c->log);
	}
	if (c->log < 0)
		log_open(m);

	ssize_t w = c->log < 0 ? -1 : write(c->log, data, n);

	if (w > 0)
		c->log_size += (uint64_t)w;
}

static void tail_add(struct console *c, const char *data, size_t n)
{
	size_t over;

	if (n > sizeof(c->tail)) {
		data += n - sizeof(c->tail);
		n = sizeof(c->tail);
	}
	over = c->n_tail + n > sizeof(c->tail) ? c->n_tail + n - sizeof(c->tail) : 0;
	memmove(c->tail, c->tail + over, c->n_tail - over);
	c->n_tail -= over;
	memcpy(c->tail + c->n_tail, data, n);
	c->n_tail += n;
}

void console_last(const struct monitor *m, char *buf)
{
	const struct console *c = &m->con;
	size_t from = 0, n = 0, lines = 0;

	/* a line that is cut in front is none */
	if (c->n_tail == sizeof(c->tail))
		while (from < c->n_tail && c->tail[from++] != '\n')
			;
	if (from == c->n_tail)
		from = 0;
	for (size_t i = c->n_tail; i > from; i--)
		if (c->tail[i - 1] == '\n' && i < c->n_tail && ++lines == CONSOLE_LAST) {
			from = i;
			break;
		}
	for (; from < c->n_tail; from++)
		if (c->tail[from] != '\r' && c->tail[from])
			buf[n++] = c->tail[from];
	while (n && buf[n - 1] == '\n')
		n--;
	buf[n] = '\0';
}

/* While no process inside has the console open, a pty master reports a hang-up at each poll, and reads give
 * EIO. Our own open slave avoids both, until a getty inside calls vhangup(2), which cuts us off
 * too: then a fresh one is opened. ioctl_tty(2), TIOCGPTPEER: by the master, not by any path. */
static int peer_open(struct console *c)
{
	close_fd(&c->peer);
	c->peer = ioctl(c->out[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return c->peer < 0 ? -errno : 0;
}

static void set_nonblock(int fd)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void console_open(struct monitor *m)
{
	struct console *c = &m->con;

	c->pty = m->a.console >= 0;
	c->out[0] = c->pty ? m->a.console : m->a.pipes[1];
	c->out[1] = c->pty ? -1 : m->a.pipes[2];
	c->in = c->pty ? m->a.console : m->a.pipes[0];
	c->peer = c->log = -1;
	set_nonblock(c->out[0]);
	set_nonblock(c->out[1]);
	set_nonblock(c->in);
	if (c->pty)
		peer_open(c);
	if (m->a.console_log_max)
		log_open(m);
}

static bool unlimited(const struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (m->clients[i].fd >= 0 && m->clients[i].exclusive)
			return true;
	return false;
}

void console_poll(struct monitor *m)
{
	struct console *c = &m->con;
	bool wait = c->paused || clients_full(m);

	for (int i = 0; i < 2; i++) {
		m->set[P_OUT + i].fd = wait ? -1 : c->out[i];
		m->set[P_OUT + i].events = POLLIN;
	}
	m->set[P_IN].fd = c->n_pending ? c->in : -1;
	m->set[P_IN].events = POLLOUT;
	if (!c->n_pending && c->in_end && !c->pty) {
		/* The keeper's copy must go too, or the reader never sees the end. */
		close_fd(&c->in);
		m->a.pipes[0] = -1;
		c->in_end = false;
		keeper_hand_over(m);
	}
}

/* One read. Bytes, 0 when there is nothing now, -1 when the fd has ended. */
static ssize_t take(struct monitor *m, int i)
{
	struct console *c = &m->con;
	char buf[CTL_DATA_MAX];
	ssize_t n = read(c->out[i], buf, sizeof(buf));

	if (n > 0) {
		log_add(m, buf, (size_t)n);
		tail_add(&m->con, buf, (size_t)n);
		clients_out(m, i ? CTL_OUT2 : CTL_OUT, buf, (size_t)n);
		c->spent += (uint32_t)n;
		return n;
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static void close_out(struct monitor *m, int i)
{
	struct console *c = &m->con;

	if (c->pty) {
		close_fd(&c->peer);
		c->in = -1;
		m->a.console = -1;
	} else {
		m->a.pipes[1 + i] = -1;
	}
	close_fd(&c->out[i]);
}

static void out_event(struct monitor *m, int i)
{
	struct console *c = &m->con;

	if (take(m, i) < 0) {
		if (!c->pty) {
			close_out(m, i);
		} else {
			/* A tenant that hangs up in a loop costs one ioctl a tick, no more. */
			peer_open(c);
			c->paused = true;
		}
	}
	if (c->spent >= LOG_BUDGET && !unlimited(m))
		c->paused = true;
	if (c->paused && !m->due[T_TICK])
		timer_in(m, T_TICK, TICK_MS);
}

/* Write what is pending; a console that takes nothing keeps it. */
static void in_flush(struct console *c)
{
	while (c->n_pending) {
		ssize_t n = c->in < 0 ? (ssize_t)c->n_pending : write(c->in, c->pending, c->n_pending);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			n = (ssize_t)c->n_pending; /* nobody reads there any more */
		c->n_pending -= (size_t)n;
		memmove(c->pending, c->pending + n, c->n_pending);
	}
}

void console_event(struct monitor *m)
{
	for (int i = 0; i < 2; i++)
		if (m->set[P_OUT + i].revents && m->con.out[i] >= 0)
			out_event(m, i);
	if (m->set[P_IN].revents)
		in_flush(&m->con);
}

/* n is at most CTL_DATA_MAX, and clients are not read while anything is pending. */
void console_input(struct monitor *m, const char *data, size_t n)
{
	struct console *c = &m->con;

	if (n == 0) {
		c->in_end = true;
		return;
	}
	if (n > sizeof(c->pending) - c->n_pending)
		n = sizeof(c->pending) - c->n_pending;
	memcpy(c->pending + c->n_pending, data, n);
	c->n_pending += n;
	in_flush(c);
}

void console_winsize(struct monitor *m, unsigned rows, unsigned cols)
{
	struct winsize ws = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};

	if (m->con.pty && m->con.out[0] >= 0 && rows && cols)
		ioctl(m->con.out[0], TIOCSWINSZ, &ws);
}

/* All processes of the VPS are dead when its init has been reaped, so what can be read now is all there ever
 * will be: the kernel flushes a pty's buffers before it says EAGAIN (n_tty_read). */
void console_drain(struct monitor *m)
{
	struct console *c = &m->con;

	for (int i = 0; i < 2; i++)
		while (c->out[i] >= 0) {
			if (clients_full(m))
				return; /* goes on when there is room */
			if (take(m, i) <= 0)
				close_out(m, i);
		}
	if (c->in >= 0 && !c->pty) {
		close_fd(&c->in);
		m->a.pipes[0] = -1;
	}
	close_fd(&c->log);
	m->drained = true;
}
