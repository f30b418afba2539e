/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small internet in namespaces. The test process itself moves into a fresh network namespace:
 * that is "the host". "far" is a machine beyond the host's uplink. Nothing of the machine that runs
 * the test is touched.
 *
 *   guest N ── <tag>N │ host │ up0 ── wan0 │ far      198.51.100.1/24, 2001:db8:1::1/64 (host)
 *                                                     198.51.100.2/24, 2001:db8:1::2/64 (far)
 */
#ifndef VPS_TEST_NETNS_LAB_H
#define VPS_TEST_NETNS_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "netns/netns.h"

#define LAB_TAG	   "lab"
#define LAB_GUESTS 8
#define HOST4	   "198.51.100.1"
#define FAR4	   "198.51.100.2"
#define HOST6	   "2001:db8:1::1"
#define FAR6	   "2001:db8:1::2"
#define POOL4	   "10.77.0.0/16"
#define POOL6	   "fd77::/64"

struct lab {
	struct net_host *h;
	int far, host;		/* namespace fds */
	int ns[LAB_GUESTS + 1]; /* by id; -1 */
	char dir[64];
	struct net_conf conf;
};

/* NULL with the reason printed when this machine cannot do it (not root, no namespaces). */
struct lab *lab_new(void);
void lab_free(struct lab *l);
/* A fresh namespace's fd. */
int lab_ns(void);
/* Run fn(arg) in a child inside ns; its result (0..255), or 255 when it died. */
int lab_run(int ns, int (*fn)(void *arg), void *arg);
/* The same in the background: pid, to be given to lab_wait. */
int lab_start(int ns, int (*fn)(void *arg), void *arg);
int lab_wait(int pid);
/* A shell command inside ns (ip, nft, ping: looking and poking only). Its exit status. */
int lab_sh(int ns, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Its output's number. */
long lab_num(int ns, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A routed plan: addresses separated by blanks. To be given to net_plan_done. */
struct net_plan lab_plan(const char *addrs);
void lab_publish(struct net_plan *p, uint8_t proto, uint16_t host_port, uint16_t guest_port);
/* Attach guest id (own fresh namespace) and check that it worked. 10.77.0.<id>, fd77::<id>. */
void lab_attach(struct lab *l, unsigned id, const struct net_plan *p);
void lab_attach_default(struct lab *l, unsigned id);
struct net_addr lab_addr(const char *s);

/* Sockets. Address text of either family. All with a timeout of two seconds. */
/* Serve one connection or datagram on port: answers "peer address". */
int lab_serve(int ns, int proto, uint16_t port); /* pid; up when it returns */
/* Connect and read who we are to the server; 0 or 1. who may be NULL; at least 64 bytes. */
int lab_ask(int ns, int proto, const char *addr, uint16_t port, char *who);

/* A raw socket on an interface in ns, for sending frames and for listening to all of them. */
int lab_packet(const struct lab *l, int ns, const char *ifname);

#endif
