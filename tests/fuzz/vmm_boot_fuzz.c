/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any file as a kernel: loaded or refused, within the guest's memory. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "vmm/loader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autoclose int fd = memfd_create("kernel", MFD_CLOEXEC);
	struct loader_opts o = {.kernel = fd, .cmdline = "quiet", .initrds = &fd, .n_initrds = 1};
	struct loader_entry e;
	struct gmem m;

	if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size ||
	    gmem_map(&m, 64 << 20, -1, NULL) < 0)
		abort();
	if (loader_load(&m, &o, &e, NULL) == 0 && !gmem_at(&m, e.rip, 1))
		abort();
	gmem_done(&m);
	return 0;
}
