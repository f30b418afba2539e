/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"

#define PRIVILEGED 1024 /* vsock(7): ports below it want CAP_NET_BIND_SERVICE */

void ports_init(struct ports *p, struct loop *l, int notify)
{
	*p = (struct ports){.loop = l, .notify = notify, .exit_code = -1};
}

static void conn_free(struct notify_conn *c)
{
	for (size_t i = 0; i < VMM_NOTIFY_CONNS; i++)
		if (c->ports->conn[i] == c)
			c->ports->conn[i] = NULL;
	loop_remove(c->ports->loop, &c->s);
	close_fd(&c->s.fd);
	free(c);
}

void ports_done(struct ports *p)
{
	for (size_t i = 0; i < VMM_NOTIFY_CONNS; i++)
		if (p->conn[i])
			conn_free(p->conn[i]);
	for (; p->n; p->n--) {
		close_fd(&p->port[p->n - 1].in);
		close_fd(&p->port[p->n - 1].out);
	}
}

int ports_add(struct ports *p, uint32_t port, int fd, bool in, bool out)
{
	struct port n = {.port = port, .in = -1, .out = -1};

	if (p->n == PORTS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < p->n; i++)
		if (p->port[i].port == port)
			return -EEXIST;
	if (port == VMM_PORT_NOTIFY)
		return -EEXIST;
	if (in && (n.in = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return -errno;
	if (out && (n.out = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0) {
		int r = -errno;

		close_fd(&n.in);
		return r;
	}
	p->port[p->n++] = n;
	return 0;
}

/* ---- lines ---- */

static void got_line(struct ports *p, const char *s, size_t len)
{
	uint64_t n;

	if (str_starts(s, "ERROR=")) {
		auto_strbuf words = STRBUF_INIT;

		sb_add_escaped(&words, s + 6, strlen(s + 6));
		snprintf(p->error, sizeof(p->error), "%s", sb_str(&words));
	} else if (str_starts(s, "EXIT=")) {
		if (parse_u64(s + 5, 255, &n) == 0)
			p->exit_code = (int)n;
	} else if (str_eq(s, "REBOOT=1")) {
		p->reboot = true;
	} else if (len && p->notify >= 0 && !str_starts(s, VMM_WAIT_STATUS)) {
		/* One who does not read it in time has lost it, as with every sd_notify. */
		send(p->notify, s, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

static void on_line(struct loop_source *s, uint32_t events)
{
	struct notify_conn *c = container_of(s, struct notify_conn, s);
	ssize_t n = read(s->fd, c->line + c->len, sizeof(c->line) - c->len);
	char *from = c->line, *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_free(c);
		return;
	}
	c->len += (uint32_t)n;
	while ((nl = memchr(from, '\n', c->len))) {
		*nl = 0;
		got_line(c->ports, from, (size_t)(nl - from));
		c->len -= (uint32_t)(nl + 1 - from);
		from = nl + 1;
	}
	if (c->len == sizeof(c->line))
		conn_free(c);
	else
		memmove(c->line, from, c->len);
}

static int accept_notify(struct ports *p, int ret[2])
{
	size_t i = 0;
	int sv[2];

	while (i < VMM_NOTIFY_CONNS && p->conn[i])
		i++;
	if (i == VMM_NOTIFY_CONNS)
		return -EAGAIN;

	autofree struct notify_conn *c = calloc(1, sizeof(*c));

	if (!c || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
		return -ENOMEM;

	autoclose int ours = sv[0], theirs = sv[1], dup = fcntl(theirs, F_DUPFD_CLOEXEC, 0);

	c->ports = p;
	c->s = (struct loop_source){.fd = ours, .fn = on_line};
	if (dup < 0 || loop_watch(p->loop, &c->s, EPOLLIN) < 0)
		return -ENOMEM;
	take_fd(ours);
	ret[0] = take_fd(theirs);
	ret[1] = take_fd(dup);
	p->conn[i] = take_ptr(c);
	return 0;
}

int ports_accept(struct ports *p, uint32_t port, uint32_t from, int ret[2])
{
	if (port == VMM_PORT_NOTIFY)
		return from < PRIVILEGED ? accept_notify(p, ret) : -EACCES;
	for (size_t i = 0; i < p->n; i++) {
		if (p->port[i].port != port)
			continue;
		ret[0] = take_fd(p->port[i].in);
		ret[1] = take_fd(p->port[i].out);
		p->port[i] = p->port[--p->n];
		return 0;
	}
	return -ECONNREFUSED;
}
