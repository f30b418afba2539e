/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where everything is in the guest: addresses, ports and interrupts. */
#ifndef VPS_VMM_LAYOUT_H
#define VPS_VMM_LAYOUT_H

#include "vmm/memory.h"

/* Low memory, before the kernel runs. */
#define AT_GDT	       0x500ull
#define AT_BOOT_PARAMS 0x7000ull
#define AT_PAGE_TABLES 0x9000ull /* one of level 4, one of level 3, four of level 2 */
#define AT_CMDLINE     0x20000ull
#define CMDLINE_MAX    2048 /* with its NUL, as x86 has it */
#define LOW_RAM_END    0x9fc00ull
#define AT_ACPI	       0xe0000ull
#define ACPI_MAX       0x1ff00ull
#define AT_RESET       0xffff0ull /* where a CPU begins in real mode */
#define AT_HIGH	       0x100000ull

/* In the hole. KVM wants three pages and one for itself, used by CPUs without unrestricted mode. */
#define AT_DEVICES	0xd0000000ull
#define DEVICE_SIZE	0x1000ull
#define AT_IOAPIC	0xfec00000ull
#define AT_LAPIC	0xfee00000ull
#define AT_TSS		0xfffbd000ull
#define AT_IDENTITY_MAP 0xfffbc000ull

/* Interrupts of the IOAPIC's 24 pins; COM1 has 4. */
#define GSI_POWER   5
#define GSI_DEVICES 8
#define MAX_DEVICES 16
#define MAX_CPUS    64

/* Ports of the fixed ACPI hardware. */
#define PORT_SLEEP_CONTROL 0x600
#define PORT_SLEEP_STATUS  0x601
#define PORT_RESET	   0x602
#define SLEEP_TYPE_S5	   5
#define SLEEP_ENABLE	   0x20
#define RESET_VALUE	   0x42

#endif
