/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes: identity that survives pid reuse and reboots, and running helper
 * programs without a shell. */
#ifndef VPS_BASE_PROC_H
#define VPS_BASE_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/* boot id + pid + start time (clock ticks since boot, field 22 of /proc/PID/stat):
 * the same three mean the same process. */
struct proc_ident {
	char boot_id[37];
	pid_t pid; /* 0: nobody */
	uint64_t start_time;
};

/* This boot's id (/proc/sys/kernel/random/boot_id), read once; "" when that failed. */
const char *proc_boot_id(void);
/* 0, -ESRCH when there is no such process, or -errno. Give it a child not yet waited for or
 * check afterwards that the pid is still the one you mean. */
int proc_ident_of(pid_t pid, struct proc_ident *ret);
/* False for nobody, even against nobody. */
bool proc_ident_eq(const struct proc_ident *a, const struct proc_ident *b);
/* pidfd of exactly that process; -ESRCH when it is gone (or a zombie), reused or of another boot. */
int proc_ident_open(const struct proc_ident *id);
/* Would a signal do something to it: a handler, or blocked and so kept for one who waits. Init of a pid namespace
 * loses every other one (pid_namespaces(7)), and has no handlers yet while it begins. 1, 0, -ESRCH, -errno.
 * proc(5), status: SigBlk, SigCgt. */
int proc_takes_signal(pid_t pid, int sig);
/* fork(2) into a cgroup of v2 (CLONE_INTO_CGROUP, 5.7); where that fails, or with -1, into the caller's. Only
 * from a process without threads. */
pid_t proc_fork_into(int cgroup);

/* How a helper program is run. */
struct proc_opts {
	int in_fd;	 /* -1: /dev/null */
	int out_fd;	 /* -1: /dev/null unless out is set */
	struct strbuf *out;
	size_t max_out;	 /* 0: 1 MiB; more output is -EFBIG and the end of the program */
	char *const *env; /* NULL: our own */
	int timeout_ms;	 /* 0: none; else SIGKILL and -ETIMEDOUT */
};
#define PROC_OPTS_INIT { .in_fd = -1, .out_fd = -1 }
/* Run a program to its end: argv[0] searched in PATH (sbin added), no shell. stdin is
 * in_fd or /dev/null; stdout goes to out or out_fd; every other fd is closed; signals are
 * at their defaults; it dies with us. A process that it leaves behind holding its stdout
 * or stderr is not waited for. opts may be NULL.
 *
 * The exit status 0..255, 128+signal, or -errno when it could not be started or was cut off.
 * For anything but 0, err says so, with the last 400 bytes of its stderr (escaped, lines
 * joined by "; "); its code is EIO for an exit status. */
int proc_run(char *const *argv, const struct proc_opts *opts, struct vps_err *err);
/* The same where any status but 0 is a failure: 0 or -errno (-EIO for a status). */
int proc_run_ok(char *const *argv, const struct proc_opts *opts, struct vps_err *err);
/* Full path of a program in PATH or the sbin folders, NULL when not installed (or out of
 * memory). A name with a slash is taken as it is. */
char *proc_find(const char *name);

#endif
