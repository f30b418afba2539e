/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/reboot.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#define VALUES_MAX 32

/* Bits of the threads that need it. */
#define V (1u << FILTER_VCPU)
#define D (1u << FILTER_DISK)
#define M (1u << FILTER_MAIN)
#define C (1u << FILTER_COPY)

struct rule {
	int nr;
	unsigned threads;
	enum { ANY, ONE_OF, WITHOUT, OUR_PID } test;
	unsigned arg; /* which argument the test looks at; its low half is all of it */
	uint32_t value[VALUES_MAX]; /* ONE_OF: up to the first 0; WITHOUT: bits */
};

/* The most frequent first. */
static const struct rule rules[] = {
	/* the guest runs */
	{SYS_ioctl, V, ONE_OF, 1, {KVM_RUN}},
	/* loops */
	{SYS_epoll_wait, D | M},
	{SYS_epoll_pwait, D | M}, /* what another C library's epoll_wait is */
	{SYS_epoll_ctl, D | M},
	{SYS_read, D | M}, /* eventfds, tap, console, connections */
	{SYS_write,
	 V | D | M | C}, /* interrupts and notifications are eventfds; console, connections */
	{SYS_futex, V | D | M | C}, /* locks; the end of threads */
	/* a disk */
	{SYS_preadv, D},
	{SYS_pwritev, D},
	{SYS_fdatasync, D | M}, /* M: a snapshot */
	{SYS_fallocate, D},	/* discard */
	{SYS_timerfd_settime, D | M},
	/* network card, sockets */
	{SYS_readv, M},
	{SYS_writev, M},
	{SYS_getrandom, M},
	{SYS_madvise, V | D | M | C}, /* M: the balloon; others: a thread's end */
	{SYS_socketpair, M, ONE_OF, 0, {AF_UNIX}},
	{SYS_accept4, M},
	{SYS_recvmsg, M},
	{SYS_sendmsg, M},
	{SYS_sendto, M}, /* notify */
	{SYS_shutdown, M},
	{SYS_close, M},
	{SYS_fcntl, M, ONE_OF, 1, {F_GETFL, F_SETFL, F_DUPFD_CLOEXEC}},
	{SYS_ioctl,
	 M,
	 ONE_OF,
	 1,
	 {TUNSETOFFLOAD, KVM_KVMCLOCK_CTRL, BLKGETSIZE64,
	  /* a snapshot only looks */
	  KVM_GET_CLOCK, KVM_GET_IRQCHIP, KVM_GET_REGS, KVM_GET_SREGS, KVM_GET_XSAVE, KVM_GET_XCRS,
	  KVM_GET_MSRS, KVM_GET_LAPIC, KVM_GET_MP_STATE, KVM_GET_VCPU_EVENTS, KVM_GET_DEBUGREGS,
	  KVM_GET_TSC_KHZ, KVM_GET_FPU, KVM_GET_MSR_INDEX_LIST}},
	/* a pre-copy: which pages are watched and have changed */
	{SYS_ioctl, C, ONE_OF, 1, {KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG}},
	/* a snapshot's file, a round's; the size of a disk that has grown */
	{SYS_pwrite64, M | C},
	{SYS_ftruncate, M},
	{SYS_lseek, M},
	{SYS_newfstatat, M},
	{SYS_fstat, M},
	/* malloc */
	{SYS_brk, M},
	{SYS_mmap, M, WITHOUT, 2, {PROT_EXEC}},
	{SYS_mremap, M},
	{SYS_munmap, V | D | M | C},
	/* clocks of a host that has them in no vDSO */
	{SYS_clock_gettime, D | M},
	/* calling the CPUs out of the guest, and how that call returns */
	{SYS_getpid, V | M},
	{SYS_gettid, V | M}, /* a CPU that calls itself */
	{SYS_tgkill, V | M, OUR_PID, 0},
	{SYS_rt_sigprocmask, V | D | M | C},
	{SYS_rt_sigreturn, V},
	{SYS_restart_syscall, V | D | M | C}, /* a stopped or frozen process goes on */
	/* the ends */
	{SYS_exit, V | D | C},
	{SYS_exit_group, M},
	{SYS_reboot, M, ONE_OF, 2, {LINUX_REBOOT_CMD_RESTART, LINUX_REBOOT_CMD_POWER_OFF}},
};

struct out {
	struct sock_filter *code;
	size_t n;
};

static void emit(struct out *o, struct sock_filter f)
{
	if (o->n < FILTER_MAX)
		o->code[o->n] = f;
	o->n++;
}

#define LOAD(off)    emit(o, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(off)))
#define RETURN(what) emit(o, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (what)))
#define JUMP(op, k, yes, no)                                                                       \
	emit(o, (struct sock_filter)BPF_JUMP(BPF_JMP | (op) | BPF_K, (k), (yes), (no)))
#define OFF_NR	   offsetof(struct seccomp_data, nr)
#define OFF_ARCH   offsetof(struct seccomp_data, arch)
#define OFF_ARG(i) (offsetof(struct seccomp_data, args) + 8 * (i))

/* Allow it when the number and the argument fit; the number is loaded again for who comes behind.
 */
static void add_rule(struct out *o, const struct rule *r)
{
	size_t n = 0;

	if (r->test == ANY) {
		JUMP(BPF_JEQ, (uint32_t)r->nr, 0, 1);
		RETURN(SECCOMP_RET_ALLOW);
		return;
	}
	while (r->test == ONE_OF && n < VALUES_MAX && r->value[n])
		n++;
	/* F_GETFL and friends are not 0, so the list ends where it says. */
	JUMP(BPF_JEQ, (uint32_t)r->nr, 0, (uint8_t)(r->test == ONE_OF ? 2 * n + 2 : 4));
	LOAD(OFF_ARG(r->arg));
	if (r->test == ONE_OF) {
		for (size_t i = 0; i < n; i++) {
			JUMP(BPF_JEQ, r->value[i], 0, 1);
			RETURN(SECCOMP_RET_ALLOW);
		}
	} else if (r->test == WITHOUT) {
		JUMP(BPF_JSET, r->value[0], 1, 0);
		RETURN(SECCOMP_RET_ALLOW);
	} else {
		JUMP(BPF_JEQ, (uint32_t)getpid(), 0, 1);
		RETURN(SECCOMP_RET_ALLOW);
	}
	RETURN(SECCOMP_RET_KILL_PROCESS);
}

size_t filter_program(enum filter_thread t, struct sock_filter ret[FILTER_MAX], size_t *ret_calls)
{
	struct out out = {.code = ret}, *o = &out;

	*ret_calls = 0;
	LOAD(OFF_ARCH);
	JUMP(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0);
	RETURN(SECCOMP_RET_KILL_PROCESS);
	LOAD(OFF_NR); /* those of x32 have a bit more, and fit none */
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (rules[i].threads & 1u << t) {
			add_rule(o, &rules[i]);
			++*ret_calls;
		}
	RETURN(SECCOMP_RET_KILL_PROCESS);
	return out.n;
}

int filter_install(enum filter_thread t)
{
	struct sock_filter code[FILTER_MAX];
	size_t calls, n = filter_program(t, code, &calls);
	struct sock_fprog p = {.len = (unsigned short)n, .filter = code};

	if (n > FILTER_MAX)
		return -E2BIG;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) < 0 ? -errno : 0;
}
