/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside images/ only. */
#ifndef VPS_IMAGES_EXPORT_H
#define VPS_IMAGES_EXPORT_H

#include "images/store.h"

/* An unpacked layer as a tar, in OCI's terms: names sorted, whiteouts as .wh. files, opaque folders with
 * .wh..wh..opq, hard links, xattrs, sparse files. The same layer always gives the same bytes. */
int img_layer_tar(int fs, struct img_ingest *out, const struct img_opts *o, struct vps_err *err);

#endif
