// SPDX-License-Identifier: GPL-2.0-or-later
/* The parts of a VPS's root: its image's layers and its disk, as fds. Nothing stays when they are
 * closed. */
#include <stdlib.h>

#include "runtime/inside.h"
#include "runtime/internal.h"

void root_done(struct stopped_root *r)
{
	for (size_t i = 0; i < r->n_layers; i++)
		close_fd(&r->layers[i]);
	free(r->layers);
	close_fd(&r->disk);
	close_fd(&r->erofs);
	close_fd(&r->disk_image);
	img_info_done(&r->image);
	*r = (struct stopped_root)STOPPED_ROOT_INIT;
}

static int open_layers(struct vps_host *h, const struct vps_spec *spec, struct stopped_root *root,
		       struct vps_err *err)
{
	struct img_store *images;
	int r = vps_host_images(h, &images, err);

	r = r ?: img_inspect(images, spec->image_digest, &root->image, err);
	if (r < 0)
		return r;
	root->layers = calloc(root->image.n_layers + 1, sizeof(*root->layers));
	if (!root->layers)
		return vps_err_sys(err, -ENOMEM, "layers");
	for (; root->n_layers < root->image.n_layers; root->n_layers++) {
		r = img_layer_open(images, root->image.layers[root->n_layers], err);
		if (r < 0)
			return r;
		root->layers[root->n_layers] = r;
	}
	return 0;
}

int root_open_image(struct vps_locked *l, struct stopped_root *ret, struct vps_err *err)
{
	struct stopped_root root = STOPPED_ROOT_INIT;
	int r = open_layers(l->h, &l->spec, &root, err);

	if (r < 0) {
		root_done(&root);
		return vps_err_wrap(err, r, "image '%s'", l->spec.image);
	}
	*ret = root;
	return 0;
}

int root_open_machine_disk(struct vps_locked *l, struct stopped_root *root, struct vps_err *err)
{
	struct img_store *images;
	int r = vps_host_images(l->h, &images, err);

	/* A look at the disk before the first guest had it mounted it: that mount goes first. */
	close_fd(&root->disk);
	r = r ?: img_erofs_open(images, &root->image, l->spec.id_base, NULL, &root->erofs, err);
	if (r < 0)
		return vps_err_wrap(err, r, "image '%s'", l->spec.image);
	return img_disk_guest_open(l->dir, false, &root->disk_image, err);
}

int root_open(struct vps_locked *l, struct stopped_root *ret, struct vps_err *err)
{
	struct stopped_root root = STOPPED_ROOT_INIT;
	struct img_disk_spec d;
	int r = open_layers(l->h, &l->spec, &root, err);

	if (r < 0) {
		vps_err_wrap(err, r, "image '%s'", l->spec.image);
	} else {
		plan_disk(&l->spec, &d);
		r = img_disk_attach(l->dir, d.backend, false, &root.disk, err);
	}
	if (r < 0) {
		root_done(&root);
		return r;
	}
	*ret = root;
	return 0;
}
