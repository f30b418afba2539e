/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside images/ only. */
#ifndef VPS_IMAGES_EXPORT_H
#define VPS_IMAGES_EXPORT_H

#include "images/store.h"

/* Where the tar goes, and what does not. */
struct layer_out {
	int (*write)(void *arg, const void *p, size_t n, struct vps_err *err);
	void *arg;
	bool (*leave_out)(const char *path); /* NULL: nothing; never asked of whiteouts */
};
/* An unpacked layer as a tar, in OCI's terms: names sorted, whiteouts as .wh. files, opaque folders with
 * .wh..wh..opq, hard links, xattrs, sparse files. The same layer always gives the same bytes. */
int img_layer_tar(int fs, const struct layer_out *out, const struct img_opts *o, struct vps_err *err);
/* A struct layer_out's write into an img_ingest. */
int img_layer_to_ingest(void *ingest, const void *p, size_t n, struct vps_err *err);

#endif
