/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts a Linux kernel into the guest's memory and prepares the state its 64-bit entry wants (Linux'
 * Documentation/arch/x86/boot.rst): bzImage or ELF, initial RAM disk, command line, memory map.
 */
#ifndef VPS_VMM_LOADER_H
#define VPS_VMM_LOADER_H

#include "vmm/layout.h"

struct loader_opts {
	int kernel;	    /* a regular file: bzImage or ELF64 */
	const int *initrds; /* regular files, one behind the other at multiples of 4 */
	size_t n_initrds;
	const char *cmdline;
	uint64_t rsdp; /* where acpi_write put it */
};

/* The first CPU's registers. */
struct loader_entry {
	uint64_t rip, rsi, cr3;
};

/* Load it all. -VPS_EUNSUPPORTED: no kernel that we can boot; -VPS_ERESOURCE: more memory is
 * needed, the words say how much. The memory must be fresh. */
int loader_load(const struct gmem *m, const struct loader_opts *o, struct loader_entry *ret,
		struct vps_err *err);
/* GDT at AT_GDT (code 0x10, data 0x18), an identity map of the first 4 GiB, and in the place of a
 * BIOS one that resets the machine: Linux (6.1) on hardware-reduced ACPI tries EFI and then jumps
 * there. */
#define LOADER_CODE 0x10
#define LOADER_DATA 0x18
int loader_tables(const struct gmem *m);

#endif
