/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operator's terminal: raw mode, size, and relaying bytes to a command or console inside. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/fs.h"

static struct termios saved;
static int saved_fd = -1;

void term_restore(void)
{
	if (saved_fd >= 0)
		tcsetattr(saved_fd, TCSADRAIN, &saved);
	saved_fd = -1;
}

static int set_mode(int fd, bool raw_mode)
{
	static bool hooked;
	if (tcgetattr(fd, &saved) < 0)
		return -errno;
	if (!hooked)
		atexit(term_restore);
	hooked = true;
	struct termios raw = saved;
	if (raw_mode)
		cfmakeraw(&raw);
	else
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
		return -errno;
	saved_fd = fd;
	return 0;
}

int term_raw(int fd) { return set_mode(fd, true); }
int term_keys(int fd) { return set_mode(fd, false); }

int term_size(int fd, unsigned short *rows, unsigned short *cols)
{
	struct winsize w;
	if (ioctl(fd, TIOCGWINSZ, &w) < 0)
		return -errno;
	if (w.ws_row && w.ws_col) {
		*rows = w.ws_row;
		*cols = w.ws_col;
	}
	return 0;
}

/* SIGWINCH and the ends of us as an fd, so that one poll sees everything. */
static int open_signals(sigset_t *old)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, old);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int next_signal(int fd)
{
	struct signalfd_siginfo si;
	return read(fd, &si, sizeof(si)) == sizeof(si) ? (int)si.ssi_signo : 0;
}

/* One direction: what was read from `from` and `to` has not taken yet. A reader that is slow stops
 * only its own direction. */
struct pump {
	int from, to; /* -1: closed */
	size_t off, len;
	char buf[16384];
};

static bool pump_wants_read(const struct pump *p) { return p->from >= 0 && p->to >= 0 && !p->len; }
static bool pump_wants_write(const struct pump *p) { return p->to >= 0 && p->len; }

/* 0 at the end of input, 1 else; -errno. EIO is a pty's way to say the last writer is gone. */
static int pump_read(struct pump *p)
{
	ssize_t n = read(p->from, p->buf, sizeof(p->buf));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 1 : errno == EIO ? 0 : -errno;
	p->off = 0;
	p->len = n;
	return n > 0;
}

static int pump_write(struct pump *p)
{
	ssize_t n = write(p->to, p->buf + p->off, p->len);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	p->off += n;
	p->len -= n;
	return 0;
}

static void set_nonblock(int fd)
{
	int fl = fcntl(fd, F_GETFL);
	if (fl >= 0)
		fcntl(fd, F_SETFL, fl | O_NONBLOCK);
}

static void resize(int pty)
{
	struct winsize w;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0)
		ioctl(pty, TIOCSWINSZ, &w);
}

struct relay {
	struct vps_exec_handle *x;
	struct pump in, out, err;
	int sigfd;
	bool over; /* the command has ended; only what it left in the pipes is still to come */
};

/* Returns true when the operator has enough of waiting for what the command left. */
static bool relay_signal(struct relay *r)
{
	int sig = next_signal(r->sigfd);
	if (sig && sig != SIGWINCH && r->over)
		return true;
	if (sig == SIGWINCH && r->x->pty >= 0)
		resize(r->x->pty);
	else if (sig && sig != SIGWINCH)
		vps_exec_signal(r->x, sig);
	return false;
}

static void end_input(struct relay *r)
{
	if (r->x->pty >= 0) { /* as a terminal would: ^D at the line's start */
		char eot = 4;
		(void)!write(r->x->pty, &eot, 1);
	} else {
		close_fd(&r->in.to);
	}
	r->in.from = -1;
}

/* One pump's share of a poll round. Returns true when the stream has ended. */
static bool step(struct pump *p, short from_ev, short to_ev)
{
	if (to_ev && p->len && pump_write(p) < 0)
		return true;
	if (from_ev && !p->len && pump_read(p) <= 0)
		return true;
	return false;
}

static short events(const struct pollfd *p, const struct pump *pump, bool write_side)
{
	if (write_side)
		return pump_wants_write(pump) ? p->revents & (POLLOUT | POLLERR | POLLHUP) : 0;
	return p->revents & (POLLIN | POLLHUP | POLLERR);
}

/* Returns true when there is nothing left to wait for. */
static bool relay_round(struct relay *r)
{
	struct pump *pump[3] = {&r->in, &r->out, &r->err};
	struct pollfd p[8] = {
		{.fd = r->sigfd, .events = POLLIN},
		{.fd = r->over ? -1 : r->x->pidfd, .events = POLLIN},
	};
	for (int i = 0; i < 3; i++) {
		p[2 + 2 * i] = (struct pollfd){.fd = pump_wants_read(pump[i]) ? pump[i]->from : -1,
					       .events = POLLIN};
		p[3 + 2 * i] = (struct pollfd){.fd = pump_wants_write(pump[i]) ? pump[i]->to : -1,
					       .events = POLLOUT};
	}
	/* what is here already waits for a slow reader, however long */
	bool here = pump_wants_write(&r->out) || pump_wants_write(&r->err);
	int n = poll(p, ARRAY_LEN(p), r->over && !here ? 0 : -1);
	if (n < 0)
		return errno != EINTR;
	if (p[0].revents && relay_signal(r))
		return true;
	if (p[1].revents)
		r->over = true;
	bool moved = false;
	for (int i = 0; i < 3; i++) {
		short rd = events(&p[2 + 2 * i], pump[i], false),
		      wr = events(&p[3 + 2 * i], pump[i], true);
		moved |= i > 0 && (rd || wr);
		if (!step(pump[i], rd, wr))
			continue;
		if (i == 0)
			end_input(r);
		else
			pump[i]->from = -1, pump[i]->len = 0;
	}
	/* A background child may hold the pipes open for ever: after the command's end, take what
	 * is there already and go. */
	return r->over && !moved && !here;
}

int relay_exec(struct vps_exec_handle *x, int pipes[3])
{
	struct relay *r = calloc(1, sizeof(*r));
	sigset_t old;
	if (!r)
		return EXIT_RESOURCE;
	bool tty = x->pty >= 0;
	r->x = x;
	r->sigfd = open_signals(&old);
	r->in.from = STDIN_FILENO;
	r->in.to = tty ? x->pty : take_fd(pipes[0]);
	r->out.from = tty ? x->pty : pipes[1];
	r->out.to = STDOUT_FILENO;
	r->err.from = tty ? -1 : pipes[2];
	r->err.to = STDERR_FILENO;
	set_nonblock(r->in.to);
	if (tty) {
		resize(x->pty);
		term_raw(STDIN_FILENO);
	}
	while (!relay_round(r))
		;
	term_restore();
	if (!tty)
		close_fd(&r->in.to);
	close(r->sigfd);
	sigprocmask(SIG_SETMASK, &old, NULL);
	free(r);
	return vps_exec_wait(x);
}

/* Enter, Esc, '.' as in vzctl's console: looked for in what is typed, and an Esc held back until
 * it is clear what it was. out has room for n + 1. Returns true to detach; *ret_n is what to
 * send. */
static bool escape_seen(int *state, const char *in, size_t n, char *out, size_t *ret_n)
{
	size_t k = 0;
	bool seen = false;
	for (size_t i = 0; i < n && !seen; i++) {
		if (*state == 2 && in[i] == '.') {
			seen = true;
			continue;
		}
		if (*state == 2)
			out[k++] = 27;
		if (*state == 1 && in[i] == 27) {
			*state = 2;
			continue;
		}
		*state = in[i] == '\r' || in[i] == '\n';
		out[k++] = in[i];
	}
	*ret_n = k;
	return seen;
}

static bool console_input(struct vps_console *con, bool escape, int *state, bool *ended, int *why)
{
	char buf[4096], typed[4097];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	if (n == 0) {
		*ended = true;
		return vps_console_write(con, NULL, 0) >= 0;
	}
	if (!escape)
		return vps_console_write(con, buf, n) >= 0;
	size_t k;
	if (escape_seen(state, buf, n, typed, &k))
		*why = RELAY_DETACHED;
	if (k && vps_console_write(con, typed, k) < 0)
		return false;
	return *why != RELAY_DETACHED;
}

/* 1: go on, 0: over. */
static int console_output(struct vps_console *con, int *code)
{
	char buf[16384];
	int stream = 0;
	ssize_t n = vps_console_read(con, &stream, buf, sizeof(buf));
	if (n == -EAGAIN || n == -EINTR)
		return 1;
	if (n <= 0)
		return 0;
	if (stream == 0) {
		memcpy(code, buf, sizeof(*code));
		return 0;
	}
	return fs_write_all(stream == 2 ? STDERR_FILENO : STDOUT_FILENO, buf, n) < 0 ? 0 : 1;
}

static void console_resize(struct vps_console *con)
{
	unsigned short rows = 0, cols = 0;
	if (term_size(STDIN_FILENO, &rows, &cols) == 0 && rows)
		vps_console_winsize(con, rows, cols);
}

int relay_console(struct vps_console *con, bool escape, int *ret_why)
{
	sigset_t old;
	int code = 0, state = 1, sigfd = open_signals(&old);
	bool ended = false, go = true;
	*ret_why = RELAY_ENDED;
	if (escape) {
		console_resize(con);
		term_raw(STDIN_FILENO);
	}
	/* the monitor takes input; else only output is read, or both would wait for each other */
	bool room = true;
	while (go) {
		struct pollfd p[3] = {
			{.fd = vps_console_fd(con), .events = room ? POLLIN : POLLIN | POLLOUT},
			{.fd = ended || !room ? -1 : STDIN_FILENO, .events = POLLIN},
			{.fd = sigfd, .events = POLLIN},
		};
		if (poll(p, 3, -1) < 0)
			continue;
		if (p[1].revents || !room) {
			struct pollfd out = {.fd = vps_console_fd(con), .events = POLLOUT};
			room = poll(&out, 1, 0) > 0 && (out.revents & POLLOUT);
		}
		int sig = p[2].revents ? next_signal(sigfd) : 0;
		if (sig == SIGWINCH)
			console_resize(con);
		else if (sig)
			*ret_why = sig, go = false;
		if (go && room && p[1].revents)
			go = console_input(con, escape, &state, &ended, ret_why);
		if (go && (p[0].revents & ~POLLOUT))
			go = console_output(con, &code);
	}
	term_restore();
	close(sigfd);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return code;
}
