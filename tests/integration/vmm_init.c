/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first process of the stock kernels that vmm.sh boots: loads /mods, does each word of $do,
 * tells the console, and ends as the last word says. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void show(const char *what, const char *path)
{
	char b[256];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof(b) - 1);

	b[n > 0 ? n : 0] = 0;
	b[strcspn(b, "\n")] = 0;
	printf("%s: %s\n", what, n < 0 ? "none" : b);
	if (fd >= 0)
		close(fd);
}

static void load_modules(void)
{
	FILE *f = fopen("/mods", "r");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;

		int fd = open(line, O_RDONLY);

		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			printf("%s: %m\n", line);
		if (fd >= 0)
			close(fd);
	}
	if (f)
		fclose(f);
}

static void disk(void)
{
	char b[512] = "";
	int fd = open("/dev/vda", O_RDWR);

	if (fd < 0 || read(fd, b, sizeof(b)) != sizeof(b))
		printf("vda: %m\n");
	printf("disk: %.40s\n", b);
	memcpy(b, "from the guest", 15);
	if (pwrite(fd, b, sizeof(b), 4096) != sizeof(b) || fsync(fd) < 0)
		printf("write: %m\n");
	close(fd);
	show("serial", "/sys/block/vda/serial");
}

/* Echo one packet as 10.88.0.2. */
static void net(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET}, from;
	socklen_t len = sizeof(from);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = {.ifr_name = "eth0"};
	char b[2000];

	inet_pton(AF_INET, "10.88.0.2", &a.sin_addr);
	memcpy(&r.ifr_addr, &a, sizeof(a));
	if (ioctl(fd, SIOCSIFADDR, &r) < 0)
		printf("eth0: %m\n");
	r.ifr_flags = IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		printf("eth0 up: %m\n");
	a.sin_port = htons(7);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		printf("bind: %m\n");
	show("mac", "/sys/class/net/eth0/address");
	printf("net ready\n");

	ssize_t n = recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&from, &len);

	if (n < 0 || sendto(fd, b, (size_t)n, 0, (struct sockaddr *)&from, len) != n)
		printf("echo: %m\n");
	close(fd);
}

/* Echo all of one connection of the host to port 52, then connect to its port 7. */
static void vsock(void)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 52};
	int s = socket(AF_VSOCK, SOCK_STREAM, 0), c, fd;
	static char b[16384];
	size_t total = 0;
	ssize_t n;

	if (bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 1) < 0)
		printf("vsock: %m\n");
	printf("vsock ready\n");
	c = accept(s, NULL, NULL);
	while ((n = read(c, b, sizeof(b))) > 0)
		for (ssize_t k, off = 0; off < n; off += k, total += (size_t)k)
			if ((k = write(c, b + off, (size_t)(n - off))) <= 0)
				break;
	close(c);
	printf("vsock echoed %zu\n", total);
	a.svm_cid = 2;
	a.svm_port = 7;
	fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || write(fd, "hello host", 10) != 10)
		printf("connect: %m\n");
	close(fd);
}

static int connect_host(unsigned from, unsigned port)
{
	struct sockaddr_vm a = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = from};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		printf("bind: %m\n");
	a.svm_cid = VMADDR_CID_HOST;
	a.svm_port = port;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		printf("connect to %u: %m\n", port);
	return fd;
}

/* Lines for the host; a port below 1024 is needed for them. */
static void notify(void)
{
	static const char lines[] = "READY=1\nSTATUS=all well\nEXIT=7\n";
	int fd = connect_host(2000, 1);

	close(fd);
	fd = connect_host(1000, 1);
	if (write(fd, lines, sizeof(lines) - 1) != sizeof(lines) - 1)
		printf("notify: %m\n");
	close(fd);
}

/* What stdin has, to stdout. */
static void stdio(void)
{
	int in = connect_host(900, 16), out = connect_host(901, 17);
	char b[4096];
	size_t total = 0;
	ssize_t n;

	while ((n = read(in, b, sizeof(b))) > 0) {
		total += (size_t)n;
		if (write(out, b, (size_t)n) != n)
			printf("stdout: %m\n");
	}
	printf("stdin had %zu\n", total);
	close(in);
	close(out);
}

/* Agrees to be stopped, as the agent does. */
static void agent(void)
{
	static const unsigned char yes[] = {1, 0, 0, 0, 8,  0, 0, 0, 'V', 'P', 'S', 'A',
					    1, 0, 0, 0, 67, 0, 0, 0, 0,	  0,   0,   0};
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1};
	int s = socket(AF_VSOCK, SOCK_STREAM, 0), c;
	unsigned char b[24];
	size_t n = 0;
	ssize_t k;

	if (bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 1) < 0)
		printf("agent: %m\n");
	printf("agent ready\n");
	c = accept(s, NULL, NULL);
	while (n < sizeof(b) && (k = read(c, b + n, sizeof(b) - n)) > 0)
		n += (size_t)k;
	printf("agent asked %zu: %d\n", n, b[16]);
	if (write(c, yes, sizeof(yes)) != sizeof(yes))
		printf("agent: %m\n");
	sleep(1);
	close(c);
}

/* Take much memory and give it back. */
static void memory(void)
{
	size_t size = 96u << 20;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(p, 1, size);
	printf("memory taken\n");
	sleep(2);
	munmap(p, size);
	printf("memory given\n");
}

/* Time goes on, also after a restore. */
static void tick(void)
{
	for (int i = 0;; i++) {
		struct timespec t;

		clock_gettime(CLOCK_MONOTONIC, &t);
		printf("tick %d at %ld.%02ld\n", i, (long)t.tv_sec, t.tv_nsec / 10000000);
		usleep(200000);
	}
}

static void panic(void)
{
	int fd = open("/proc/sysrq-trigger", O_WRONLY);

	tcdrain(1);
	if (write(fd, "c", 1) != 1)
		printf("panic: %m\n");
}

/* The power button is the event device's only interrupt. */
static void button(void)
{
	static char b[16384];

	printf("button ready\n");
	for (;;) {
		int fd = open("/proc/interrupts", O_RDONLY);
		ssize_t n = read(fd, b, sizeof(b) - 1);
		const char *p;
		unsigned long count = 0;

		b[n > 0 ? n : 0] = 0;
		close(fd);
		p = strstr(b, "ACPI:Ged");
		while (p && p > b && p[-1] != '\n')
			p--;
		p = p ? strchr(p, ':') : NULL;
		for (char *end; p; p = end) {
			unsigned long v = strtoul(p + (*p == ':'), &end, 10);

			if (end == p || end == p + 1)
				break;
			count += v;
		}
		if (count)
			break;
		usleep(50000);
	}
	printf("button pressed\n");
}

int main(void)
{
	char *words = getenv("do") ?: (char *)"", *w;
	struct utsname u;
	int end = RB_POWER_OFF;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);

	int fd = open("/dev/ttyS0", O_RDWR);

	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	setvbuf(stdout, NULL, _IOLBF, 0);
	load_modules();
	uname(&u);
	printf("kernel: %s\ncpus: %ld\n", u.release, sysconf(_SC_NPROCESSORS_ONLN));
	show("clock", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
	for (w = strtok(words, ","); w; w = strtok(NULL, ",")) {
		if (strcmp(w, "disk") == 0)
			disk();
		else if (strcmp(w, "net") == 0)
			net();
		else if (strcmp(w, "vsock") == 0)
			vsock();
		else if (strcmp(w, "button") == 0)
			button();
		else if (strcmp(w, "notify") == 0)
			notify();
		else if (strcmp(w, "stdio") == 0)
			stdio();
		else if (strcmp(w, "agent") == 0)
			agent();
		else if (strcmp(w, "memory") == 0)
			memory();
		else if (strcmp(w, "tick") == 0)
			tick();
		else if (strcmp(w, "panic") == 0)
			panic();
		else if (strcmp(w, "reboot") == 0)
			end = RB_AUTOBOOT;
	}
	printf("end\n");
	tcdrain(1);
	sync();
	reboot(end);
	pause();
}
