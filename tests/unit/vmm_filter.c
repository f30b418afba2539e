/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a filtered thread may and may not do: each case in a child of its own. */
#include "tests/unit/base_util.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/kvm.h>
#include <linux/reboot.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "vmm/filter.h"

/* The signal that ended a child which made that call behind the filter, or 0. */
static int dies_of(enum filter_thread t, long nr, long a, long b, long c, long d)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (filter_install(t) < 0)
			_exit(99);
		syscall(nr, a, b, c, d, 0, 0);
		/* _exit is exit_group, which only one of them has */
		syscall(t == FILTER_MAIN ? SYS_exit_group : SYS_exit, 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

#define KILLED(...)  assert_int_equal(dies_of(__VA_ARGS__), SIGSYS)
#define ALLOWED(...) assert_int_equal(dies_of(__VA_ARGS__), 0)

static void test_forbidden_to_all(void **state)
{
	static const char path[] = "/etc/passwd";
	/* a new file, program, process, namespace, right, socket family; another's memory; a second
	 * way to ask */
	static const long calls[] = {
		SYS_open,
		SYS_openat,
		SYS_openat2,
		SYS_execve,
		SYS_execveat,
		SYS_fork,
		SYS_vfork,
		SYS_clone,
		SYS_clone3,
		SYS_unshare,
		SYS_setns,
		SYS_mount,
		SYS_move_mount,
		SYS_open_tree,
		SYS_pivot_root,
		SYS_chroot,
		SYS_setuid,
		SYS_setresuid,
		SYS_capset,
		SYS_prctl,
		SYS_seccomp,
		SYS_ptrace,
		SYS_process_vm_readv,
		SYS_process_vm_writev,
		SYS_pidfd_open,
		SYS_pidfd_getfd,
		SYS_kill,
		SYS_tkill,
		SYS_rt_sigaction,
		SYS_socket,
		SYS_connect,
		SYS_bind,
		SYS_listen,
		SYS_io_uring_setup,
		SYS_bpf,
		SYS_userfaultfd,
		SYS_perf_event_open,
		SYS_keyctl,
		SYS_memfd_create,
		SYS_mprotect,
		SYS_unlink,
		SYS_rename,
		SYS_mkdir,
		SYS_chmod,
		SYS_init_module,
		SYS_finit_module,
		SYS_kexec_load,
		SYS_getdents64,
		SYS_readlink,
		SYS_stat,
		SYS_sendmmsg,
		SYS_dup,
		SYS_dup2,
		SYS_pipe2,
		SYS_epoll_create1,
		SYS_eventfd2,
		SYS_shmat,
		512,
		1000,
		0x40000000 | SYS_write, /* x32 */
	};

	for (int t = 0; t < FILTER_THREADS; t++)
		for (size_t i = 0; i < ARRAY_LEN(calls); i++)
			if (dies_of((enum filter_thread)t, calls[i], (long)path, 0, 0, 0) != SIGSYS)
				fail_msg("thread %d may do system call %ld", t, calls[i]);
}

static void test_arguments(void **state)
{
	/* KVM: a CPU's thread runs, the main thread looks */
	ALLOWED(FILTER_VCPU, SYS_ioctl, -1, KVM_RUN, 0, 0);
	KILLED(FILTER_VCPU, SYS_ioctl, -1, KVM_SET_REGS, 0, 0);
	KILLED(FILTER_VCPU, SYS_ioctl, -1, KVM_GET_REGS, 0, 0);
	ALLOWED(FILTER_MAIN, SYS_ioctl, -1, KVM_GET_REGS, 0, 0);
	KILLED(FILTER_MAIN, SYS_ioctl, -1, KVM_SET_USER_MEMORY_REGION, 0, 0);
	KILLED(FILTER_MAIN, SYS_ioctl, -1, KVM_CREATE_VM, 0, 0);
	KILLED(FILTER_MAIN, SYS_ioctl, -1, TIOCSTI, 0, 0);
	KILLED(FILTER_DISK, SYS_ioctl, -1, KVM_RUN, 0, 0);
	ALLOWED(FILTER_COPY, SYS_ioctl, -1, KVM_SET_USER_MEMORY_REGION, 0, 0);
	ALLOWED(FILTER_COPY, SYS_ioctl, -1, KVM_GET_DIRTY_LOG, 0, 0);
	ALLOWED(FILTER_COPY, SYS_ioctl, -1, KVM_CLEAR_DIRTY_LOG, 0, 0);
	KILLED(FILTER_COPY, SYS_ioctl, -1, KVM_RUN, 0, 0);
	KILLED(FILTER_COPY, SYS_ioctl, -1, KVM_GET_REGS, 0, 0);
	KILLED(FILTER_COPY, SYS_read, -1, 0, 0, 0);
	KILLED(FILTER_MAIN, SYS_ioctl, -1, KVM_GET_DIRTY_LOG, 0, 0);
	KILLED(FILTER_VCPU, SYS_ioctl, -1, KVM_CLEAR_DIRTY_LOG, 0, 0);
	/* memory that is code */
	ALLOWED(FILTER_MAIN, SYS_mmap, 0, 0, PROT_READ | PROT_WRITE, 0);
	KILLED(FILTER_MAIN, SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, 0);
	/* sockets of this machine, and no others */
	ALLOWED(FILTER_MAIN, SYS_socketpair, AF_UNIX, 0, 0, 0);
	KILLED(FILTER_MAIN, SYS_socketpair, AF_INET, 0, 0, 0);
	ALLOWED(FILTER_MAIN, SYS_fcntl, 0, F_GETFL, 0, 0);
	KILLED(FILTER_MAIN, SYS_fcntl, 0, F_SETOWN, 1, 0);
	KILLED(FILTER_MAIN, SYS_fcntl, 0, F_DUPFD, 0, 0);
	/* signals for nobody else; not this process either, as its number was another when the
	 * filter was made: here the child's, so -1 and our parent's are tried */
	KILLED(FILTER_MAIN, SYS_tgkill, getpid(), getpid(), 0, 0);
	KILLED(FILTER_VCPU, SYS_tgkill, -1, 1, 0, 0);
	/* only the end of one's own namespace; the magic numbers are wrong here */
	KILLED(FILTER_MAIN, SYS_reboot, 0, 0, (int)LINUX_REBOOT_CMD_HALT, 0);
	KILLED(FILTER_MAIN, SYS_reboot, 0, 0, (int)LINUX_REBOOT_CMD_CAD_ON, 0);
	ALLOWED(FILTER_MAIN, SYS_reboot, 0, 0, LINUX_REBOOT_CMD_POWER_OFF, 0);
	KILLED(FILTER_MAIN, SYS_reboot, 0, 0, LINUX_REBOOT_CMD_KEXEC, 0);
	ALLOWED(FILTER_MAIN, SYS_reboot, 0, 0, (int)LINUX_REBOOT_CMD_RESTART, 0);
	KILLED(FILTER_VCPU, SYS_reboot, 0, 0, (int)LINUX_REBOOT_CMD_RESTART, 0);
}

static void test_each_its_own(void **state)
{
	ALLOWED(FILTER_DISK, SYS_preadv, -1, 0, 0, 0);
	KILLED(FILTER_MAIN, SYS_preadv, -1, 0, 0, 0);
	KILLED(FILTER_VCPU, SYS_read, -1, 0, 0, 0);
	KILLED(FILTER_DISK, SYS_sendmsg, -1, 0, 0, 0);
	KILLED(FILTER_VCPU, SYS_close, -1, 0, 0, 0);
	ALLOWED(FILTER_MAIN, SYS_close, -1, 0, 0, 0);
}

/* ---- every number, without a kernel ---- */

/* What the program says of one call; the few instructions that it is made of. */
static uint32_t verdict(const struct sock_filter *code, size_t n, const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (size_t i = 0; i < n; i++) {
		const struct sock_filter *f = &code[i];

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(f->k % 4 == 0 && f->k < sizeof(*d));
			memcpy(&a, (const uint8_t *)d + f->k, 4);
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			i += a == f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			i += a & f->k ? f->jt : f->jf;
			break;
		case BPF_RET | BPF_K:
			return f->k;
		default:
			fail_msg("instruction %zu: %#x", i, f->code);
		}
	}
	fail_msg("the program has no end");
	return 0;
}

static bool may(enum filter_thread t, uint32_t arch, int nr, const uint64_t args[6])
{
	static struct sock_filter code[FILTER_THREADS][FILTER_MAX];
	static size_t n[FILTER_THREADS];
	struct seccomp_data d = {.nr = nr, .arch = arch};
	size_t calls;

	if (!n[t])
		n[t] = filter_program(t, code[t], &calls);
	memcpy(d.args, args, sizeof(d.args));
	return verdict(code[t], n[t], &d) == SECCOMP_RET_ALLOW;
}

/* By all arguments that any rule looks for: is there one with which it is let through? */
static bool may_somehow(enum filter_thread t, uint32_t arch, int nr)
{
	const uint64_t tries[][6] = {
		{0},
		{AF_UNIX},
		{(uint64_t)getpid()},
		{0, KVM_RUN},
		{0, KVM_GET_REGS},
		{0, KVM_GET_DIRTY_LOG},
		{0, F_GETFL},
		{0, 0, LINUX_REBOOT_CMD_RESTART},
	};

	for (size_t i = 0; i < ARRAY_LEN(tries); i++)
		if (may(t, arch, nr, tries[i]))
			return true;
	return false;
}

/* Who may what, all of it. A new line here is a decision. */
static const int golden[FILTER_THREADS][64] = {
	[FILTER_VCPU] = {SYS_ioctl, SYS_write, SYS_futex, SYS_madvise, SYS_munmap, SYS_getpid,
			 SYS_gettid, SYS_tgkill, SYS_rt_sigprocmask, SYS_rt_sigreturn,
			 SYS_restart_syscall, SYS_exit, -1},
	[FILTER_DISK] = {SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_ctl, SYS_read, SYS_write,
			 SYS_futex, SYS_preadv, SYS_pwritev, SYS_fdatasync, SYS_fallocate,
			 SYS_timerfd_settime, SYS_madvise, SYS_munmap, SYS_clock_gettime,
			 SYS_rt_sigprocmask, SYS_restart_syscall, SYS_exit, -1},
	[FILTER_MAIN] = {SYS_epoll_wait,    SYS_epoll_pwait,	 SYS_epoll_ctl,
			 SYS_read,	    SYS_write,		 SYS_futex,
			 SYS_fdatasync,	    SYS_timerfd_settime, SYS_readv,
			 SYS_writev,	    SYS_getrandom,	 SYS_madvise,
			 SYS_socketpair,    SYS_accept4,	 SYS_recvmsg,
			 SYS_sendmsg,	    SYS_sendto,		 SYS_shutdown,
			 SYS_close,	    SYS_fcntl,		 SYS_ioctl,
			 SYS_pwrite64,	    SYS_ftruncate,	 SYS_lseek,
			 SYS_newfstatat,    SYS_fstat,		 SYS_brk,
			 SYS_mmap,	    SYS_mremap,		 SYS_munmap,
			 SYS_clock_gettime, SYS_getpid,		 SYS_gettid,
			 SYS_tgkill,	    SYS_rt_sigprocmask,	 SYS_restart_syscall,
			 SYS_exit_group,    SYS_reboot,		 -1},
	[FILTER_COPY] = {SYS_ioctl, SYS_write, SYS_futex, SYS_pwrite64, SYS_madvise, SYS_munmap,
			 SYS_rt_sigprocmask, SYS_restart_syscall, SYS_exit, -1},
};

static bool in_golden(enum filter_thread t, int nr)
{
	for (const int *g = golden[t]; *g >= 0; g++)
		if (*g == nr)
			return true;
	return false;
}

static void test_every_number(void **state)
{
	static const uint32_t other[] = {AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, 0};

	for (int t = 0; t < FILTER_THREADS; t++)
		for (int nr = -16; nr < 2048; nr++) {
			enum filter_thread k = (enum filter_thread)t;

			if (may_somehow(k, AUDIT_ARCH_X86_64, nr) != in_golden(k, nr))
				fail_msg("thread %d, system call %d", t, nr);
			if (may_somehow(k, AUDIT_ARCH_X86_64, nr | 0x40000000))
				fail_msg("thread %d, x32 call %d", t, nr);
			for (size_t i = 0; i < ARRAY_LEN(other); i++)
				if (may_somehow(k, other[i], nr))
					fail_msg("thread %d, call %d of arch %#x", t, nr, other[i]);
		}
}

/* The other table for real: write(2) has number 4 there. */
static void test_old_gate(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit none = {0, 0};
		long r = 4;

		setrlimit(RLIMIT_CORE, &none);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (filter_install(FILTER_MAIN) == 0)
			__asm__ volatile("int $0x80"
					 : "+a"(r)
					 : "b"(-1l), "c"(0l), "d"(0l)
					 : "memory");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* a kernel without that table has no such gate: SIGSEGV */
	assert_true(WIFSIGNALED(status) &&
		    (WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV));
}

/* The figures that the design names. */
static void test_how_many(void **state)
{
	struct sock_filter code[FILTER_MAX];
	size_t calls[FILTER_THREADS];

	for (int t = 0; t < FILTER_THREADS; t++) {
		size_t n = filter_program((enum filter_thread)t, code, &calls[t]);

		assert_true(n <= FILTER_MAX);
		print_message("thread %d: %zu system calls, %zu instructions\n", t, calls[t], n);
	}
	assert_true(calls[FILTER_VCPU] <= 14);
	assert_true(calls[FILTER_DISK] <= 20);
	assert_true(calls[FILTER_MAIN] <= 45);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden_to_all), cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_each_its_own),	 cmocka_unit_test(test_every_number),
		cmocka_unit_test(test_old_gate),	 cmocka_unit_test(test_how_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
