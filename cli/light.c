/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hand-over of image verbs from the small `vps` to libexec's vps-image. */
#include "cli/verbs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int cli_exec_image(struct cli *c)
{
	const char *dir = getenv("VPS_LIBEXEC");
	autofree char *path = str_fmt("%s/vps-image", dir && *dir ? dir : PKGLIBEXECDIR);
	if (path) {
		fflush(stdout);
		execv(path, c->argv);
	}
	struct vps_err err = {0};
	return cli_fail(c, vps_err_sys(&err, -errno, "run '%s'", path ? path : "vps-image"), &err);
}
