/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Driver 2: a machine. vps-vmm runs it inside the container's wall, as the VPS's init. Who does what at a
 * start:
 *
 *   M  the caller, later the monitor: kernel, initramfs, fds, the tap (launch.c)
 *   A  M's child, with the effective uid of the VPS's root: user namespace, id maps; ends then
 *   B  A's child by CLONE_PARENT, so M's: an empty root, no rights, and then vps-vmm (jail.c)
 *
 * B's identity is what monitor, stop, pause and adoption go by, as with a container. Everything else is
 * said to vps-vmm (vmm/api.h) or to the agent in the guest (runtime/guest/agent.h): talk.c, exec.c.
 */
#ifndef VPS_RUNTIME_MICROVM_H
#define VPS_RUNTIME_MICROVM_H

#include "base/digest.h"
#include "netns/netns.h"
#include "runtime/container/container.h"
#include "runtime/guestcfg.h"
#include "runtime/internal.h"
#include "runtime/microvm/modtree.h"
#include "vmm/api.h"

#define VM_TAP "tap0"
#define VM_CACHE_DIR "cache" /* of initramfs, below the root */

/* What the group may have beside the guest's memory: vps-vmm, its stacks and rings, KVM's tables (a part of
 * the memory), page cache while it is written. Measured: a tenth of it with an idle guest. */
#define VM_OVERHEAD	 (24ull << 20)
#define VM_OVERHEAD_PART 64
/* More than the threads of vps-vmm: one a CPU, two a disk, the loop. */
#define VM_THREADS 512

/* ---- plan.c: pure ------------------------------------------------------------- */

/* Bytes and CPUs of the machine. n_cpus: the host's, for a definition without a number. */
uint64_t vm_memory(const struct vps_spec *s);
unsigned vm_cpus(const struct vps_spec *s, unsigned n_cpus);
/* What a machine was started with; what it may have of that can be less by now. */
struct vm_size {
	uint64_t memory;
	unsigned cpus;
	char modules[MODTREE_NAME]; /* modtree.h; "": none */
	char modules_sum[DIGEST_LEN]; /* "": not known */
	char image[DIGEST_LEN];	    /* of the image's EROFS */
};
static inline struct vm_size vm_size_of(const struct vps_spec *s, unsigned n_cpus)
{
	return (struct vm_size){.memory = vm_memory(s), .cpus = vm_cpus(s, n_cpus)};
}
/* What the guest's first process is told; strings are copies. 0, -ENOMEM. */
int vm_guest_cfg(const struct vps_run *run, struct guest_cfg *ret);
/* What the agent of a running guest is told when its definition changes (AGENT_SET). 0, -ENOMEM, -EINVAL. */
int vm_guest_change(const struct vps_spec *was, const struct vps_spec *now, struct guest_cfg *ret);
/* The kernel's command line. */
char *vm_cmdline(const struct vps_spec *s);

/* vps-vmm's fds, -1: none. */
struct vm_fds {
	int kvm, restore, kernel, initrd[2], image, disk, modules, tap, gate, ctl, notify;
	int rounds[VMM_ROUNDS_MAX]; /* of restore, up to the first -1 */
	int console[2]; /* in, out */
	int stdio[3];	/* of a command without a terminal: what the guest reads, writes, writes */
	int errand;	/* what the guest of an errand connects to, both ways */
};
#define VM_FDS_INIT                                                                                \
	{                                                                                          \
		-1, -1, -1, {-1, -1}, -1, -1, -1, -1, -1, -1, -1,                                  \
		{[0 ... VMM_ROUNDS_MAX - 1] = -1}, {-1, -1},                                       \
		{                                                                                  \
			-1, -1, -1                                                                 \
		},                                                                                 \
			-1                                                                         \
	}
#define VM_N_FDS (sizeof(struct vm_fds) / sizeof(int))
/* strv. */
int vm_argv(const struct vps_run *run, const struct vm_fds *f, const struct vm_size *size, char ***ret);

/* ---- kernel.c ------------------------------------------------------------------ */

struct vm_kernel {
	int fd;
	int modules; /* its folder below /lib/modules; -1: none, all is built in */
	char path[4096], release[128]; /* release "": not known */
};
void vm_kernel_done(struct vm_kernel *k);
/* The folder of its modules. fd, -ENOENT. */
int vm_kernel_modules(const char *release);
/* path NULL: the newest of /boot that has its modules. -VPS_EUNSUPPORTED, -errno. */
int vm_kernel_open(const char *path, struct vm_kernel *ret, struct vps_err *err);
/* Release of a bzImage by its first bytes (Documentation/arch/x86/boot.rst, kernel_version); "" when it says
 * none. ret: 128 bytes. */
void vm_kernel_release(const uint8_t *head, size_t len, char *ret);

/* ---- jail.c --------------------------------------------------------------------- */

struct vm_jail {
	const struct vps_run *run;
	uint32_t id_base;
	int up[2];   /* M has [0]: struct box_msg; B gets the tap by it */
	int exe;     /* vps-vmm */
	int null, err; /* fds 0 and 1, fd 2 */
	struct vm_size size;
	bool fleeting; /* it ends with M */
	struct vm_fds fds;
};
/* A's body. */
_Noreturn void vm_jail_outside(struct vm_jail *j);

/* ---- launch.c, errand.c ------------------------------------------------------------------- */

int vm_launch(const struct vps_run *run, struct vps_launched *ret, struct vps_err *err);
/*
 * A stopped VPS's machine on an errand: its kernel boots, as nobody else may look at its disk (I5), but not its
 * init. run has spec, conf, image and disk_image. The machine ends with the caller; one that does nothing for
 * minutes is ended: -VPS_ETIMEDOUT.
 */
/* Its root goes to fd as a stream of tar_pack_tree. */
int vm_export(const struct vps_run *run, int fd, struct vps_err *err);
/* As vps_copy_out and vps_copy_in (runtime/vps.h). */
int vm_pack_stopped(const struct vps_run *run, const char *path, int tar_fd, struct vps_err *err);
int vm_unpack_stopped(const struct vps_run *run, const char *path, long uid, long gid, int tar_fd,
		      struct vps_err *err);
/* /dev/kvm, a CPU that helps, vps-vmm: what a machine cannot be without. */
int vm_host_check(struct vps_err *err);
/* And can a guest go on here that needs such a CPU (vmm_api_cpu; NULL: any)? */
int vm_host_check_cpu(const char *cpu, struct vps_err *err);
/* Is that the EROFS that a guest of another host has mounted? -VPS_EUNSUPPORTED. */
int vm_image_check(int image, const char *digest, struct vps_err *err);
/* Open an installed program of ours ($VPS_LIBEXEC). */
int vm_program(const char *name, struct vps_err *err);

/* ---- checkpoint.c ----------------------------------------------------------------- */

/* runtime/driver.h. The directory has the machine's snapshot and its size. */
int vm_checkpoint(const struct vps_live *l, int dir, unsigned rounds, struct vps_err *err);
int vm_checkpoint_end(const struct vps_live *l, bool go_on, struct vps_err *err);
int vm_precopy(const struct vps_live *l, int dir, unsigned round, struct precopy_stats *ret, struct vps_err *err);
void vm_precopy_end(const struct vps_live *l);
int vm_written(const struct vps_live *l, int *session, int fd, struct vps_err *err);
int vm_needs(const struct vps_live *l, char **ret, struct vps_err *err);
int vm_fits(const char *needs, int image, struct vps_err *err);
bool vm_has(const char *needs, const struct vps_conf *c, bool make);
/* Where disks for machines are, below the root. fd. */
int vm_cache_open(const struct vps_conf *c, struct vps_err *err);
/* In a checkpoint's directory, when it is to go to another host: the modules of size.modules. */
#define VM_MODULES_HERE "modules"
/* The snapshot, for reading, with its rounds, and the size that the restoring machine must have. fd. */
int vm_checkpoint_open(int dir, struct vm_size *ret, int rounds[VMM_ROUNDS_MAX], struct vps_err *err);
/* For a checkpoint: the name of the modules that the machine of this run directory has. */
int vm_modules_note(int run_dir, const char *name);
/* And what its image is. */
int vm_image_note(int run_dir, int image, struct vps_err *err);
/* Its pure part. -EPROTO. */
int vm_size_parse(const char *text, size_t len, struct vm_size *ret);

/* ---- exec.c, talk.c --------------------------------------------------------------- */

int vm_exec(const struct vps_live *l, const struct vps_exec *x, struct vps_exec_handle *ret,
	    struct vps_err *err);
/* A connection to the guest's agent, after its HELLO. fd. */
int vm_agent(const struct vps_live *l, int timeout_ms, struct vps_err *err);
int vm_pack(const struct vps_live *l, const char *path, int tar_fd, struct vps_err *err);
int vm_unpack(const struct vps_live *l, const char *path, long uid, long gid, int tar_fd,
	      struct vps_err *err);
int vm_freeze(const struct vps_live *l, bool paused, struct vps_err *err);
int vm_signal(const struct vps_live *l, int sig, struct vps_err *err);
int vm_procs(const struct vps_live *l, struct vps_proc **ret, size_t *ret_n, struct vps_err *err);
void vm_winsize(const struct vps_live *l, unsigned short rows, unsigned short cols);
void vm_stats(const struct vps_live *l, struct vps_stats *s);
int vm_update(const struct vps_live *l, const struct vps_spec *was, const struct vps_spec *now,
	      struct vps_err *err);
void vm_grown(const struct vps_live *l);

#endif
