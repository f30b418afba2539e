/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's side of a VM without the rest of vps, for guest.sh:
 *
 *   guest_tool initrd MODULES PROGRAM CACHE   archive 1 in the folder CACHE; prints its path
 *   guest_tool config FILE KEY=VALUE...       archive 2 of these records
 *   guest_tool erofs ROOT IMAGE FILE          a copy of the image's EROFS
 *   guest_tool boot DIR CPUS [exports|restored]  vps-vmm with DIR's initrd, config, image, disk; the console, what
 *                                             the guest notifies and its stdio, each line with its name; stdin
 *                                             is the command's; exports: what it exports, into DIR/export;
 *                                             restored: on from DIR/snapshot
 *   guest_tool DIR exec ARG...                in that machine: its exit status is ours
 *   guest_tool DIR stat | stop | reboot | sync | grow | freeze SECONDS | clock | reseed
 *   guest_tool DIR snapshot                   into DIR/snapshot, after which it stands still
 *   guest_tool DIR pack PATH | unpack PATH    a tar stream to stdout, from stdin
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/if.h>
#include <linux/if_tun.h>

#include "base/fs.h"
#include "base/sys.h"
#include "images/images.h"
#include "runtime/guest/agent.h"
#include "runtime/guestcfg.h"
#include "runtime/microvm/initramfs.h"
#include "vmm/api.h"

#define TIMEOUT_MS 60000

static struct vps_err err;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "guest_tool: %s: %s\n", what, err.code ? err.msg : strerror(errno));
	exit(125);
}

static int must(int r, const char *what)
{
	if (r < 0)
		die(what);
	return r;
}

static int open_in(const char *dir, const char *name, int flags)
{
	autofree char *path = str_fmt("%s/%s", dir, name);

	return must(open(path, flags | O_CLOEXEC, 0600), path);
}

/* ---- making ---------------------------------------------------------------------- */

static void make_initrd(char **a)
{
	struct initramfs_opts o = {.modules = must(open(a[0], O_RDONLY | O_CLOEXEC), a[0]),
				   .program = must(open(a[1], O_RDONLY | O_CLOEXEC), a[1])};
	int cache = must(open(a[2], O_RDONLY | O_CLOEXEC), a[2]);
	int fd = must(initramfs_open(cache, &o, &err), "initrd");
	char self[32], path[4096];
	ssize_t n;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	n = readlink(self, path, sizeof(path) - 1);
	printf("%.*s\n", (int)n, path);
}

static void copy_to(int from, const char *path)
{
	int to = must(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), path);
	struct stat st;

	must(fstat(from, &st), path);
	must(fs_copy_data(from, to, (uint64_t)st.st_size), path);
}

static void make_config(char **a)
{
	auto_strbuf sb = STRBUF_INIT;
	struct guest_cfg cfg;

	for (char **kv = a + 1; *kv; kv++) {
		char *eq = strchr(*kv, '=');

		if (!eq)
			die(*kv);
		*eq = '\0';
		rec_add(&sb, *kv, eq + 1);
	}
	must(guest_cfg_parse(sb_str(&sb), sb.len, &cfg, &err), "config");
	copy_to(must(initramfs_config(&cfg, &err), "config"), a[0]);
	guest_cfg_done(&cfg);
}

static void make_erofs(char **a)
{
	struct img_store *s;
	struct img_info i = {0};
	int root = must(open(a[0], O_RDONLY | O_CLOEXEC), a[0]), fd = -1;

	must(img_store_open(root, &s, &err), a[0]);
	must(img_inspect(s, a[1], &i, &err), a[1]);
	must(img_erofs_open(s, &i, 2000000000u, NULL, &fd, &err), a[1]);
	copy_to(fd, a[2]);
	img_info_done(&i);
	img_store_close(s);
}

/* ---- a machine ------------------------------------------------------------------- */

static int make_tap(void)
{
	struct ifreq q = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	strcpy(q.ifr_name, "guesttap");
	must(fd < 0 ? fd : ioctl(fd, TUNSETIFF, &q), "tap");
	must(system("ip addr add 10.88.0.1/32 dev guesttap && ip link set guesttap up && "
		    "ip route replace 10.88.0.2/32 dev guesttap") ? -1 : 0, "ip");
	return fd;
}

static int make_ctl(const char *dir)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = must(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket");

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/" VMM_SOCKET, dir);
	unlink(a.sun_path);
	must(bind(fd, (struct sockaddr *)&a, sizeof(a)), a.sun_path);
	return must(listen(fd, 8), "listen") < 0 ? -1 : fd;
}

struct source {
	const char *name;
	struct strbuf line;
};

/* Whole lines, with their source's name in front; a datagram is one or more. */
static bool show(struct source *s, int fd)
{
	char buf[8192];
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	for (ssize_t i = 0; i < n; i++)
		if (buf[i] != '\r')
			sb_addc(&s->line, buf[i]);
	if (n <= 0 || str_eq(s->name, "notify"))
		sb_addc(&s->line, '\n');
	for (char *end; s->line.len && (end = memchr(s->line.s, '\n', s->line.len));) {
		size_t len = (size_t)(end - s->line.s) + 1;

		if (len > 1)
			printf("%s: %.*s", s->name, (int)len, s->line.s);
		memmove(s->line.s, end + 1, s->line.len - len + 1);
		s->line.len -= len;
	}
	fflush(stdout);
	return n > 0;
}

static void add(char ***v, char *s)
{
	must(strv_take(v, s), "argv");
}

static int boot(char **a)
{
	struct source from[] = {{.name = "console"}, {.name = "notify"}, {.name = "stdout"}, {.name = "stderr"}};
	int console[2], notify[2], out[2], errs[2], export = -1, restore = -1;
	const char *dir = a[0];
	auto_strv v = NULL;
	struct utsname u;
	pid_t pid;
	int status;

	uname(&u);
	must(pipe(console), "pipe");
	must(pipe(out), "pipe");
	must(pipe(errs), "pipe");
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, notify), "socketpair");
	autofree char *kernel = str_fmt("vmlinuz-%s", u.release);
	int fds[] = {open_in("/boot", kernel, O_RDONLY), open_in(dir, "initrd", O_RDONLY),
		     open_in(dir, "config", O_RDONLY), open_in(dir, "image", O_RDONLY),
		     open_in(dir, "disk", O_RDWR), make_tap(), make_ctl(dir),
		     open("/dev/null", O_RDONLY | O_CLOEXEC), dup(0)};

	if (str_eq(a[2], "restored"))
		restore = open_in(dir, "snapshot", O_RDONLY);
	else if (a[2])
		export = open_in(dir, "export", O_WRONLY | O_CREAT | O_TRUNC);
	add(&v, strdup("vps-vmm"));
	add(&v, strdup("memory=384M"));
	add(&v, str_fmt("cpus=%s", a[1]));
	if (restore >= 0) {
		add(&v, str_fmt("restore=%d,verify", restore));
	} else {
		add(&v, str_fmt("kernel=%d", fds[0]));
		add(&v, str_fmt("initrd=%d", fds[1]));
		add(&v, str_fmt("initrd=%d", fds[2]));
		add(&v, str_fmt("cmdline=console=ttyS0 quiet panic=1 pci=off net.ifnames=0"));
	}
	add(&v, str_fmt("disk=%d,ro,serial=" GUEST_SERIAL_IMAGE, fds[3]));
	add(&v, str_fmt("disk=%d,serial=" GUEST_SERIAL_DISK, fds[4]));
	add(&v, str_fmt("net=%d,02:00:00:00:88:02", fds[5]));
	add(&v, str_fmt("ctl=%d", fds[6]));
	add(&v, str_fmt("console=%d,%d", fds[7], console[1]));
	add(&v, str_fmt("notify=%d", notify[1]));
	add(&v, str_fmt("port=%u,%d,in", AGENT_STDIO_PORT, fds[8]));
	add(&v, str_fmt("port=%u,%d,out", AGENT_STDIO_PORT + 1, out[1]));
	add(&v, str_fmt("port=%u,%d,out", AGENT_STDIO_PORT + 2, errs[1]));
	if (export >= 0)
		add(&v, str_fmt("port=%u,%d,out", AGENT_EXPORT_PORT, export));
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (size_t i = 0; i < ARRAY_LEN(fds); i++)
			fcntl(fds[i], F_SETFD, 0);
		if (export >= 0)
			fcntl(export, F_SETFD, 0);
		if (restore >= 0)
			fcntl(restore, F_SETFD, 0);
		execvp(v[0], v);
		_exit(125);
	}
	close(console[1]);
	close(notify[1]);
	close(out[1]);
	close(errs[1]);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	struct pollfd p[] = {{console[0], POLLIN, 0}, {notify[0], POLLIN, 0}, {out[0], POLLIN, 0},
			     {errs[0], POLLIN, 0}};

	while (p[0].fd >= 0 && poll(p, 4, -1) > 0)
		for (int i = 0; i < 4; i++)
			if (p[i].revents && !show(&from[i], p[i].fd))
				p[i].fd = -1;
	for (int i = 0; i < 4; i++)
		sb_done(&from[i].line);
	must(waitpid(pid, &status, 0), "wait");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- its agent ------------------------------------------------------------------- */

/* While it boots nobody listens. */
static int connect_agent(const char *dir)
{
	int run = must(open(dir, O_RDONLY | O_CLOEXEC), dir);

	for (int i = 0;; i++) {
		int fd = vmm_api_vsock(run, AGENT_PORT, 5000, &err);
		int r = fd < 0 ? fd : agent_hello(fd, 5000, &err);

		if (r >= 0)
			return fd;
		if (i >= TIMEOUT_MS / 200)
			die("connect");
		close_fd(&fd);
		vps_err_clear(&err);
		usleep(200000);
	}
}

static int run_exec(int fd, char **argv)
{
	const struct agent_exec x = {.argv = argv};
	const int io[3] = {0, 1, 2};
	int status = 126, r = agent_exec(fd, &x, TIMEOUT_MS, &status, &err);

	if (r == -VPS_EEXEC)
		return status;
	must(r, "exec");
	return must(agent_bridge(fd, io, false, &err), "exec");
}

static void show_stat(int fd)
{
	struct agent_stat s;

	must(agent_stat(fd, TIMEOUT_MS, &s, &err), "stat");
	printf("memory %llu of %llu MiB, disk %llu of %llu MiB, %llu processes, up %llu s\n",
	       (unsigned long long)s.mem_available >> 20, (unsigned long long)s.mem_total >> 20,
	       (unsigned long long)s.disk_used >> 20, (unsigned long long)s.disk_size >> 20,
	       (unsigned long long)s.processes, (unsigned long long)s.uptime);
}

static int call(int fd, const char *what, const char *arg)
{
	static const struct { const char *name; enum agent_type type; } calls[] = {
		{"stop", AGENT_STOP}, {"reboot", AGENT_REBOOT}, {"sync", AGENT_SYNC},
		{"grow", AGENT_GROW}, {"freeze", AGENT_FREEZE}, {"clock", AGENT_CLOCK},
		{"reseed", AGENT_RESEED},
	};
	uint8_t data[64];
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		if (!str_eq(calls[i].name, what))
			continue;
		if (calls[i].type == AGENT_CLOCK) {
			uint64_t ns = htole64(1000000000ull * 1000000000ull); /* 2001-09-09 */

			memcpy(data, &ns, len = 8);
		} else if (calls[i].type == AGENT_RESEED) {
			len = sizeof(data);
			must(getrandom(data, len, 0) == sizeof(data) ? 0 : -1, "getrandom");
		}
		must(agent_call(fd, calls[i].type, data, len, TIMEOUT_MS, NULL, &err), what);
		if (arg)
			sleep((unsigned)atoi(arg));
		return 0;
	}
	errno = EINVAL;
	die(what);
}

static int snapshot(const char *dir)
{
	int run = must(open(dir, O_RDONLY | O_CLOEXEC), dir);
	int fd = open_in(dir, "snapshot", O_RDWR | O_CREAT | O_TRUNC);

	return must(vmm_api_snapshot(run, fd, true, TIMEOUT_MS, &err), "snapshot");
}

static int agent(const char *dir, char **a)
{
	int fd;

	if (str_eq(a[0], "snapshot"))
		return snapshot(dir);
	fd = connect_agent(dir);

	if (str_eq(a[0], "exec"))
		return run_exec(fd, a + 1);
	if (str_eq(a[0], "pack"))
		return must(agent_pack(fd, a[1], 1, -1, &err), "pack");
	if (str_eq(a[0], "unpack"))
		return must(agent_unpack(fd, a[1], -1, -1, 0, -1, &err), "unpack");
	if (str_eq(a[0], "stat"))
		show_stat(fd);
	else
		call(fd, a[0], a[1]);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 5 && str_eq(argv[1], "initrd"))
		make_initrd(argv + 2);
	else if (argc >= 3 && str_eq(argv[1], "config"))
		make_config(argv + 2);
	else if (argc >= 5 && str_eq(argv[1], "erofs"))
		make_erofs(argv + 2);
	else if (argc >= 4 && str_eq(argv[1], "boot"))
		return boot(argv + 2);
	else if (argc >= 3)
		return agent(argv[1], argv + 2);
	return 0;
}
