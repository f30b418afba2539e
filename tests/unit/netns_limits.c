/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rates, packet rates, the cap on tracked connections: measured. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sys.h"
#include "tests/unit/netns_lab.h"

static struct lab *lab;

static int setup(void **state)
{
	lab = lab_new();
	return 0;
}

static int teardown(void **state)
{
	lab_free(lab);
	return 0;
}

#define NEED_LAB()                                                                                 \
	do {                                                                                       \
		if (!lab)                                                                          \
			skip();                                                                    \
	} while (0)
#define PORT	5201
#define WARM_S	1.0
#define COUNT_S 4.0

struct flow {
	const char *to;
	bool udp;
	int ready;
	volatile uint64_t bytes, packets; /* received while counting */
	volatile uint64_t first;	  /* in the first 100 ms */
};

static int sink(void *arg)
{
	struct flow *f = arg;
	static char buf[1 << 18];
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	int one = 1, zero = 0, fd = socket(AF_INET6, f->udp ? SOCK_DGRAM : SOCK_STREAM, 0), c;
	uint64_t start;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || (!f->udp && listen(fd, 1) < 0) ||
	    write(f->ready, "x", 1) != 1)
		return 1;
	c = f->udp ? fd : accept(fd, NULL, NULL);
	start = sys_now_mono();
	for (;;) {
		struct pollfd p = {.fd = c, .events = POLLIN};
		double t;

		if (poll(&p, 1, 1000) < 0)
			return 1;
		t = (double)(sys_now_mono() - start) / 1e9;
		if (t > WARM_S + COUNT_S)
			return 0;

		ssize_t n = p.revents ? recv(c, buf, sizeof(buf), MSG_DONTWAIT) : 0;

		if (n > 0 && t >= WARM_S) {
			f->bytes += (uint64_t)n;
			f->packets++;
		}
	}
}

static int source(void *arg)
{
	struct flow *f = arg;
	static char buf[1 << 16];
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	bool v4 = inet_pton(AF_INET, f->to, &a4.sin_addr) == 1;
	int fd = socket(v4 ? AF_INET : AF_INET6, f->udp ? SOCK_DGRAM : SOCK_STREAM, 0);
	uint64_t end = sys_now_mono() + (uint64_t)((WARM_S + COUNT_S + 0.5) * 1e9);

	signal(SIGPIPE, SIG_IGN);
	if (!v4)
		inet_pton(AF_INET6, f->to, &a6.sin6_addr);
	if (connect(fd, v4 ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6,
		    v4 ? sizeof(a4) : sizeof(a6)) < 0)
		return 1;
	while (sys_now_mono() < end) {
		ssize_t n = send(fd, buf, f->udp ? 100 : sizeof(buf), f->udp ? 0 : MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			poll(&p, 1, 100);
		} else if (n < 0 && errno != ENOBUFS && errno != EPERM) {
			return 0;
		}
		if (f->udp) {
			struct timespec t = {.tv_nsec = 20000};

			nanosleep(&t, NULL);
		}
	}
	return 0;
}

static struct flow *measure(int from, int to_ns, const char *to, bool udp)
{
	struct flow *f =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ready[2], a, b;
	char c;

	assert_int_equal(pipe(ready), 0);
	*f = (struct flow){.to = to, .udp = udp, .ready = ready[1]};
	a = lab_start(to_ns, sink, f);
	assert_int_equal(read(ready[0], &c, 1), 1);
	b = lab_start(from, source, f);
	lab_wait(b);
	kill(a, SIGKILL);
	lab_wait(a);
	close(ready[0]);
	close(ready[1]);
	return f;
}

static bool right_rate(uint64_t bits, bool in, const char *to)
{
	struct flow *f = measure(in ? lab->far : lab->ns[1], in ? lab->ns[1] : lab->far, to, false);
	double got = (double)f->bytes * 8 / COUNT_S, share = got / (double)bits;

	print_message("  %s %5.0f Mbit/s: TCP payload %7.2f Mbit/s, %.0f %%\n", in ? "in " : "out",
		      (double)bits / 1e6, got / 1e6, share * 100);
	munmap(f, 4096);
	return share >= 0.8 && share <= 1.1;
}

/* Who counts on a busy machine may come late to what lies in his socket: then it is counted again. */
static void rate(uint64_t bits, bool in, const char *to)
{
	assert_true(right_rate(bits, in, to) || right_rate(bits, in, to) || right_rate(bits, in, to));
}

static void test_rates(void **state)
{
	static const uint64_t rates[] = {2000000, 10000000, 100000000, 1000000000};
	struct net_plan was = lab_plan("10.77.0.1 fd77::1");
	struct vps_err err = {0};

	NEED_LAB();
	lab_sh(lab->far,
	       "ip route add 10.77.0.0/16 via " HOST4 "; ip -6 route add fd77::/64 via " HOST6);
	lab_attach(lab, 1, &was);
	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		struct net_plan now = lab_plan("10.77.0.1 fd77::1");

		now.rate_in = now.rate_out = rates[i];
		if (i % 2) { /* once born with it, once changed to it */
			assert_int_equal(net_update(lab->h, 1, &was, &now, lab->ns[1], &err), 0);
		} else {
			assert_int_equal(net_detach(lab->h, 1, NULL), 0);
			lab_attach(lab, 1, &now);
		}
		rate(rates[i], true, i % 2 ? "fd77::1" : "10.77.0.1");
		rate(rates[i], false, i % 2 ? FAR6 : FAR4);
		net_plan_done(&was);
		was = now;
	}
	net_plan_done(&was);
}

static void test_pps(void **state)
{
	NEED_LAB();

	auto_done(net_plan_done) struct net_plan p = lab_plan("10.77.0.1 fd77::1");
	struct flow *f;

	p.pps = 1000;
	lab_attach(lab, 1, &p);
	lab_attach_default(lab, 2);
	f = measure(lab->ns[1], lab->far, FAR4, true);
	print_message("  1000 packets/s: %.0f arrive\n", (double)f->packets / COUNT_S);
	assert_true((double)f->packets / COUNT_S >= 800);
	assert_true((double)f->packets / COUNT_S <= 1100);
	munmap(f, 4096);
	/* The other one is not held back: this is no limit of all together. */
	f = measure(lab->ns[2], lab->far, FAR6, true);
	print_message("  without: %.0f arrive\n", (double)f->packets / COUNT_S);
	assert_true((double)f->packets / COUNT_S > 1500);
	munmap(f, 4096);
}

struct many {
	const char *to;
	int n, from;
};

/* One datagram to each of n ports. */
static int many_ports(void *arg)
{
	struct many *m = arg;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET};

	inet_pton(AF_INET, m->to, &a.sin_addr);
	for (int i = 0; i < m->n; i++) {
		a.sin_port = htons((uint16_t)(m->from + i));
		while (sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)) < 0)
			if (errno != ECONNREFUSED && errno != ENOBUFS)
				return 1;
	}
	return 0;
}

static long tracked(const char *addr)
{
	return lab_num(-1, "grep -c '%s ' /proc/net/nf_conntrack", addr);
}

static void test_connections(void **state)
{
	NEED_LAB();

	auto_done(net_plan_done) struct net_plan p = lab_plan("10.77.0.1"),
						 q = lab_plan("10.77.0.1");
	struct many m = {FAR4, 1000, 20000};
	struct vps_err err = {0};

	lab_sh(lab->far,
	       "ip route add 10.77.0.0/16 via " HOST4 "; "
	       "nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; "
	       "add rule ip t c udp dport 20000-40000 drop'");
	p.conntrack_max = 100;
	q.conntrack_max = 400;
	lab_attach(lab, 1, &p);
	lab_attach_default(lab, 2);
	assert_int_equal(lab_run(lab->ns[1], many_ports, &m), 0);
	print_message("  cap 100 (class 96): %ld tracked\n", tracked("src=10.77.0.1"));
	assert_true(tracked("src=10.77.0.1") <= 96);
	assert_true(tracked("src=10.77.0.1") >= 90);
	/* From outside, too; and others have theirs. */
	m.to = "10.77.0.1";
	assert_int_equal(lab_run(lab->far, many_ports, &m), 0);
	assert_true(tracked("10.77.0.1") <= 96);
	m.to = FAR4;
	assert_int_equal(lab_run(lab->ns[2], many_ports, &m), 0);
	assert_int_equal(tracked("src=10.77.0.2"), 1000);
	/* Idle for a while: the kernel drops the empty counter, the cap must come back with it. */
	assert_int_equal(net_detach(lab->h, 1, NULL), 0);
	assert_int_equal(tracked("10.77.0.1"), 0);
	lab_attach(lab, 1, &p);
	sleep(4);
	assert_int_equal(lab_run(lab->ns[1], many_ports, &m), 0);
	assert_true(tracked("src=10.77.0.1") <= 96);
	/* More for a running one. */
	assert_int_equal(net_update(lab->h, 1, &p, &q, lab->ns[1], &err), 0);
	m.from = 30000;
	assert_int_equal(lab_run(lab->ns[1], many_ports, &m), 0);
	print_message("  raised to 400 (class 384) with 96 there: %ld tracked\n",
		      tracked("src=10.77.0.1"));
	assert_true(tracked("src=10.77.0.1") >= 380);
	assert_true(tracked("src=10.77.0.1") <= 96 + 384);
}

/* What does counting cost when a guest is full? */
static void test_cost_when_full(void **state)
{
	NEED_LAB();

	auto_done(net_plan_done) struct net_plan p = lab_plan("10.77.0.1");
	struct many m = {FAR4, 30000, 20000};
	uint64_t t;

	lab_sh(lab->far,
	       "nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; "
	       "add rule ip t c udp dport 20000-60000 drop'");
	p.conntrack_max = 65536;
	lab_attach(lab, 1, &p);
	if (getenv("LAB_SHOW"))
		lab_sh(-1, "%s", getenv("LAB_SHOW"));
	for (int i = 0; i < 4; i++) {
		t = sys_now_mono();
		assert_int_equal(lab_run(lab->ns[1], many_ports, &m), 0);
		print_message("  30,000 datagrams, each to a new port: %.0f ms; %ld tracked\n",
			      (double)(sys_now_mono() - t) / 1e6, tracked("src=10.77.0.1"));
		m.from = i % 2 ? 20000 : 25000;
		assert_true(tracked("src=10.77.0.1") <= 65536);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	cmocka_set_test_filter(getenv("LAB_ONLY"));
	const struct CMUnitTest tests[] = {
		T(test_connections),
		T(test_cost_when_full),
		T(test_rates),
		T(test_pps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
