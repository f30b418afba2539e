/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest's kernel finds in memory: two cpio archives, handed over as two initrds.
 *
 *   1  one a kernel, cached: vps-guest as /init, the modules it needs, /vps/modules (their names in
 *      load order, a line each)
 *   2  one a start, a memfd: /vps/config (runtime/guestcfg.h)
 */
#ifndef VPS_RUNTIME_MICROVM_INITRAMFS_H
#define VPS_RUNTIME_MICROVM_INITRAMFS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* ---- cpio.c: the "newc" format; Documentation/driver-api/early-userspace/buffer-format.rst ----- */

struct cpio {
	struct strbuf out;
	uint32_t ino;
};
void cpio_dir(struct cpio *c, const char *name, unsigned mode);
void cpio_file(struct cpio *c, const char *name, unsigned mode, const void *data, size_t len);
void cpio_node(struct cpio *c, const char *name, unsigned mode, unsigned major, unsigned minor);
/* The trailer, padded to 512 bytes. 0 or -ENOMEM; then out is all of it. */
int cpio_end(struct cpio *c);
void cpio_done(struct cpio *c);

/* ---- modules.c: which modules, in which order. Pure but for the reading --------------------------- */

/* A guest wants these (by name, '-' and '_' are the same); what a kernel has built in is left out. */
extern const char *const guest_modules[];
/* dep, builtin: text of modules.dep and modules.builtin (depmod(8)). wanted: names, strv. *ret: paths
 * below the modules' folder, each after what it depends on. -VPS_EUNSUPPORTED names what the kernel
 * has neither as a module nor built in. */
int modules_closure(const char *dep, const char *builtin, const char *const *wanted, char ***ret,
		    struct vps_err *err);

/* ---- initramfs.c ----------------------------------------------------------------------------------- */

struct initramfs_opts {
	int modules;	    /* the kernel's folder: /lib/modules/<release>; -1: everything is built in */
	int program;	    /* vps-guest */
	char *const *extra; /* strv: more modules (--initrd-modules), or NULL */
};
/* Archive 1 from the cache folder (made when it is not there), open for reading. Its name tells all that it
 * is made from; written atomically; those not used for a week go. -VPS_EUNSUPPORTED: see above. */
int initramfs_open(int cache, const struct initramfs_opts *o, struct vps_err *err);
/* Can this kernel be a guest? The same errors, and nothing is written. */
int initramfs_check(int modules, char *const *extra, struct vps_err *err);

struct guest_cfg;
/* Archive 2, a sealed memfd at offset 0. */
int initramfs_config(const struct guest_cfg *cfg, struct vps_err *err);

#endif
