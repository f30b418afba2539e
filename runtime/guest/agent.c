/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent: a process beside the guest's init. It takes the host's connections (a child each), passes on
 * what init says to NOTIFY_SOCKET, and hears the host's word to stop. Its name begins with '@': systemd
 * leaves such a process of root's alone at shutdown (systemd.io/ROOT_STORAGE_DAEMONS).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/guest/guest.h"

#define SESSIONS_MAX  128
#define PRIVILEGED    1023 /* the last port that only root can have; af_vsock.c */
#define RETRY_MIN_MS  20 /* after a restore somebody waits */
#define RETRY_MAX_MS  60000
#define WATCH_MS      100
#define HOST_TELL_MS  3000

/* ---- to the host --------------------------------------------------------------- */

int host_connect(unsigned port)
{
	const struct timeval wait = {.tv_sec = 5};
	struct sockaddr_vm from = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
	const struct sockaddr_vm to = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	autoclose int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = -EADDRINUSE;

	if (fd < 0)
		return -errno;
	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &wait, sizeof(wait));
	for (unsigned p = PRIVILEGED; p > AGENT_PORT && r == -EADDRINUSE; p--) {
		from.svm_port = p;
		r = bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ? -errno : 0;
	}
	if (r == 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		r = -errno;
	return r < 0 ? r : take_fd(fd);
}

void host_tell(const char *lines)
{
	autoclose int fd = host_connect(AGENT_NOTIFY_PORT);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char c[64];

	if (fd < 0 || fs_write_all(fd, lines, strlen(lines)) < 0)
		return;
	shutdown(fd, SHUT_WR);
	while (poll(&p, 1, HOST_TELL_MS) > 0 && read(fd, c, sizeof(c)) > 0)
		;
}

/* ---- the agent ----------------------------------------------------------------- */

struct agent {
	struct guest g;
	int listener, signals;
	int conn;		/* notify connection, or -1 */
	int retry_ms;
	bool watch; /* init is on its way out */
	bool ready; /* and the host does not know yet */
	bool told;  /* it knew once: a new one, after a restore, is to know as well */
	unsigned sessions;
};

static int listen_vsock(void)
{
	const struct sockaddr_vm at = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = AGENT_PORT};
	autoclose int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 32) < 0)
		return -errno;
	return take_fd(fd);
}

static void drop_conn(struct agent *a)
{
	close_fd(&a->conn);
	a->retry_ms = a->retry_ms ? a->retry_ms * 2 : RETRY_MIN_MS;
	if (a->retry_ms > RETRY_MAX_MS)
		a->retry_ms = RETRY_MAX_MS;
}

static void tell(struct agent *a, const char *text, size_t len)
{
	while (len && a->conn >= 0) {
		size_t n = strnlen(text, len);
		const char *end = memchr(text, '\n', n);
		char line[AGENT_LINE_MAX];

		n = end ? (size_t)(end - text) : n;
		if (n && n < sizeof(line)) {
			memcpy(line, text, n);
			line[n] = '\n';
			if (send(a->conn, line, n + 1, MSG_NOSIGNAL) != (ssize_t)n + 1)
				drop_conn(a);
		}
		n += n < len;
		text += n;
		len -= n;
	}
}

static void tell_ready(struct agent *a)
{
	if (!a->ready)
		return;
	tell(a, "READY=1", 7);
	a->ready = a->conn < 0;
	a->told = true;
}

/* After a restore of the machine every connection is gone, so this may be any number of times. */
static void connect_again(struct agent *a)
{
	a->conn = host_connect(AGENT_NOTIFY_PORT);
	if (a->conn < 0)
		drop_conn(a);
	else {
		a->retry_ms = 0;
		tell_ready(a);
	}
}

static void from_init(struct agent *a)
{
	char buf[AGENT_LINE_MAX];
	ssize_t n = recv(a->g.notify, buf, sizeof(buf) - 1, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return;
	buf[n] = '\0';
	/* the first since 254, the second before: "Activating special unit reboot.target..." */
	if (strstr(buf, "STOPPING=1") || strstr(buf, "STATUS=Activating special unit"))
		a->watch = true;
	tell(a, buf, (size_t)n);
	if (!strstr(buf, "READY=1"))
		return;
	/* said while nobody listened: it is not said twice */
	a->ready = a->conn < 0;
	a->told = a->told || !a->ready;
}

/* systemd has become systemd-shutdown(8), whose first argument is what the kernel will be asked. So the host
 * learns that a reset is a reboot and no crash. */
static void watch_shutdown(struct agent *a)
{
	char cmd[256];
	ssize_t n = fs_read_buf(AT_FDCWD, "/proc/1/cmdline", cmd, sizeof(cmd));

	if (n <= 0 || !strstr(cmd, "systemd-shutdown"))
		return;
	a->watch = false;
	if (strcmp(cmd + strlen(cmd) + 1, "reboot") == 0 || strcmp(cmd + strlen(cmd) + 1, "kexec") == 0)
		tell(a, "REBOOT=1", 8);
}

/* It has nothing to say: what it wants it asks for on our port. */
static void from_host(struct agent *a)
{
	char c[64];
	ssize_t n = recv(a->conn, c, sizeof(c), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop_conn(a);
		a->ready = a->ready || a->told;
	}
}

/* Whoever is inside can connect as well (a loopback of vsock, a VM in the VM): only the host is let in. */
static void accept_host(struct agent *a)
{
	struct sockaddr_vm peer;
	socklen_t len = sizeof(peer);
	autoclose int fd = accept4(a->listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
	sigset_t none;
	pid_t pid;

	if (fd < 0 || peer.svm_cid != VMADDR_CID_HOST || a->sessions >= SESSIONS_MAX)
		return;
	pid = fork();
	if (pid > 0)
		a->sessions++;
	if (pid != 0)
		return;
	close_fd(&a->listener);
	close_fd(&a->signals);
	close_fd(&a->conn);
	close_fd(&a->g.notify);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	session_run(&a->g, fd);
	_exit(0);
}

static void reap(struct agent *a)
{
	struct signalfd_siginfo si;

	while (read(a->signals, &si, sizeof(si)) == sizeof(si))
		;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		a->sessions -= a->sessions > 0;
}

static void serve(struct agent *a)
{
	for (;;) {
		struct pollfd p[] = {
			{.fd = a->listener, .events = POLLIN},
			{.fd = a->signals, .events = POLLIN},
			{.fd = a->g.notify, .events = POLLIN},
			{.fd = a->conn, .events = POLLIN},
		};
		int wait = a->watch ? WATCH_MS : a->conn < 0 ? a->retry_ms : -1;
		int n = poll(p, ARRAY_LEN(p), wait);

		if (a->watch)
			watch_shutdown(a);
		if (n == 0 && a->conn < 0)
			connect_again(a);
		if (p[0].revents)
			accept_host(a);
		if (p[1].revents)
			reap(a);
		if (p[2].revents)
			from_init(a);
		if (p[3].revents && a->conn >= 0)
			from_host(a);
	}
}

_Noreturn void agent_main(char **argv)
{
	struct agent a = {.conn = -1, .g = {.self = -1, .root = -1}};
	sigset_t all;

	prctl(PR_SET_NAME, "vps-agent");
	fs_write(AT_FDCWD, "/proc/self/oom_score_adj", "-1000");
	a.g.config = atoi(argv[1]);
	a.g.disk = atoi(argv[2]);
	a.g.notify = atoi(argv[3]);
	a.g.stop_signal = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (a.g.stop_signal == MAP_FAILED)
		a.g.stop_signal = NULL;
	else
		*a.g.stop_signal = -1;
	fcntl(a.g.disk, F_SETFD, FD_CLOEXEC);
	if (a.g.notify >= 0)
		fcntl(a.g.notify, F_SETFD, FD_CLOEXEC);
	config_load(&a.g, NULL);
	close_fd(&a.g.config);
	a.told = a.g.cfg.role == GUEST_COMMAND; /* by its init */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&all);
	sigaddset(&all, SIGCHLD);
	a.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	a.listener = listen_vsock();
	if (a.listener < 0)
		dprintf(2, "vps-guest: no agent: %s\n", strerror(-a.listener));
	connect_again(&a);
	serve(&a);
	_exit(1);
}

/* ---- started by PID 1 ---------------------------------------------------------- */

static int bind_notify(struct vps_err *err)
{
	const struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = NOTIFY_PATH};
	autoclose int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || fs_mkdir_p(AT_FDCWD, "/run/host", 0755) < 0 ||
	    bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || chmod(NOTIFY_PATH, 0600) < 0)
		return vps_err_sys(err, -errno, "bind " NOTIFY_PATH);
	return take_fd(fd);
}

/* No longer of the initramfs's image: the same program anew, by its fd. */
static _Noreturn void become_agent(struct guest *g)
{
	char nums[3][12], name[] = "@vps-agent";
	char *argv[] = {name, nums[0], nums[1], nums[2], NULL}, *env[] = {NULL};
	int fds[3] = {g->config, g->disk, g->notify};

	for (int i = 0; i < 3; i++) {
		snprintf(nums[i], sizeof(nums[i]), "%d", fds[i]);
		if (fds[i] >= 0)
			fcntl(fds[i], F_SETFD, 0);
	}
	setsid();
	fexecve(g->self, argv, env);
	dprintf(2, "vps-guest: no agent: %s\n", strerror(errno));
	_exit(1);
}

int agent_start(struct guest *g, struct vps_err *err)
{
	pid_t pid;

	if (g->cfg.role == GUEST_SYSTEM) {
		g->notify = bind_notify(err);
		if (g->notify < 0)
			return g->notify;
	}
	pid = fork();
	if (pid == 0)
		become_agent(g);
	return pid < 0 ? vps_err_sys(err, -errno, "start the agent") : 0;
}
