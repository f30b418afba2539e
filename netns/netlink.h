/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink: one request and its answer at a time. The only user of libmnl.
 *
 * A socket opened in a tenant's network namespace can be sent messages by that tenant's root
 * (netlink_allowed() asks only for CAP_NET_ADMIN over the namespace), so an answer counts only when
 * the kernel sent it (port 0) and its sequence number is ours.
 */
#ifndef VPS_NETNS_NETLINK_H
#define VPS_NETNS_NETLINK_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct nl {
	int fd;
	uint32_t portid, seq;
	char ext[200]; /* the kernel's own words for the last error (NLMSGERR_ATTR_MSG), or "" */
	char *rx, *tx;
};
#define NL_INIT                                                                                    \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* Open a socket of a protocol (NETLINK_ROUTE, NETLINK_NETFILTER). 0 or -errno. */
int nl_open(struct nl *ret, int proto);
/* The same inside another network namespace. The caller's own namespace never changes: a
 * short-lived task that shares our files enters the namespace, makes the socket and ends. */
int nl_open_in(struct nl *ret, int proto, int netns_fd);
void nl_done(struct nl *n);

/* Start a request in the socket's own buffer (16 KiB). fixed: the protocol's header. */
struct nlmsghdr *nl_begin(struct nl *n, uint16_t type, uint16_t flags, const void *fixed,
			  size_t len);
void nl_put(struct nlmsghdr *h, uint16_t type, const void *data, size_t len);
void nl_put_u8(struct nlmsghdr *h, uint16_t type, uint8_t v);
void nl_put_u32(struct nlmsghdr *h, uint16_t type, uint32_t v);
void nl_put_str(struct nlmsghdr *h, uint16_t type, const char *s);
struct nlattr *nl_nest(struct nlmsghdr *h, uint16_t type);
void nl_nest_end(struct nlmsghdr *h, struct nlattr *nest);

/* Called for each answer; negative stops and is returned. */
typedef int (*nl_fn)(const struct nlmsghdr *h, void *arg);
/* Send, and read until the acknowledgement (or the end of the dump). 0 or -errno; -EINTR: the dump
 * was not consistent, ask again. */
int nl_talk(struct nl *n, struct nlmsghdr *h, nl_fn fn, void *arg);
/* Send an nfnetlink batch whose last message but one carries NLM_F_ACK and last_seq. All of it
 * happens or nothing. *bad_seq: the message that failed first. */
int nl_batch(struct nl *n, const void *buf, size_t len, uint32_t last_seq, uint32_t *bad_seq);

/* First attribute of a type behind a fixed header of len bytes; NULL when missing. */
const struct nlattr *nl_find(const struct nlmsghdr *h, size_t len, uint16_t type);
const struct nlattr *nl_find_in(const struct nlattr *nest, uint16_t type);
size_t nl_len(const struct nlattr *a);
const void *nl_data(const struct nlattr *a);
uint32_t nl_u32(const struct nlattr *a, uint32_t dflt); /* dflt when a is NULL or too short */
/* Copies a string that may lack its NUL; buf is always terminated. */
void nl_str(const struct nlattr *a, char *buf, size_t size);

/* "<what>: <strerror> (<kernel's words>)". Returns r. */
int nl_fail(const struct nl *n, struct vps_err *err, int r, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
