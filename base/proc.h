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

/* This boot's id (/proc/sys/kernel/random/boot_id), read once. */
const char *proc_boot_id(void);
int proc_ident_of(pid_t pid, struct proc_ident *ret);
bool proc_ident_eq(const struct proc_ident *a, const struct proc_ident *b);
/* pidfd of exactly that process; -ESRCH when it is gone (or a zombie), reused or of another boot. */
int proc_ident_open(const struct proc_ident *id);

/* Run a program to its end: argv[0] searched in PATH (sbin added). stdin is
 * in_fd or /dev/null; stdout goes to out (when not NULL, at most max_out bytes) or
 * out_fd; stderr's last 400 bytes come back in err on failure. Every other fd is closed.
 * The exit status 0..255, 128+signal, or -errno when it could not be started. */
struct proc_opts {
	int in_fd;	 /* -1: /dev/null */
	int out_fd;	 /* -1: /dev/null unless out is set */
	struct strbuf *out;
	size_t max_out;	 /* 0: 1 MiB */
	char *const *env; /* NULL: our own */
	int timeout_ms;	 /* 0: none; else SIGKILL and -ETIMEDOUT */
};
#define PROC_OPTS_INIT { .in_fd = -1, .out_fd = -1 }
int proc_run(char *const *argv, const struct proc_opts *opts, struct vps_err *err);
/* Full path of a program in PATH or the sbin folders, NULL when not installed. */
char *proc_find(const char *name);

#endif
