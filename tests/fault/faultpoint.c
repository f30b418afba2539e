/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Run a command and kill it at its Nth mutating system call.
 *
 *   faultpoint [-a] [-o | -s] N COMMAND [ARG...]
 *
 * One counter over every process and thread of the tree that the command starts, so that N is a place in the
 * whole job and not in one process (strace -e inject counts for each tracee). At the Nth call all of them are
 * killed before it happens; with -a after it; with -o only the caller is killed; with -s nobody: they stand still there
 * until somebody cuts the power ("stopped NAME" is printed at once). What the command left running
 * on purpose when it ended is let go. Prints "killed CALL of NAME" or "completed COUNT"; exits 0 (killed), 1 (completed),
 * 2 (trouble). ptrace(2); PTRACE_GET_SYSCALL_INFO wants Linux 5.3.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_TRACEES = 512 };

static const struct call {
	long nr;
	const char *name;
} mutating[] = {
#define C(n) {SYS_##n, #n}
	C(mkdir), C(mkdirat), C(rmdir), C(unlink), C(unlinkat), C(rename), C(renameat), C(renameat2), C(symlink),
	C(symlinkat), C(link), C(linkat), C(mknod), C(mknodat), C(truncate), C(ftruncate), C(fallocate), C(chmod),
	C(fchmod), C(fchmodat), C(chown), C(fchown), C(fchownat), C(lchown), C(setxattr), C(lsetxattr), C(fsetxattr),
	C(write), C(pwrite64), C(copy_file_range), C(sendfile), C(fsync), C(fdatasync), C(syncfs), C(mount), C(umount2),
	C(pivot_root), C(move_mount), C(open_tree), C(fsmount), C(fsconfig), C(mount_setattr), C(unshare), C(setns),
	C(clone), C(clone3), C(fork), C(vfork), C(ioctl), C(sendto), C(sendmsg), C(bind),
	C(kill), C(pidfd_send_signal), C(quotactl), C(quotactl_fd), C(bpf), C(sethostname), C(exit_group),
#undef C
};

struct tracee {
	pid_t pid;
	bool in_call;
};
static struct tracee tracees[MAX_TRACEES];
static size_t n_tracees;

static struct tracee *tracee_of(pid_t pid)
{
	for (size_t i = 0; i < n_tracees; i++)
		if (tracees[i].pid == pid)
			return &tracees[i];
	if (n_tracees == MAX_TRACEES)
		return NULL;
	tracees[n_tracees] = (struct tracee){.pid = pid};
	return &tracees[n_tracees++];
}

static void forget(pid_t pid)
{
	for (size_t i = 0; i < n_tracees; i++)
		if (tracees[i].pid == pid)
			tracees[i] = tracees[--n_tracees];
}

static const char *mutates(const struct __ptrace_syscall_info *info)
{
	long nr = (long)info->entry.nr;
	if (nr == SYS_openat || nr == SYS_open) {
		unsigned long flags = info->entry.args[nr == SYS_openat ? 2 : 1];
		return flags & (O_CREAT | O_TRUNC) ? "open(O_CREAT)" : NULL;
	}
	for (size_t i = 0; i < sizeof(mutating) / sizeof(*mutating); i++)
		if (mutating[i].nr == nr)
			return mutating[i].name;
	return NULL;
}

static void kill_all(pid_t only)
{
	for (size_t i = 0; i < n_tracees; i++)
		if (!only || tracees[i].pid == only)
			kill(tracees[i].pid, SIGKILL);
}

/* One that was just born and not seen yet only stops now. */
static void reap_all(void)
{
	int status;
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno != EINTR)
			return;
		if (pid > 0 && WIFSTOPPED(status))
			kill(pid, SIGKILL);
	}
}

/* The command is over: what it left on purpose (a monitor, an init) goes on without us. */
static void let_go(void)
{
	for (size_t i = 0; i < n_tracees; i++) {
		int status;
		if (ptrace(PTRACE_DETACH, tracees[i].pid, NULL, NULL) == 0)
			continue;
		if (ptrace(PTRACE_INTERRUPT, tracees[i].pid, NULL, NULL) == 0 &&
		    waitpid(tracees[i].pid, &status, __WALL) == tracees[i].pid && WIFSTOPPED(status))
			ptrace(PTRACE_DETACH, tracees[i].pid, NULL, NULL);
	}
}

static pid_t start(char **argv)
{
	pid_t pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static bool attach(pid_t pid)
{
	int status;
	long opts = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
		    PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	if (waitpid(pid, &status, WUNTRACED) != pid || ptrace(PTRACE_SEIZE, pid, NULL, opts) < 0)
		return false;
	tracee_of(pid);
	kill(pid, SIGCONT);
	return true;
}

static long parse_n(const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);
	return *end ? -1 : n;
}

struct job {
	pid_t root;
	long n, count;
	bool after, one, stop;
	const char *due; /* with -a: the call to be killed behind */
	pid_t due_pid;
	char who[32]; /* its name, for the report */
};

static void name_of(pid_t pid, char *buf, size_t size)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	FILE *f = fopen(path, "re");
	buf[0] = 0;
	if (f && fgets(buf, (int)size, f))
		buf[strcspn(buf, "\n")] = 0;
	if (f)
		fclose(f);
}

/* A system-call stop. True when the moment has come. */
static bool at_call(struct job *j, pid_t pid)
{
	struct __ptrace_syscall_info info;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) < 0)
		return false;
	if (info.op == PTRACE_SYSCALL_INFO_EXIT)
		return j->due && j->due_pid == pid;
	const char *name = info.op == PTRACE_SYSCALL_INFO_ENTRY ? mutates(&info) : NULL;
	if (!name || j->due || ++j->count != j->n)
		return false;
	j->due = name;
	j->due_pid = pid;
	name_of(pid, j->who, sizeof(j->who));
	/* an exit has no behind */
	return !j->after || strncmp(name, "exit", 4) == 0;
}

static int run(struct job *j)
{
	int status;
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0) {
			if (errno == EINTR)
				continue;
			break;
		}
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			forget(pid);
			if (pid == j->root)
				break;
			continue;
		}
		tracee_of(pid);
		int sig = WSTOPSIG(status), event = status >> 16;
		if (sig == (SIGTRAP | 0x80) && at_call(j, pid)) {
			if (j->stop) {
				printf("stopped %s\n", j->due);
				fflush(stdout);
				for (;;)
					pause();
			}
			kill_all(j->one ? pid : 0);
			if (!j->one) {
				reap_all();
				printf("killed %s of %s\n", j->due, j->who);
				return 0;
			}
			ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
			continue;
		}
		/* event stops and group stops carry no signal to pass on */
		long pass = sig == (SIGTRAP | 0x80) || event || sig == SIGTRAP ? 0 : sig;
		ptrace(PTRACE_SYSCALL, pid, NULL, pass);
	}
	let_go();
	if (j->one && j->due) {
		printf("killed %s of %s\n", j->due, j->who);
		return 0;
	}
	printf("completed %ld\n", j->count);
	return 1;
}

int main(int argc, char **argv)
{
	struct job j = {0};
	int opt;
	while ((opt = getopt(argc, argv, "+aos")) != -1) {
		if (opt == 'a')
			j.after = true;
		else if (opt == 'o')
			j.one = true;
		else if (opt == 's')
			j.stop = true;
		else
			return 2;
	}
	if (argc - optind < 2 || (j.n = parse_n(argv[optind])) < 0) {
		fprintf(stderr, "usage: faultpoint [-a] [-o | -s] N COMMAND [ARG...]\n");
		return 2;
	}
	j.root = start(argv + optind + 1);
	if (j.root < 0 || !attach(j.root)) {
		perror("faultpoint");
		return 2;
	}
	return run(&j);
}
