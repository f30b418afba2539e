/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's ACPI tables (ACPI 6.4): hardware-reduced, with every device announced in the DSDT, as
 * stock kernels want them. */
#ifndef VPS_VMM_ACPI_H
#define VPS_VMM_ACPI_H

#include "base/str.h"
#include "vmm/layout.h"

/* Put the tables at AT_ACPI; *ret_rsdp is where the RSDP is. devices: virtio windows from
 * AT_DEVICES on. */
int acpi_write(const struct gmem *m, unsigned cpus, unsigned devices, uint64_t *ret_rsdp,
	       struct vps_err *err);
/* The DSDT alone. 0 or -ENOMEM. */
int acpi_dsdt(unsigned devices, struct strbuf *ret);

#endif
