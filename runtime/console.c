/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A command's end of a console, and the console's log. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/ctl.h"
#include "runtime/inside.h"
#include "runtime/internal.h"
#include "runtime/monitor.h"
#include "runtime/monitor_files.h"

#define ATTACH_MS 10000

struct vps_console {
	int fd;
	/* the rest of a message that did not fit the caller's buffer */
	char buf[CTL_DATA_MAX];
	size_t at, len;
	int stream;
	bool ended;
	/* inside: the terminal is a guest's, which is told of a new size by this child */
	bool inside;
	struct vps_host *host;
	unsigned id;
	pid_t sizer;
};

/* A running VPS whose monitor was killed gets a new one by anybody's taking its lock. dead: that is known. */
static int connect_monitor(struct vps_host *h, unsigned id, const char *who, bool dead, struct vps_err *err)
{
	autoclose int run_dir = store_run_dir(h, id);
	struct vps_err why = {0};
	int fd = run_dir < 0 ? run_dir : dead ? -ECONNREFUSED : ctl_connect(run_dir);

	if (fd == -ENOENT || fd == -ECONNREFUSED) {
		auto_locked l = VPS_LOCKED_INIT;
		char text[ID_STR];
		int r = vps_lock(h, id_str(id, text), "console", &l, &why);

		locked_done(&l);
		fd = run_dir < 0 || r < 0 ? fd : ctl_connect(run_dir);
	}
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return vps_err_set(err, VPS_ESTATE, "'%s' is not running", who);
	return fd < 0 ? vps_err_sys(err, fd, "monitor of '%s'", who) : fd;
}

int vps_console_open(struct vps_host *h, const char *who, bool exclusive, struct vps_console **ret,
		     struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec spec;
	struct ctl_attach a = {.exclusive = exclusive};
	unsigned id;
	int r = store_find(h, who, &id, err);

	spec_init(&spec);
	r = r ?: store_read_spec_of(h, id, &spec, err);
	if (r < 0)
		return r;

	autoclose int fd = connect_monitor(h, id, who, false, err);

	r = fd < 0 ? fd : ctl_ask(fd, CTL_ATTACH, &a, sizeof(a), ATTACH_MS, err);
	if (r == -ECONNRESET) { /* it was killed before it answered */
		vps_err_clear(err);
		close_fd(&fd);
		fd = connect_monitor(h, id, who, true, err);
		r = fd < 0 ? fd : ctl_ask(fd, CTL_ATTACH, &a, sizeof(a), ATTACH_MS, err);
	}
	if (fd < 0)
		return fd;
	if (r < 0)
		return vps_err_wrap(err, r, "console of '%s'", who);

	struct vps_console *c = calloc(1, sizeof(*c));

	if (!c)
		return vps_err_sys(err, -ENOMEM, "console of '%s'", who);
	c->fd = take_fd(fd);
	c->inside = driver_of(&spec)->winsize;
	c->host = h;
	c->id = id;
	*ret = c;
	return 0;
}

int vps_console_fd(const struct vps_console *c)
{
	return c->fd;
}

/* One message into c->buf. 1: something to give, 0: the end, -EAGAIN: nothing of interest. */
static int receive(struct vps_console *c)
{
	uint64_t lost;
	int r = ctl_recv(c->fd, c->buf, &c->len, -1);

	c->at = 0;
	switch (r) {
	case CTL_OUT:
		c->stream = 1;
		return 1;
	case CTL_OUT2:
		c->stream = 2;
		return 1;
	case CTL_LOST:
		memcpy(&lost, c->buf, sizeof(lost));
		c->stream = 1;
		c->len = (size_t)snprintf(c->buf, sizeof(c->buf),
					  "\r\n[%llu bytes lost: read too slowly]\r\n",
					  (unsigned long long)lost);
		return 1;
	case CTL_EXIT:
		c->stream = 0;
		c->ended = true;
		return c->len == sizeof(int32_t) ? 1 : -EPROTO;
	default:
		c->len = 0;
		return r > 0 ? -EAGAIN : r;
	}
}

ssize_t vps_console_read(struct vps_console *c, int *ret_stream, void *buf, size_t size)
{
	if (c->at == c->len) {
		int r = c->ended ? 0 : receive(c);

		if (r <= 0)
			return r;
	}

	size_t n = c->len - c->at < size ? c->len - c->at : size;

	memcpy(buf, c->buf + c->at, n);
	c->at += n;
	*ret_stream = c->stream;
	return (ssize_t)n;
}

int vps_console_write(struct vps_console *c, const void *data, size_t len)
{
	const char *p = data;

	if (len == 0)
		return ctl_send(c->fd, CTL_INPUT, NULL, 0);
	while (len > 0) {
		size_t n = len < CTL_DATA_MAX ? len : CTL_DATA_MAX;
		int r = ctl_send(c->fd, CTL_INPUT, p, n);

		if (r < 0)
			return r;
		p += n;
		len -= n;
	}
	return 0;
}

/* The last size is the one that counts. */
static void stop_sizer(struct vps_console *c)
{
	if (c->sizer <= 0)
		return;
	kill(c->sizer, SIGKILL);
	waitpid(c->sizer, NULL, 0);
	c->sizer = 0;
}

/* A machine's terminal is its guest's. That may still be booting, so this takes its time. */
static void size_inside(struct vps_console *c, unsigned short rows, unsigned short cols)
{
	auto_done(inside_done) struct inside i = INSIDE_INIT;
	char id[ID_STR];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (inside_open(c->host, id_str(c->id, id), &i, NULL) == 0 && i.driver->winsize)
		i.driver->winsize(&i.live, rows, cols);
}

int vps_console_winsize(struct vps_console *c, unsigned short rows, unsigned short cols)
{
	struct ctl_attach a = {.rows = rows, .cols = cols};

	if (!c->inside)
		return ctl_send(c->fd, CTL_WINSIZE, &a, sizeof(a));
	stop_sizer(c);
	c->sizer = fork();
	if (c->sizer == 0) {
		close(c->fd); /* the end of the console is its client's */
		size_inside(c, rows, cols);
		_exit(0);
	}
	return c->sizer < 0 ? -errno : 0;
}

struct vps_console *vps_console_close(struct vps_console *c)
{
	if (c) {
		stop_sizer(c);
		close(c->fd);
	}
	free(c);
	return NULL;
}

int vps_log_open(struct vps_host *h, const char *who, char **ret_path, struct vps_err *err)
{
	static const char *const files[] = {MONITOR_LOG_OLD, MONITOR_LOG_FILE};
	unsigned id;
	int fd = -1, r = store_find(h, who, &id, err);

	if (r < 0)
		return r;

	autoclose int dir = store_dir(h, id);
	autofree char *path =
		str_fmt("%s/instances/%u/" MONITOR_LOG_FILE, h->conf.root, id);

	if (dir < 0)
		return vps_err_sys(err, dir, "directory of '%s'", who);
	if (!path)
		return vps_err_sys(err, -ENOMEM, "log of '%s'", who);
	for (size_t i = 0; fd < 0 && i < ARRAY_LEN(files); i++)
		fd = openat(dir, files[i], O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) /* it has never said anything: an empty one */
		fd = openat(dir, MONITOR_LOG_FILE, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return vps_err_sys(err, -errno, "log of '%s'", who);
	if (ret_path)
		*ret_path = take_ptr(path);
	return fd;
}
