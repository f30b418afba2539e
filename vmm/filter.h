/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The second wall: what each kind of thread may still ask the kernel for when the guest runs. Any
 * other system call ends the process (seccomp(2), SECCOMP_RET_KILL_PROCESS: SIGSYS). */
#ifndef VPS_VMM_FILTER_H
#define VPS_VMM_FILTER_H

#include <linux/filter.h>
#include <stddef.h>

enum filter_thread { FILTER_VCPU, FILTER_DISK, FILTER_MAIN, FILTER_COPY, FILTER_THREADS };

#define FILTER_MAX 256

/* The calling thread, for good; it must not be able to gain privileges (PR_SET_NO_NEW_PRIVS). 0 or
 * -errno. */
int filter_install(enum filter_thread t);
/* The program alone: its length. The calls it lets through are counted in *ret_calls. */
size_t filter_program(enum filter_thread t, struct sock_filter ret[FILTER_MAX], size_t *ret_calls);

#endif
