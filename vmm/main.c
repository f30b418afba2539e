/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vps-vmm: one virtual machine of the fds and numbers it is given, in this process.
 *
 *     vps-vmm memory=SIZE [cpus=N] {kernel=FD [initrd=FD]... cmdline=TEXT | restore=FD}
 *             [kvm=FD] [cid=N] [gate=FD] [ctl=FD] [console=IN,OUT] [notify=FD]
 *             [port=PORT,FD[,in|,out]]... [net=FD,MAC[,mtu=N]]...
 *             [disk=FD[,ro][,serial=TEXT][,bps=N][,iops=N]]...
 *
 *     kvm      /dev/kvm, for where there is no such path
 *     restore  a file of vmm_api_snapshot; memory, cpus, disks and nets are to be as they were
 *     gate     once all is prepared and before the guest's first instruction: one byte lets it run,
 *              the end of the file ends us without a word
 *     ctl      a listening SOCK_SEQPACKET socket: vmm/api.h
 *     console  different fds; both become nonblocking
 *     notify   a connected datagram socket: what the guest tells host port 1 (vmm/api.h)
 *     port     the guest's first connection to this host port gets FD: both ways, or in: FD is only
 *              read (its bytes go to the guest), or out: only written
 *     disk     in this order /dev/vda, /dev/vdb, ...; the serial has at most 20 bytes
 *
 * Exit status and signals: vmm/api.h. Every signal that can be caught asks the guest to stop.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "base/str.h"
#include "vmm/machine.h"

#define EXIT_RESET 10

struct main {
	struct machine *machine;
	struct loop_source signals;
	bool pressed;
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
	int r = fd_of(v[0], &n.tap, err);

	if (r < 0)
		return r;
	if (o->n_nets == MACHINE_NETS)
		return vps_err_set(err, VPS_EUSAGE, "more than %u network cards", MACHINE_NETS);
	if (!v[1] || parse_mac(v[1], n.mac) < 0)
		return vps_err_set(err, VPS_EUSAGE, "a network card wants FD,MAC");
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

static int option(struct machine_opts *o, const char *key, char *const *v, struct vps_err *err)
{
	uint64_t n;
	int r = 0;

	if (str_eq(key, "memory")) {
		if (parse_size(v[0], &o->memory) < 0)
			r = vps_err_set(err, VPS_EUSAGE, "memory: '%s'", v[0]);
	} else if (str_eq(key, "cpus")) {
		r = number(v[0], MAX_CPUS, &n, err);
		if (r == 0)
			o->cpus = (unsigned)n;
	} else if (str_eq(key, "kernel")) {
		r = fd_of(v[0], &o->kernel, err);
	} else if (str_eq(key, "initrd")) {
		if (o->n_initrds == MACHINE_INITRDS)
			return vps_err_set(err, VPS_EUSAGE, "more than %u initial RAM disks",
					   MACHINE_INITRDS);
		r = fd_of(v[0], &o->initrds[o->n_initrds], err);
		if (r == 0)
			o->n_initrds++;
	} else if (str_eq(key, "console")) {
		r = console(o, v, err);
	} else if (str_eq(key, "disk")) {
		r = disk(o, v, err);
	} else if (str_eq(key, "net")) {
		r = net(o, v, err);
	} else if (str_eq(key, "vsock")) {
		r = fd_of(v[0], &o->vsock, err);
		if (r == 0 && v[1])
			r = number(v[1], UINT32_MAX - 1, &o->cid, err);
	} else {
		r = vps_err_set(err, VPS_EUSAGE, "no such option: '%s'", key);
	}
	return r;
}

static int options(struct machine_opts *o, char **argv, struct vps_err *err)
{
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
			r = option(o, *argv, v, err);
		if (r < 0)
			return r;
	}
	if (o->kernel < 0 || !o->memory || !o->cmdline)
		return vps_err_set(err, VPS_EUSAGE, "kernel, memory and cmdline are needed");
	return 0;
}

static void on_signal(struct loop_source *s, uint32_t events)
{
	struct main *x = container_of(s, struct main, signals);
	struct signalfd_siginfo i;

	if (read(s->fd, &i, sizeof(i)) != sizeof(i))
		return;
	if (x->pressed)
		vm_ended(&x->machine->vm, VM_STOPPED, "stopped");
	else
		vm_press_power(&x->machine->vm);
	x->pressed = true;
}

static int run(struct main *x, char *why, size_t size, struct vps_err *err)
{
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);

	autoclose int fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);

	x->signals = (struct loop_source){.fd = fd, .fn = on_signal};

	int r = fd < 0 ? -errno : loop_watch(&x->machine->loop, &x->signals, EPOLLIN);

	if (r < 0)
		return vps_err_sys(err, r, "listen for signals");
	return (int)machine_run(x->machine, why, size);
}

int main(int argc, char **argv)
{
	struct machine_opts o = MACHINE_OPTS_INIT;
	struct vps_err err = {0};
	struct main x = {0};
	char why[128] = "";
	sigset_t all;

	/* Every thread is born deaf, disks' included; CPUs listen to theirs only. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);

	int r = options(&o, argv + 1, &err);

	if (r == 0)
		r = machine_new(&o, &x.machine, &err);
	if (r == 0)
		r = run(&x, why, sizeof(why), &err);
	if (r != VM_POWEROFF)
		fprintf(stderr, "vps-vmm: %s\n", r < 0 ? err.msg : why);
	machine_free(x.machine);
	return r == VM_POWEROFF ? 0 : r == VM_RESET ? EXIT_RESET : 1;
}
