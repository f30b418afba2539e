/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leases: races between processes, what is never given, ports that overlap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/mem.h"
#include "netns/netns.h"

static char dir[64];

static struct net_addr addr(const char *s)
{
	struct net_addr a = {0};

	assert_int_equal(net_addr_parse(s, &a), 0);
	return a;
}

static struct net_host *open_host(const char *pool4, const char *pool6)
{
	struct net_conf c = {.tag = "lab", .lease_dir = dir};
	struct net_host *h = NULL;
	struct vps_err err = {0};

	if (pool4)
		c.pool4 = addr(pool4);
	if (pool6)
		c.pool6 = addr(pool6);
	if (net_host_open(&c, &h, &err) < 0)
		fail_msg("%s", err.msg);
	return h;
}

static int setup(void **state)
{
	strcpy(dir, "/tmp/vps-lease-test.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return fs_remove_tree(AT_FDCWD, dir);
}

static void test_auto(void **state)
{
	auto_done(net_host_closep) struct net_host *h = open_host("10.9.0.0/29", "fd09::/64");
	struct net_addr any4 = addr("0.0.0.0"), any6 = addr("::"), a;
	struct vps_err err = {0};
	char buf[NET_ADDR_STR];
	bool seen[8] = {false};

	/* .0 network, .1 gateway, .7 broadcast: five are left. */
	for (unsigned id = 0; id < 5; id++) {
		assert_int_equal(net_lease_addr(h, id, &any4, &a, &err), 0);
		assert_int_equal(a.len, 32);

		unsigned last = ntohl(a.v4.s_addr) & 255;

		assert_true(last >= 2 && last <= 6 && !seen[last]);
		seen[last] = true;
	}
	assert_int_equal(net_lease_addr(h, 9, &any4, &a, &err), -VPS_ERESOURCE);
	assert_int_equal(net_unlease_all(h, 3, &err), 0);
	vps_err_clear(&err);
	assert_int_equal(net_lease_addr(h, 9, &any4, &a, &err), 0);
	/* pool + id */
	assert_int_equal(net_lease_addr(h, 300, &any6, &a, &err), 0);
	assert_string_equal(net_addr_str(&a, true, buf), "fd09::12c/128");
	/* The gateway's and the broadcast address, wanted by name. */
	a = addr("10.9.0.1");
	assert_int_equal(net_lease_addr(h, 10, &a, &a, NULL), -VPS_EUSAGE);
	a = addr("10.9.0.7");
	assert_int_equal(net_lease_addr(h, 10, &a, &a, NULL), -VPS_EUSAGE);
}

static void test_by_name(void **state)
{
	auto_done(net_host_closep) struct net_host *h = open_host("10.9.0.0/24", NULL);
	struct net_addr a = addr("192.0.2.5/24"), got = {0}, any6 = addr("::");
	struct vps_err err = {0};

	assert_int_equal(net_lease_addr(h, 1, &a, &got, &err), 0);
	assert_int_equal(got.len, 24);
	assert_int_equal(net_lease_addr(h, 1, &a, &got, &err), 0); /* again is fine */
	assert_int_equal(net_lease_addr(h, 2, &a, &got, &err), -VPS_EEXISTS);
	assert_non_null(strstr(err.msg, "VPS 1"));
	assert_int_equal(net_unlease_addr(h, 2, &a), -EPERM);
	assert_int_equal(net_unlease_addr(h, 1, &a), 0);
	assert_int_equal(net_unlease_addr(h, 1, &a), 0);
	assert_int_equal(net_lease_addr(h, 2, &a, &got, NULL), 0);
	assert_int_equal(net_lease_addr(h, 2, &any6, &got, NULL), -VPS_ERESOURCE);
}

static struct net_publish pub(uint8_t proto, uint16_t port, const char *host)
{
	struct net_publish p = {.proto = proto, .host_port = port, .guest_port = 80};

	if (host)
		p.host = addr(host);
	return p;
}

static void test_ports(void **state)
{
	auto_done(net_host_closep) struct net_host *h = open_host("10.9.0.0/24", NULL);
	struct net_publish p[3] = {pub(IPPROTO_TCP, 28080, NULL), pub(IPPROTO_UDP, 28080, NULL),
				   pub(IPPROTO_TCP, 28081, "192.0.2.1")};
	struct net_publish other = pub(IPPROTO_TCP, 28081, "192.0.2.2"),
			   any = pub(IPPROTO_TCP, 28081, NULL),
			   one = pub(IPPROTO_TCP, 28080, "192.0.2.1"), fresh[2];
	struct vps_err err = {0};

	assert_int_equal(net_lease_ports(h, 1, p, 3, &err), 0);
	assert_int_equal(net_lease_ports(h, 1, p, 3, &err), 0);
	assert_int_equal(net_lease_ports(h, 2, p, 1, &err), -VPS_EEXISTS);
	/* "any address" and "this address" are the same port. */
	assert_int_equal(net_lease_ports(h, 2, &any, 1, NULL), -VPS_EEXISTS);
	assert_int_equal(net_lease_ports(h, 2, &one, 1, NULL), -VPS_EEXISTS);
	assert_int_equal(net_lease_ports(h, 2, &other, 1, NULL), 0);
	/* All or none: the first of these two was free and is free again. */
	fresh[0] = pub(IPPROTO_TCP, 28090, NULL);
	fresh[1] = p[0];
	assert_int_equal(net_lease_ports(h, 2, fresh, 2, NULL), -VPS_EEXISTS);
	assert_int_equal(net_lease_ports(h, 3, fresh, 1, NULL), 0);
	assert_int_equal(net_unlease_port(h, 1, &p[0]), 0);
	assert_int_equal(net_lease_ports(h, 2, p, 1, NULL), 0);
	p[0].proto = IPPROTO_ICMP;
	assert_int_equal(net_lease_ports(h, 2, p, 1, NULL), -VPS_EUSAGE);
}

static void test_host_service(void **state)
{
	auto_done(net_host_closep) struct net_host *h = open_host("10.9.0.0/24", NULL);
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	autoclose int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct vps_err err = {0};

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);

	struct net_publish p = pub(IPPROTO_TCP, ntohs(a.sin_port), NULL);

	assert_int_equal(net_lease_ports(h, 1, &p, 1, &err), -VPS_EEXISTS);
	assert_non_null(strstr(err.msg, "host itself"));
	close_fd(&fd);
	assert_int_equal(net_lease_ports(h, 1, &p, 1, NULL), 0);
}

/* Eight processes want the same addresses and ports at once. */
#define RACERS 8
#define ROUNDS 60

static int race(unsigned id, int start, int out)
{
	struct net_host *h = open_host("10.9.0.0/25", NULL);
	struct net_addr any = addr("0.0.0.0"), a;
	char c;

	if (read(start, &c, 1) != 1)
		return 1;
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct net_publish p = pub(IPPROTO_TCP, (uint16_t)(29000 + i),
					   i % 2 && id % 2 ? "192.0.2.1" : NULL);
		char line[64];
		int n;

		if (net_lease_addr(h, id, &any, &a, NULL) == 0) {
			n = snprintf(line, sizeof(line), "a %08x\n", ntohl(a.v4.s_addr));
			if (write(out, line, (size_t)n) != n)
				return 1;
		}
		if (net_lease_ports(h, id, &p, 1, NULL) == 0) {
			n = snprintf(line, sizeof(line), "p %08x\n", 29000 + i);
			if (write(out, line, (size_t)n) != n)
				return 1;
		}
	}
	return 0;
}

static void test_race(void **state)
{
	char buf[65536];
	int start[2], out[2];
	size_t len = 0, addrs = 0, ports = 0;

	assert_int_equal(pipe(start), 0);
	assert_int_equal(pipe(out), 0);
	for (unsigned i = 0; i < RACERS; i++)
		if (fork() == 0)
			_exit(race(1000 + i * 17, start[0], out[1]));
	assert_int_equal(write(start[1], "xxxxxxxx", RACERS), RACERS);
	close(out[1]);
	for (ssize_t n; (n = read(out[0], buf + len, sizeof(buf) - 1 - len)) > 0;)
		len += (size_t)n;
	buf[len] = '\0';
	for (unsigned i = 0; i < RACERS; i++) {
		int status;

		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	close(start[0]);
	close(start[1]);
	close(out[0]);
	/* Every line says what was got: none twice. */
	for (char *p = buf; *p; p = strchr(p, '\n') + 1) {
		char line[16];

		memcpy(line, p, 11);
		line[11] = '\0';
		assert_null(strstr(p + 11, line));
		*(line[0] == 'a' ? &addrs : &ports) += 1;
	}
	/* An /25 has 125 to give, 480 were asked for. */
	assert_int_equal(addrs, 125);
	assert_int_equal(ports, ROUNDS);
}

static void test_conf(void **state)
{
	static const char *const tags[] = {"", "1a", "a1", "toolongname", "A", "a b", "a/", NULL};
	struct net_host *h = NULL;

	for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
		struct net_conf c = {.tag = tags[i], .lease_dir = dir};

		assert_int_equal(net_host_open(&c, &h, NULL), -VPS_ECONF);
		assert_null(h);
	}

	struct net_conf c = {.tag = "v", .lease_dir = dir, .pool4 = addr("fd00::/64")};

	assert_int_equal(net_host_open(&c, &h, NULL), -VPS_ECONF);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_auto),	 T(test_by_name), T(test_ports),
					   T(test_host_service), T(test_race),	  T(test_conf)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
