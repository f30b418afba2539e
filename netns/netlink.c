/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netns/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

#define RX_SIZE (64u << 10) /* the kernel's dump messages are at most 32 KiB */
#define TX_SIZE (16u << 10)

static int setup(struct nl *ret, int fd)
{
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK};
	socklen_t len = sizeof(sa);
	int one = 1;

	/* Missing ones only cost words in errors. */
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	*ret = (struct nl){.fd = fd, .portid = sa.nl_pid, .seq = 1};
	ret->rx = malloc(RX_SIZE);
	ret->tx = malloc(TX_SIZE);
	if (!ret->rx || !ret->tx) {
		free(ret->rx);
		free(ret->tx);
		*ret = (struct nl)NL_INIT;
		return -ENOMEM;
	}
	return 0;
}

int nl_open(struct nl *ret, int proto)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, proto);

	if (fd < 0)
		return -errno;

	int r = setup(ret, fd);

	if (r < 0)
		close(fd);
	return r;
}

struct visit {
	int netns_fd, proto;
	int result; /* fd or -errno */
};

/* Shares memory, files and (as posix_spawn does) the caller's thread-local storage, while the
 * caller waits: nothing but system calls here. */
static int visitor(void *arg)
{
	struct visit *v = arg;

	if (setns(v->netns_fd, CLONE_NEWNET) < 0) {
		v->result = -errno;
		return 0;
	}

	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, v->proto);

	v->result = fd < 0 ? -errno : fd;
	return 0;
}

int nl_open_in(struct nl *ret, int proto, int netns_fd)
{
	struct visit v = {.netns_fd = netns_fd, .proto = proto, .result = -ECHILD};
	char stack[16384] __attribute__((aligned(16)));

	/* No exit signal: a caller that reaps its children in a SIGCHLD handler never sees this
	 * one. */
	pid_t pid = clone(visitor, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_FILES, &v);

	if (pid < 0)
		return -errno;
	while (waitpid(pid, NULL, __WCLONE) < 0 && errno == EINTR)
		;
	if (v.result < 0)
		return v.result;

	int r = setup(ret, v.result);

	if (r < 0)
		close(v.result);
	return r;
}

void nl_done(struct nl *n)
{
	if (!n)
		return;
	if (n->fd >= 0)
		close(n->fd);
	free(n->rx);
	free(n->tx);
	*n = (struct nl)NL_INIT;
}

struct nlmsghdr *nl_begin(struct nl *n, uint16_t type, uint16_t flags, const void *fixed,
			  size_t len)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(n->tx);

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(mnl_nlmsg_put_extra_header(h, len), fixed, len);
	return h;
}

/* Callers stay far below TX_SIZE; one that does not is a bug that must not write past the end. */
static void want_room(const struct nlmsghdr *h, size_t len)
{
	if (MNL_ALIGN(h->nlmsg_len) + MNL_ATTR_HDRLEN + MNL_ALIGN(len) > TX_SIZE)
		abort();
}

void nl_put(struct nlmsghdr *h, uint16_t type, const void *data, size_t len)
{
	want_room(h, len);
	mnl_attr_put(h, type, len, data);
}

void nl_put_u8(struct nlmsghdr *h, uint16_t type, uint8_t v)
{
	nl_put(h, type, &v, sizeof(v));
}

void nl_put_u32(struct nlmsghdr *h, uint16_t type, uint32_t v)
{
	nl_put(h, type, &v, sizeof(v));
}

void nl_put_str(struct nlmsghdr *h, uint16_t type, const char *s)
{
	nl_put(h, type, s, strlen(s) + 1);
}

struct nlattr *nl_nest(struct nlmsghdr *h, uint16_t type)
{
	want_room(h, 0);
	return mnl_attr_nest_start(h, type);
}

void nl_nest_end(struct nlmsghdr *h, struct nlattr *nest)
{
	mnl_attr_nest_end(h, nest);
}

static int send_all(struct nl *n, const void *buf, size_t len)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t r;

	do
		r = sendto(n->fd, buf, len, 0, (struct sockaddr *)&kernel, sizeof(kernel));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return (size_t)r == len ? 0 : -EIO;
}

/* One datagram of the kernel's. Bytes or -errno. */
static ssize_t receive(struct nl *n, int flags)
{
	for (;;) {
		struct sockaddr_nl from = {0};
		struct iovec iov = {.iov_base = n->rx, .iov_len = RX_SIZE};
		struct msghdr msg = {.msg_name = &from,
				     .msg_namelen = sizeof(from),
				     .msg_iov = &iov,
				     .msg_iovlen = 1};
		ssize_t r = recvmsg(n->fd, &msg, flags);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (msg.msg_namelen != sizeof(from) || from.nl_pid != 0)
			continue; /* a tenant's */
		if (msg.msg_flags & MSG_TRUNC)
			return -EMSGSIZE;
		return r;
	}
}

/* An NLMSG_ERROR: its code; its words go to n->ext when they come with an error. */
static int read_error(struct nl *n, const struct nlmsghdr *h)
{
	if (h->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct nlmsgerr))
		return -EBADMSG;

	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	size_t skip = sizeof(*e);

	if (e->error == 0 || e->error < -4095 || e->error > 0)
		return e->error == 0 ? 0 : -EBADMSG;
	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return e->error;
	if (!(h->nlmsg_flags & NLM_F_CAPPED)) {
		if (e->msg.nlmsg_len < MNL_NLMSG_HDRLEN || e->msg.nlmsg_len > h->nlmsg_len)
			return e->error;
		skip += MNL_ALIGN(e->msg.nlmsg_len - MNL_NLMSG_HDRLEN);
	}
	nl_str(nl_find(h, skip, NLMSGERR_ATTR_MSG), n->ext, sizeof(n->ext));
	return e->error;
}

/* 1: the request is answered in full; 0: more will come. */
static int handle(struct nl *n, const struct nlmsghdr *h, nl_fn fn, void *arg, bool *interrupted)
{
	if (h->nlmsg_seq != n->seq || (h->nlmsg_pid != n->portid && h->nlmsg_pid != 0))
		return 0;
	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		*interrupted = true;
	if (h->nlmsg_type == NLMSG_ERROR) {
		int r = read_error(n, h);

		return r < 0 ? r : 1;
	}
	if (h->nlmsg_type == NLMSG_DONE) {
		int r = h->nlmsg_len >= MNL_NLMSG_HDRLEN + sizeof(int)
				? *(const int *)mnl_nlmsg_get_payload(h)
				: 0;

		return r < 0 ? r : 1;
	}
	if (h->nlmsg_type < NLMSG_MIN_TYPE || !fn)
		return 0;

	int r = fn(h, arg);

	return r < 0 ? r : 0;
}

/* After an early stop, what is left of the answer would disturb the next request. */
static void drain(struct nl *n)
{
	while (receive(n, MSG_DONTWAIT) >= 0)
		;
}

int nl_talk(struct nl *n, struct nlmsghdr *h, nl_fn fn, void *arg)
{
	bool interrupted = false;

	if ((h->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		h->nlmsg_flags |= NLM_F_ACK;
	h->nlmsg_seq = ++n->seq;
	h->nlmsg_pid = n->portid;
	n->ext[0] = '\0';

	int r = send_all(n, h, h->nlmsg_len);

	while (r == 0) {
		ssize_t len = receive(n, 0);

		if (len < 0)
			return (int)len;

		int left = (int)len;

		for (const struct nlmsghdr *a = (void *)n->rx; r == 0 && mnl_nlmsg_ok(a, left);
		     a = mnl_nlmsg_next(a, &left))
			r = handle(n, a, fn, arg, &interrupted);
	}
	if (r < 0) {
		drain(n);
		return r;
	}
	return interrupted ? -EINTR : 0;
}

int nl_batch(struct nl *n, const void *buf, size_t len, uint32_t last_seq, uint32_t *bad_seq)
{
	int r, room = len * 2 < (1u << 20) ? 1 << 20 : (int)(len * 2), first = 0;
	bool acked = false;

	n->ext[0] = '\0';
	/* The kernel wants the whole batch in one datagram. */
	setsockopt(n->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	setsockopt(n->fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	r = send_all(n, buf, len);
	if (r < 0)
		return r;
	/* The batch is worked off inside sendto(2): every answer is queued by now. */
	for (;;) {
		ssize_t got = receive(n, MSG_DONTWAIT);

		if (got == -EAGAIN)
			break;
		if (got < 0)
			return first < 0 ? first : (int)got;

		int left = (int)got;

		for (const struct nlmsghdr *a = (void *)n->rx; mnl_nlmsg_ok(a, left);
		     a = mnl_nlmsg_next(a, &left)) {
			if (a->nlmsg_type != NLMSG_ERROR || first < 0)
				continue;
			r = read_error(n, a);
			if (r < 0) {
				first = r;
				*bad_seq = a->nlmsg_seq;
			} else if (a->nlmsg_seq == last_seq) {
				acked = true;
			}
		}
	}
	n->seq = last_seq + 1;
	if (first < 0)
		return first;
	return acked ? 0 : -EPROTO;
}

const struct nlattr *nl_find(const struct nlmsghdr *h, size_t len, uint16_t type)
{
	const struct nlattr *a;

	if (h->nlmsg_len < MNL_NLMSG_HDRLEN + MNL_ALIGN(len))
		return NULL;
	mnl_attr_for_each(a, h, len) if (mnl_attr_get_type(a) == type) return a;
	return NULL;
}

const struct nlattr *nl_find_in(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *a;

	if (!nest)
		return NULL;
	mnl_attr_for_each_nested(a, nest) if (mnl_attr_get_type(a) == type) return a;
	return NULL;
}

size_t nl_len(const struct nlattr *a)
{
	return a ? mnl_attr_get_payload_len(a) : 0;
}

const void *nl_data(const struct nlattr *a)
{
	return mnl_attr_get_payload(a);
}

uint32_t nl_u32(const struct nlattr *a, uint32_t dflt)
{
	uint32_t v = dflt;

	if (nl_len(a) >= sizeof(v))
		memcpy(&v, nl_data(a), sizeof(v));
	return v;
}

void nl_str(const struct nlattr *a, char *buf, size_t size)
{
	size_t n = 0;

	if (a) {
		n = strnlen(nl_data(a), nl_len(a));
		if (n > size - 1)
			n = size - 1;
		memcpy(buf, nl_data(a), n);
	}
	buf[n] = '\0';
}

int nl_fail(const struct nl *n, struct vps_err *err, int r, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (n && n->ext[0])
		return vps_err_set(err, -r, "%s: %s (%s)", what, vps_code_str(r), n->ext);
	return vps_err_sys(err, r, "%s", what);
}
