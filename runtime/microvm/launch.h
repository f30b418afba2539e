/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between launch.c and errand.c: what M gathers for a machine, and how it comes to life. */
#ifndef VPS_RUNTIME_MICROVM_LAUNCH_H
#define VPS_RUNTIME_MICROVM_LAUNCH_H

#include "runtime/microvm/microvm.h"

/* What M makes and its children inherit; both ends of pairs, [0] is M's. */
struct vm_prep {
	struct vm_jail jail;
	struct vm_kernel kernel;
	int cache; /* of what is made of kernels */
	int pty, gate[2], notify[2], pipes[3];
	bool errand;
	enum guest_role role; /* of an errand */
};
#define VM_PREP_INIT(r)                                                                    \
	{                                                                                  \
		.jail = {.run = (r),                                                       \
			 .id_base = (r)->spec->id_base,                                    \
			 .up = {-1, -1},                                                   \
			 .exe = -1,                                                        \
			 .null = -1,                                                       \
			 .err = -1,                                                        \
			 .size = vm_size_of((r)->spec, online_cpus()),                     \
			 .fds = VM_FDS_INIT},                                              \
		.kernel = {.fd = -1, .modules = -1}, .cache = -1, .pty = -1, .gate = {-1, -1}, \
		.notify = {-1, -1}, .pipes = {-1, -1, -1},                                 \
	}
void vm_prep_done(struct vm_prep *p);

/* All fds of p, but those of the run. */
int vm_prepare(struct vm_prep *p, const struct vps_run *run, struct vps_err *err);
/* Up to the gate: the machine is prepared, its CPUs have not run. On failure *ret_pid may be a process to be killed and
 * waited for. */
int vm_birth(struct vm_prep *p, const struct vps_run *run, pid_t *ret_pid, int *ret_netns, struct vps_err *err);
/* What a process that is gone said last; in buf, or a constant. */
const char *vm_last_words(struct vm_prep *p, char *buf, size_t size);
/* The same of the console of an errand's, or "nothing". */
const char *vm_last_console(struct vm_prep *p, char *buf, size_t size);

#endif
