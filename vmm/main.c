/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vps-vmm: one virtual machine of the fds and numbers it is given, in this process.
 *
 *     vps-vmm memory=SIZE [cpus=N] {kernel=FD [initrd=FD]... cmdline=TEXT | restore=FD[,verify] [round=FD]...}
 *             [kvm=FD] [cid=N] [gate=FD] [ctl=FD] [console=IN,OUT] [notify=FD]
 *             [port=PORT,FD[,in|,out]]... [net=FD,MAC[,mtu=N]]...
 *             [disk=FD[,ro][,serial=TEXT][,bps=N][,iops=N]]...
 *
 *     kvm      /dev/kvm, for where there is no such path
 *     restore  a file of vmm_api_snapshot, which may not change for as long as we run; memory, cpus,
 *              disks and nets are to be as they were; verify: read and check all of it first
 *     round    the files of vmm_api_precopy and vmm_api_snapshot_rounds that belong to it, in order
 *     gate     a stream socket or a pipe: once all is prepared and before the guest's first
 *              instruction we say a byte (on a socket), then one byte lets it run; the end of the
 *              file ends us without a word
 *     ctl      a listening SOCK_SEQPACKET socket: vmm/api.h
 *     console  different fds; both become nonblocking
 *     notify   a connected datagram socket: what the guest tells host port 1 (vmm/api.h)
 *     port     the guest's first connection to this host port gets FD: both ways, or in: FD is only
 *              read (its bytes go to the guest), or out: only written
 *     disk     in this order /dev/vda, /dev/vdb, ...; the serial has at most 20 bytes
 *
 * "vps-vmm check [CPU]": can this host run a stock kernel, and let a guest go on that has seen such a CPU (the text of
 * vmm_api_cpu)? Status 0, or 1 with the reason on stdout.
 *
 * Exit status and signals: vmm/api.h. Every signal that can be caught asks the guest to stop.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/reboot.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include "base/str.h"
#include "vmm/api.h"
#include "vmm/filter.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"
#include "vmm/snapcpu.h"

#if defined(__SANITIZE_ADDRESS__)
#define FILTERED false /* a sanitizer asks the kernel for more */
#else
#define FILTERED true
#endif
#define MAX_FDS 1024

struct main {
	struct machine_opts o;
	struct machine *machine;
	struct loop_source signals;
	int gate;
};

static int number(const char *s, uint64_t max, uint64_t *ret, struct vps_err *err)
{
	if (parse_u64(s, max, ret) < 0)
		return vps_err_set(err, VPS_EUSAGE, "'%s' is no number up to %llu", s,
				   (unsigned long long)max);
	return 0;
}

static int fd_of(const char *s, int *ret, struct vps_err *err)
{
	uint64_t n;
	int r = number(s, 1 << 20, &n, err);

	if (r < 0)
		return r;
	if (fcntl((int)n, F_SETFD, FD_CLOEXEC) < 0)
		return vps_err_sys(err, -errno, "fd %s", s);
	*ret = (int)n;
	return 0;
}

static int disk(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	struct blk_opts d = {.fd = -1};
	int r = fd_of(v[0], &d.fd, err);

	if (r == 0 && o->n_disks == MACHINE_DISKS)
		return vps_err_set(err, VPS_EUSAGE, "more than %u disks", MACHINE_DISKS);
	for (size_t i = 1; r == 0 && v[i]; i++) {
		if (str_eq(v[i], "ro"))
			d.read_only = true;
		else if (str_starts(v[i], "serial=") && strlen(v[i] + 7) < sizeof(d.serial))
			strcpy(d.serial, v[i] + 7);
		else if (str_starts(v[i], "bps="))
			r = number(v[i] + 4, INT64_MAX, &d.bytes_per_sec, err);
		else if (str_starts(v[i], "iops="))
			r = number(v[i] + 5, INT64_MAX, &d.ops_per_sec, err);
		else
			r = vps_err_set(err, VPS_EUSAGE, "disk: '%s'", v[i]);
	}
	if (r == 0)
		o->disks[o->n_disks++] = d;
	return r;
}

/* Six pairs of hex digits between colons. */
static int parse_mac(const char *s, uint8_t *ret)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 6; i++, s += 3) {
		const char *high = *s ? strchr(digits, s[0]) : NULL;
		const char *low = high && s[1] ? strchr(digits, s[1]) : NULL;

		if (!low || s[2] != (i < 5 ? ':' : 0))
			return -EINVAL;
		ret[i] = (uint8_t)((high - digits) << 4 | (low - digits));
	}
	return 0;
}

static int net(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	struct net_opts n = {.tap = -1};
	uint64_t mtu = 0;
	int r = fd_of(v[0], &n.tap, err);

	if (r < 0)
		return r;
	if (o->n_nets == MACHINE_NETS)
		return vps_err_set(err, VPS_EUSAGE, "more than %u network cards", MACHINE_NETS);
	if (!v[1] || parse_mac(v[1], n.mac) < 0)
		return vps_err_set(err, VPS_EUSAGE, "a network card wants FD,MAC");
	if (v[2] && (!str_starts(v[2], "mtu=") || parse_u64(v[2] + 4, 65535, &mtu) < 0))
		return vps_err_set(err, VPS_EUSAGE, "network card: '%s'", v[2]);
	n.mtu = (uint16_t)mtu;
	o->nets[o->n_nets++] = n;
	return 0;
}

/* For all who have it open: whoever starts us made it for us. */
static int nonblocking(int fd, struct vps_err *err)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0)
		return vps_err_sys(err, -errno, "fd %d", fd);
	return 0;
}

static int console(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	int r = fd_of(v[0], &o->console_in, err);

	if (r == 0)
		r = v[1] ? fd_of(v[1], &o->console_out, err)
			 : vps_err_set(err, VPS_EUSAGE, "console=IN,OUT");
	if (r < 0)
		return r;
	r = nonblocking(o->console_in, err);
	return r < 0 ? r : nonblocking(o->console_out, err);
}

static int port(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	struct machine_port p = {.in = true, .out = true};
	uint64_t n;
	int r = number(v[0], UINT32_MAX - 1, &n, err);

	if (r < 0)
		return r;
	if (o->n_ports == PORTS_MAX || !v[1])
		return vps_err_set(err, VPS_EUSAGE, "port=PORT,FD, at most %d times", PORTS_MAX);
	p.port = (uint32_t)n;
	if (v[2]) {
		p.in = str_eq(v[2], "in");
		p.out = str_eq(v[2], "out");
		if (!p.in && !p.out)
			return vps_err_set(err, VPS_EUSAGE, "port: '%s'", v[2]);
	}
	r = fd_of(v[1], &p.fd, err);
	if (r == 0)
		o->ports[o->n_ports++] = p;
	return r;
}

static int initrd(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	if (o->n_initrds == MACHINE_INITRDS)
		return vps_err_set(err, VPS_EUSAGE, "more than %u initial RAM disks",
				   MACHINE_INITRDS);

	int r = fd_of(v[0], &o->initrds[o->n_initrds], err);

	if (r == 0)
		o->n_initrds++;
	return r;
}

static int restore(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	o->verify = v[1] && str_eq(v[1], "verify");
	return fd_of(v[0], &o->restore, err);
}

static int round_of(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	if (o->n_rounds == ROUNDS_MAX)
		return vps_err_set(err, VPS_EUSAGE, "more than %u rounds", ROUNDS_MAX);

	int r = fd_of(v[0], &o->rounds[o->n_rounds], err);

	if (r == 0)
		o->n_rounds++;
	return r;
}

static int memory(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	return parse_size(v[0], &o->memory) < 0 ? vps_err_set(err, VPS_EUSAGE, "memory: '%s'", v[0])
						: 0;
}

static int cpus(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	uint64_t n = 0;
	int r = number(v[0], MAX_CPUS, &n, err);

	o->cpus = (unsigned)n;
	return r;
}

static int cid(struct machine_opts *o, char *const *v, struct vps_err *err)
{
	return number(v[0], UINT32_MAX - 1, &o->cid, err);
}

static int option(struct main *x, const char *key, char *const *v, struct vps_err *err)
{
	struct machine_opts *o = &x->o;
	const struct {
		const char *key;
		int *fd;
	} fds[] = {
		{"kernel", &o->kernel}, {"kvm", &o->kvm},	{"ctl", &o->ctl},
		{"gate", &x->gate},	{"notify", &o->notify},
	};
	static const struct {
		const char *key;
		int (*fn)(struct machine_opts *o, char *const *v, struct vps_err *err);
	} others[] = {
		{"memory", memory}, {"cpus", cpus},	  {"cid", cid},
		{"initrd", initrd}, {"console", console}, {"disk", disk},
		{"net", net},	    {"port", port},	  {"restore", restore}, {"round", round_of},
	};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (str_eq(key, fds[i].key))
			return fd_of(v[0], fds[i].fd, err);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (str_eq(key, others[i].key))
			return others[i].fn(o, v, err);
	return vps_err_set(err, VPS_EUSAGE, "no such option: '%s'", key);
}

static int options(struct main *x, char **argv, struct vps_err *err)
{
	struct machine_opts *o = &x->o;

	for (; *argv; argv++) {
		auto_strv v = NULL;
		char *eq = strchr(*argv, '=');
		int r;

		if (!eq)
			return vps_err_set(err, VPS_EUSAGE, "'%s' is no KEY=VALUE", *argv);
		*eq = 0;
		if (str_eq(*argv, "cmdline")) {
			o->cmdline = eq + 1;
			continue;
		}
		r = strv_split(eq + 1, ",", &v);
		if (r == 0)
			r = option(x, *argv, v, err);
		if (r < 0)
			return r;
	}
	if (!o->memory || (o->restore < 0 && (o->kernel < 0 || !o->cmdline)))
		return vps_err_set(err, VPS_EUSAGE,
				   "memory is needed, and kernel and cmdline or restore");
	return 0;
}

/* Only the machine keeps what it needs of these. */
static void close_used(struct machine_opts *o)
{
	close_fd(&o->kernel);
	close_fd(&o->restore);
	for (size_t i = 0; i < o->n_rounds; i++)
		close_fd(&o->rounds[i]);
	o->n_rounds = 0;
	close_fd(&o->kvm);
	for (size_t i = 0; i < o->n_initrds; i++)
		close_fd(&o->initrds[i]);
	/* One fd may be behind several ports. */
	for (size_t i = 0; i < o->n_ports; i++)
		close(o->ports[i].fd);
	o->n_initrds = o->n_ports = 0;
}

/* False: the other side has given up. */
static bool gate_opens(struct main *x)
{
	ssize_t n = 1;
	char c = 0;

	if (x->gate >= 0)
		(void)send(x->gate, &c, 1, MSG_NOSIGNAL); /* a pipe has nobody to tell */
	if (x->gate >= 0)
		do
			n = read(x->gate, &c, 1);
		while (n < 0 && errno == EINTR);
	close_fd(&x->gate);
	return n == 1;
}

static void on_signal(struct loop_source *s, uint32_t events)
{
	struct main *x = container_of(s, struct main, signals);
	struct signalfd_siginfo i;

	if (read(s->fd, &i, sizeof(i)) == sizeof(i))
		stopper_ask(&x->machine->stopper);
}

/* Whatever an operator or an image calls its stop signal. Not those of our own faults, timers and
 * writes, nor that a terminal changed. */
static void stop_signals(sigset_t *ret)
{
	static const int plain[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,
				    SIGUSR1, SIGUSR2, SIGPWR,  SIGWINCH};

	sigemptyset(ret);
	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		sigaddset(ret, plain[i]);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		if (sig != VCPU_SIGNAL)
			sigaddset(ret, sig);
}

static int listen_for_signals(struct main *x, struct vps_err *err)
{
	sigset_t stop;

	stop_signals(&stop);

	int fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);

	x->signals = (struct loop_source){.fd = fd, .fn = on_signal};

	int r = fd < 0 ? -errno : loop_watch(&x->machine->loop, &x->signals, EPOLLIN);

	return r < 0 ? vps_err_sys(err, r, "listen for signals") : 0;
}

/* No right is kept but that to end one's own namespace: as its PID 1 we die by a signal then, which
 * tells our parent what the guest did (reboot(2), pid_namespaces(7)). Whether it is there. */
static int drop_rights(bool *ret_reboots)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {0};
	uint32_t boot = getpid() == 1 ? 1u << CAP_SYS_BOOT : 0;

	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	*ret_reboots = d[0].permitted & boot;
	d[0].effective = d[0].permitted = d[0].permitted & boot;
	d[1].effective = d[1].permitted = d[0].inheritable = d[1].inheritable = 0;
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

/* What holds from the first instruction on, whoever started us. */
static int walls(bool *ret_reboots, struct vps_err *err)
{
	struct rlimit no_core = {0, 0}, files = {MAX_FDS, MAX_FDS};
	sigset_t all;
	int r = drop_rights(ret_reboots);

	if (r < 0)
		return vps_err_sys(err, r, "drop capabilities");

	/* Every thread is born deaf, disks' included; CPUs listen to theirs only. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	/* One arena: threads of ours allocate nothing. */
	mallopt(M_ARENA_MAX, 1);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return vps_err_sys(err, -errno, "prctl");
	/* The guest's memory does not belong into a core file; a lower limit of files may hold. */
	setrlimit(RLIMIT_CORE, &no_core);
	setrlimit(RLIMIT_NOFILE, &files);
	return 0;
}

/* The last datagram to notify=, for who is not our parent: the wait status that the parent gets. */
static _Noreturn void end(const struct main *x, unsigned reboot, int sig, int code)
{
	char line[32];
	int len = snprintf(line, sizeof(line), VMM_WAIT_STATUS "%d", reboot ? sig : code << 8);

	if (x->o.notify >= 0)
		send(x->o.notify, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (reboot)
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, reboot, NULL);
	_exit(code);
}

static int check(const char *cpu)
{
	struct vps_err err = {0};
	autoclose int kvm = kvm_open(-1, &err);
	int r = kvm < 0 ? kvm : kvm_check_stock_kernel(&err);

	if (r == 0 && cpu)
		r = snapcpu_check_host(kvm, cpu, &err);

	if (r < 0)
		puts(err.msg);
	return r < 0;
}

int main(int argc, char **argv)
{
	struct main x = {.o = MACHINE_OPTS_INIT, .gate = -1};
	struct vps_err err = {0};
	bool reboots = false;
	char why[160] = "";
	int code = -1, r;

	if ((argc == 2 || argc == 3) && str_eq(argv[1], "check"))
		return check(argv[2]);
	r = walls(&reboots, &err);

	x.o.filtered = FILTERED;
	if (r == 0)
		r = options(&x, argv + 1, &err);
	if (r == 0)
		r = machine_new(&x.o, &x.machine, &err);
	close_used(&x.o);
	if (r == 0)
		r = listen_for_signals(&x, &err);
	if (r == 0 && !gate_opens(&x))
		_exit(0);
	if (r == 0 && FILTERED) {
		r = filter_install(FILTER_MAIN);
		if (r < 0)
			vps_err_sys(&err, r, "filter system calls");
	}
	if (r == 0)
		r = (int)machine_run(x.machine, &code, why, sizeof(why));
	if (r != VM_POWEROFF && r != VM_RESET)
		fprintf(stderr, "vps-vmm: %s\n", r < 0 ? err.msg : why);
	/* All that is ours ends with us; what it costs to take it down piece by piece is not spent.
	 */
	if (r == VM_RESET)
		end(&x, reboots ? LINUX_REBOOT_CMD_RESTART : 0, SIGHUP, VMM_EXIT_RESET);
	if (r == VM_POWEROFF && code < 0)
		end(&x, reboots ? LINUX_REBOOT_CMD_POWER_OFF : 0, SIGINT, 0);
	end(&x, 0, 0, r == VM_POWEROFF ? code : VMM_EXIT_FAILED);
}
