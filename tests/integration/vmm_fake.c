/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the place of vps-vmm: no machine, but one that looks around in its jail and does what it is told on its console:
 *   e N   as a guest that said EXIT=N    p   that powered off    r   that rebooted    x   vps-vmm fails
 * On an errand (runtime/microvm/errand.c) it is a guest whose agent has one file to give and takes any.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <poll.h>

#include "base/sys.h"
#include "runtime/guest/agent.h"
#include "runtime/tar.h"
#include "vmm/api.h"

#define ERRAND "port=2,"
#define FILE_TEXT "of the guest\n"

/* A stream with the file "gift". */
static void send_gift(int fd)
{
	struct tar_header h = {.name = "gift", .mode = "0000644", .uid = "0000000", .gid = "0000000",
			       .mtime = "00000000000", .typeflag = '0', .magic = "ustar", .version = {'0', '0'}};
	char stream[4 * TAR_BLOCK] = "";

	snprintf(h.size, sizeof(h.size), "%011o", (unsigned)strlen(FILE_TEXT));
	snprintf(h.chksum, sizeof(h.chksum), "%06o", tar_checksum(&h));
	memcpy(stream, &h, sizeof(h));
	memcpy(stream + TAR_BLOCK, FILE_TEXT, strlen(FILE_TEXT));
	agent_send(fd, AGENT_DATA, 1, stream, sizeof(stream));
}

/* What a guest in the role of a session does, and how such can fail. */
static void errand(int fd, const char *cmdline)
{
	static const uint8_t hello[] = {'V', 'P', 'S', 'A', AGENT_VERSION, 0, 0, 0};
	struct agent_in in = AGENT_IN_INIT(false);
	struct agent_frame f;
	uint8_t refusal[] = {ENOENT, 0, 0, 0, 0, 0, 0, 0, 'n', 'o', '!'};
	size_t got = 0;

	if (strstr(cmdline, "fake.mute")) {
		fprintf(stderr, "vps-vmm: guest: there is no disk 'disk'\n");
		_exit(255);
	}
	agent_in_wait(&in, fd, -1, &f);
	agent_send(fd, AGENT_HELLO, 0, hello, sizeof(hello));
	if (agent_in_wait(&in, fd, -1, &f) != 1)
		_exit(255);
	if (strstr(cmdline, "fake.dies"))
		_exit(99);
	if (memmem(f.data, f.len, "/none", 5))
		agent_send(fd, AGENT_ERROR, 0, refusal, sizeof(refusal));
	else if (f.type == AGENT_PACK)
		send_gift(fd);
	else
		while (agent_in_wait(&in, fd, -1, &f) == 1 && f.type == AGENT_DATA) {
			uint32_t credit = (uint32_t)f.len;

			got += f.len;
			agent_send(fd, AGENT_CREDIT, 0, &credit, sizeof(credit));
		}
	if (got % TAR_BLOCK)
		_exit(255);
	agent_send(fd, AGENT_DONE, 0, NULL, 0);
	_exit(0);
}

static const char *value(char **argv, const char *key)
{
	size_t n = strlen(key);

	for (; *argv; argv++)
		if (strncmp(*argv, key, n) == 0 && (*argv)[n] == '=')
			return *argv + n + 1;
	return "-1";
}

static void look(int out, char **argv)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct c[2] = {0};
	struct stat st;
	char host[65] = "";
	int n = 0;
	DIR *d = opendir("/");

	for (struct dirent *e; d && (e = readdir(d));)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	if (d)
		closedir(d);
	syscall(SYS_capget, &h, c);
	gethostname(host, sizeof(host) - 1);
	dprintf(out, "pid %d uid %d %d gid %d %d host %s\n", getpid(), getuid(), geteuid(), getgid(), getegid(), host);
	dprintf(out, "caps %x %x %x %x %x %x ambient %d nnp %d dumpable %d\n", c[0].effective, c[1].effective,
		c[0].permitted, c[1].permitted, c[0].inheritable, c[1].inheritable,
		prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_BOOT, 0, 0),
		prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE));
	dprintf(out, "root entries %d write %s mount %s\n", n,
		mkdir("/x", 0700) < 0 ? strerror(errno) : "made",
		mount("none", "/", "tmpfs", 0, NULL) < 0 ? strerror(errno) : "made");
	dprintf(out, "fds");
	for (int fd = 0; fd < 1024; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			continue;
		fstat(fd, &st);
		dprintf(out, " %d:%s", fd,
			S_ISREG(st.st_mode) ? "file" : S_ISCHR(st.st_mode) ? "char" : S_ISSOCK(st.st_mode) ? "sock" :
			S_ISFIFO(st.st_mode) ? "pipe" : S_ISDIR(st.st_mode) ? "DIR" : "other");
	}
	dprintf(out, "\nargs");
	for (; *argv; argv++)
		dprintf(out, " %s", *argv);
	dprintf(out, "\n");
}

static _Noreturn void end_as(unsigned how, int otherwise)
{
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, how, NULL);
	_exit(otherwise);
}

static void told(const char *word)
{
	if (*word == 'e')
		_exit(atoi(word + 1));
	if (*word == 'p')
		end_as(LINUX_REBOOT_CMD_POWER_OFF, 99);
	if (*word == 'r')
		end_as(LINUX_REBOOT_CMD_RESTART, 99);
	if (*word == 'x') {
		fprintf(stderr, "vps-vmm: guest: Kernel panic - not syncing\n");
		_exit(255);
	}
}

/* Of the whole memory much has something in it, and little of that changes. */
static uint64_t fill(int fd, uint64_t round)
{
	static char data[1 << 20];
	uint64_t len = round == 1 ? sizeof(data) : 8192;

	for (size_t i = 0; i < len; i += 256)
		if (getrandom(data + i, 256, 0) != 256)
			return 0;
	return write(fd, data, len) == (ssize_t)len ? len : 0;
}

/* Agrees to everything, has a size, and writes a word where a snapshot is wanted; its guest has no agent. False: that was its
 * last word on this connection. */
static bool answer(int c, char **argv)
{
	struct {
		struct vmm_answer a;
		union {
			struct vmm_stats s;
			struct vmm_cpu cpu;
			struct vmm_round round;
		};
	} r = {.a.version = VMM_API_VERSION};
	struct vmm_request q = {0};
	size_t n_fds = 2, len = sizeof(r.a);
	int fds[2] = {-1, -1};

	if (sys_recv_fds(c, &q, sizeof(q), fds, &n_fds) != sizeof(q))
		return false;
	if (q.op == VMM_OP_STATS) {
		r.s.memory = (uint64_t)atoll(value(argv, "memory"));
		r.s.n_cpus = (uint32_t)atoi(value(argv, "cpus"));
		len += sizeof(r.s);
	} else if (q.op == VMM_OP_CPU) {
		strcpy(r.cpu.text, "x86-1:0.0.0.0.0.0.0.0.0.0.0.0.0.0");
		len += sizeof(r.cpu);
	} else if (q.op == VMM_OP_SNAPSHOT && n_fds == (q.arg[1] ? 2 : 1)) {
		dprintf(fds[0], q.arg[1] ? "the rest of %llu rounds\n" : "a snapshot of nothing\n",
			(unsigned long long)q.arg[1]);
		if (q.arg[1])
			fill(fds[1], q.arg[1]);
	} else if (q.op == VMM_OP_PRECOPY && strstr(value(argv, "cmdline"), "fake.old")) {
		r.a.result = -ENOSYS;
	} else if (q.op == VMM_OP_PRECOPY && n_fds == 1) {
		r.round.bytes = fill(fds[0], q.arg[0]);
		len += sizeof(r.round);
	} else if (q.op == VMM_OP_VSOCK) {
		r.a.result = -ECONNREFUSED;
	}
	send(c, &r, len, MSG_NOSIGNAL);
	close(fds[0]);
	close(fds[1]);
	return q.op == VMM_OP_PRECOPY || (q.op == VMM_OP_SNAPSHOT && q.arg[1]);
}

int main(int argc, char **argv)
{
	int gate, in, out, notify;
	struct pollfd p[4];
	char c = 0, buf[64];
	sigset_t all;

	if (argc >= 2 && strcmp(argv[1], "check") == 0) {
		bool lacks = argc == 3 && strstr(argv[0], "old-cpu");

		if (lacks)
			puts("this host's CPU lacks what the guest has seen (avx2)");
		return lacks;
	}
	if (strstr(value(argv + 1, "cmdline"), "fake.broken")) {
		fprintf(stderr, "vps-vmm: this machine is broken\n");
		return 255;
	}
	gate = atoi(value(argv + 1, "gate"));
	notify = atoi(value(argv + 1, "notify"));
	in = atoi(value(argv + 1, "console"));
	out = atoi(strchr(value(argv + 1, "console"), ',') + 1);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (send(gate, &c, 1, 0) != 1 || read(gate, &c, 1) != 1)
		return 0;
	for (char **a = argv; *a; a++)
		if (strncmp(*a, ERRAND, strlen(ERRAND)) == 0)
			errand(atoi(*a + strlen(ERRAND)), value(argv + 1, "cmdline"));
	look(out, argv + 1);
	send(notify, "READY=1", 7, 0);
	p[0] = (struct pollfd){.fd = in, .events = POLLIN};
	p[1] = (struct pollfd){.fd = signalfd(-1, &all, 0), .events = POLLIN};
	p[2] = (struct pollfd){.fd = atoi(value(argv + 1, "ctl")), .events = POLLIN};
	p[3] = (struct pollfd){.fd = -1, .events = POLLIN}; /* whose pre-copy it is */
	for (;;) {
		if (poll(p, 4, -1) < 0)
			continue;
		if (p[3].revents && !answer(p[3].fd, argv + 1)) {
			close(p[3].fd);
			p[3].fd = -1;
			dprintf(out, "pre-copy is over\n");
		}
		if (p[2].revents) {
			int conn = accept4(p[2].fd, NULL, NULL, SOCK_CLOEXEC);

			if (conn >= 0 && answer(conn, argv + 1))
				p[3].fd = conn;
			else
				close(conn);
		}
		if (p[1].revents) /* as a guest that powers off when it is asked to */
			end_as(LINUX_REBOOT_CMD_POWER_OFF, 0);
		if (p[0].revents) {
			ssize_t n = read(in, buf, sizeof(buf) - 1);

			buf[n > 0 ? n : 0] = 0;
			told(buf);
		}
	}
}
