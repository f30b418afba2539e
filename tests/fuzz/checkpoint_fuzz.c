/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A checkpoint's manifest, as a stream from another host brings it; and CRIU's messages. First byte: which. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "runtime/container/criu.h"
#include "runtime/migrate/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] % 2) {
		struct criu_event e;
		uint64_t us, bytes;
		unsigned version;

		(void)criu_stats_decode(data + 1, size - 1, &us, &bytes);
		if (criu_decode(data + 1, size - 1, &e, &version) == 0 && strlen(e.words) >= sizeof(e.words))
			abort();
		return 0;
	}
	auto_strv files = NULL;
	struct checkpoint_info i;
	struct vps_err err = {0};

	if (checkpoint_parse((const char *)data + 1, size - 1, &i, &files, &err) == 0) {
		if (strv_len(files) != i.n_files)
			abort();
		for (char **f = files; f && *f; f++)
			if (strchr(*f, '/') || strchr(*f, '\n'))
				abort();
	} else if (!err.code) {
		abort();
	}
	return 0;
}
