/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/netns_lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

int lab_ns(void)
{
	int ready[2], fd;
	char path[64], c;

	if (pipe(ready) < 0)
		return -errno;

	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) == 0 && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);

	ssize_t n = read(ready[0], &c, 1);

	close(ready[0]);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	fd = n == 1 ? open(path, O_RDONLY | O_CLOEXEC) : -EPERM;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fd;
}

int lab_start(int ns, int (*fn)(void *arg), void *arg)
{
	fflush(NULL);

	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ns >= 0 && setns(ns, CLONE_NEWNET) < 0)
		_exit(255);
	_exit(fn(arg));
}

int lab_wait(int pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 255;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

int lab_run(int ns, int (*fn)(void *arg), void *arg)
{
	return lab_wait(lab_start(ns, fn, arg));
}

static int shell(void *arg)
{
	execl("/bin/sh", "sh", "-c", arg, (char *)NULL);
	return 127;
}

int lab_sh(int ns, const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return lab_run(ns, shell, cmd);
}

struct out {
	const char *cmd;
	int fd;
};

static int shell_out(void *arg)
{
	struct out *o = arg;

	dup2(o->fd, 1);
	return shell((void *)o->cmd);
}

long lab_num(int ns, const char *fmt, ...)
{
	char cmd[2048], buf[64] = "";
	int p[2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (pipe(p) < 0)
		return -1;

	struct out o = {cmd, p[1]};
	int pid = lab_start(ns, shell_out, &o);

	close(p[1]);

	ssize_t n = fs_read_full(p[0], buf, sizeof(buf) - 1);

	close(p[0]);
	lab_wait(pid);
	return n > 0 ? atol(buf) : -1;
}

struct lab *lab_new(void)
{
	struct lab *l;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
		print_message("skipped: needs root and network namespaces\n");
		return NULL;
	}
	l = calloc(1, sizeof(*l));
	assert_non_null(l);
	l->host = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	l->far = lab_ns();
	assert_true(l->host >= 0 && l->far >= 0);
	for (int i = 0; i <= LAB_GUESTS; i++)
		l->ns[i] = -1;
	assert_int_equal(lab_sh(-1,
				"ip link set lo up && ip link add up0 type veth peer name wan0 && "
				"ip link set wan0 netns /proc/%d/fd/%d",
				getpid(), l->far),
			 0);
	assert_int_equal(lab_sh(l->far, "ip link set lo up && ip link set wan0 up && "
					"ip addr add " FAR4 "/24 dev wan0 && "
					"ip addr add " FAR6 "/64 dev wan0 nodad"),
			 0);
	assert_int_equal(lab_sh(-1, "ip link set up0 up && ip addr add " HOST4 "/24 dev up0 && "
				    "ip addr add " HOST6 "/64 dev up0 nodad && "
				    "ip route add default via " FAR4 " && "
				    "ip -6 route add default via " FAR6),
			 0);
	strcpy(l->dir, "/tmp/vps-netns-test.XXXXXX");
	assert_non_null(mkdtemp(l->dir));
	l->conf = (struct net_conf){.tag = LAB_TAG,
				    .pool4 = lab_addr(POOL4),
				    .pool6 = lab_addr(POOL6),
				    .nat = true,
				    .lease_dir = l->dir};

	struct vps_err err = {0};

	if (net_host_open(&l->conf, &l->h, &err) < 0)
		fail_msg("net_host_open: %s", err.msg);
	return l;
}

void lab_free(struct lab *l)
{
	if (!l)
		return;
	net_host_close(l->h);
	for (int i = 0; i <= LAB_GUESTS; i++)
		if (l->ns[i] >= 0)
			close(l->ns[i]);
	close(l->far);
	close(l->host);
	fs_remove_tree(AT_FDCWD, l->dir);
	free(l);
}

struct net_addr lab_addr(const char *s)
{
	struct net_addr a = {0};

	assert_int_equal(net_addr_parse(s, &a), 0);
	return a;
}

struct net_plan lab_plan(const char *addrs)
{
	struct net_plan p = {.mode = NET_ROUTED, .guest_if = "eth0"};
	auto_strv v = NULL;

	assert_int_equal(strv_split(addrs, " ", &v), 0);
	p.addrs = calloc(strv_len(v) + 1, sizeof(*p.addrs));
	for (size_t i = 0; v && v[i]; i++)
		if (v[i][0])
			p.addrs[p.n_addrs++] = lab_addr(v[i]);
	return p;
}

void lab_publish(struct net_plan *p, uint8_t proto, uint16_t host_port, uint16_t guest_port)
{
	p->publish = reallocarray(p->publish, p->n_publish + 1, sizeof(*p->publish));
	assert_non_null(p->publish);
	p->publish[p->n_publish++] = (struct net_publish){
		.proto = proto, .host_port = host_port, .guest_port = guest_port};
}

void lab_attach(struct lab *l, unsigned id, const struct net_plan *p)
{
	struct vps_err err = {0};

	if (l->ns[id] < 0)
		l->ns[id] = lab_ns();
	assert_true(l->ns[id] >= 0);
	if (net_attach(l->h, id, p, l->ns[id], &err) < 0)
		fail_msg("net_attach %u: %s", id, err.msg);
}

void lab_attach_default(struct lab *l, unsigned id)
{
	char addrs[64];

	snprintf(addrs, sizeof(addrs), "10.77.0.%u fd77::%u", id, id);

	auto_done(net_plan_done) struct net_plan p = lab_plan(addrs);

	lab_attach(l, id, &p);
}

static void timeouts(int fd)
{
	struct timeval tv = {.tv_sec = 2};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

struct serve {
	int proto, ready;
	uint16_t port;
};

static const char *peer_text(const struct sockaddr_in6 *a, char *buf)
{
	if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr))
		inet_ntop(AF_INET, &a->sin6_addr.s6_addr[12], buf, 64);
	else
		inet_ntop(AF_INET6, &a->sin6_addr, buf, 64);
	return buf;
}

static int serve(void *arg)
{
	struct serve *s = arg;
	bool udp = s->proto == IPPROTO_UDP;
	int fd = socket(AF_INET6, udp ? SOCK_DGRAM : SOCK_STREAM, 0), one = 1, zero = 0;
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(s->port)};
	socklen_t len = sizeof(a);
	char buf[64];

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	timeouts(fd);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || (!udp && listen(fd, 8) < 0) ||
	    write(s->ready, "x", 1) != 1)
		return 1;
	if (udp) {
		if (recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&a, &len) < 0)
			return 1;
		peer_text(&a, buf);
		return sendto(fd, buf, strlen(buf), 0, (struct sockaddr *)&a, len) < 0;
	}

	int c = accept(fd, (struct sockaddr *)&a, &len);

	if (c < 0)
		return 1;
	peer_text(&a, buf);
	return write(c, buf, strlen(buf)) < 0;
}

int lab_serve(int ns, int proto, uint16_t port)
{
	int p[2];
	char c;

	if (pipe(p) < 0)
		return -1;

	struct serve s = {proto, p[1], port};
	int pid = lab_start(ns, serve, &s);

	close(p[1]);
	if (read(p[0], &c, 1) != 1)
		print_message("server on port %u did not start\n", port);
	close(p[0]);
	return pid;
}

struct ask {
	int proto;
	uint16_t port;
	const char *addr;
	char *who;
};

static int ask(void *arg)
{
	struct ask *q = arg;
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(q->port)};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(q->port)};
	bool v4 = inet_pton(AF_INET, q->addr, &a4.sin_addr) == 1;
	int fd = socket(v4 ? AF_INET : AF_INET6, q->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM,
			0);
	char buf[64];

	if (!v4 && inet_pton(AF_INET6, q->addr, &a6.sin6_addr) != 1)
		return 2;
	timeouts(fd);
	if (connect(fd, v4 ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6,
		    v4 ? sizeof(a4) : sizeof(a6)) < 0)
		return 1;
	if (q->proto == IPPROTO_UDP && write(fd, "?", 1) != 1)
		return 1;

	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	if (n <= 0)
		return 1;
	buf[n] = '\0';
	if (q->who)
		strcpy(q->who, buf);
	return 0;
}

int lab_ask(int ns, int proto, const char *addr, uint16_t port, char *who)
{
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ask q = {proto, port, addr, shared};
	int r = lab_run(ns, ask, &q);

	if (who)
		strcpy(who, shared);
	munmap(shared, 4096);
	return r;
}

int lab_packet(const struct lab *l, int ns, const char *ifname)
{
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd, big = 4 << 20;

	assert_int_equal(setns(ns < 0 ? l->host : ns, CLONE_NEWNET), 0);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	a.sll_ifindex = (int)if_nametoindex(ifname);
	assert_int_equal(setns(l->host, CLONE_NEWNET), 0);
	assert_true(fd >= 0 && a.sll_ifindex > 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big));
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}
