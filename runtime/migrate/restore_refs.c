// SPDX-License-Identifier: GPL-2.0-or-later
/* The names that images have while they are restored; apart, since `host gc` looks for them without what unpacks. */
#include <signal.h>
#include <string.h>

#include "runtime/migrate/backup.h"

/* Names of restores whose process is gone. */
void restore_clean(struct vps_host *h)
{
	struct img_store *images;
	struct img_info *v = NULL;
	size_t n = 0;

	if (vps_host_images(h, &images, NULL) < 0 || img_list(images, &v, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		for (char **p = v[i].refs; p && *p; p++) {
			uint64_t pid;

			if (str_starts(*p, REF_PREFIX) && parse_u64(*p + strlen(REF_PREFIX), INT32_MAX, &pid) == 0 &&
			    ((pid_t)pid == getpid() || (kill((pid_t)pid, 0) < 0 && errno == ESRCH)))
				(void)img_remove(images, *p, true, NULL);
		}
	img_list_free(v, n);
}
