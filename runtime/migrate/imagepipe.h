/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image between two stores: exported by a child here, imported by a child there, its bytes WIRE_IMAGE records. The
 * importer computes every digest itself; what it is called there ("migrated:…") is no name that anybody else uses.
 */
#ifndef VPS_RUNTIME_MIGRATE_IMAGEPIPE_H
#define VPS_RUNTIME_MIGRATE_IMAGEPIPE_H

#include "images/images.h"
#include "runtime/migrate/feeder.h"
#include "runtime/migrate/wire.h"

/* All of it but the lowest `without` layers. ret: bytes sent. */
int image_send(struct img_store *s, const char *digest, size_t without, struct wire_out *w, const struct progress *p,
	       uint64_t total, uint64_t *ret, struct vps_err *err);

struct image_in {
	struct feeder f;
};
#define IMAGE_IN_INIT { FEEDER_INIT }
/* One record; the empty one ends it: digest (DIGEST_LEN) is what the image is here, and 1. */
int image_take(struct image_in *in, struct img_store *s, const char *source_digest, const void *data, size_t len,
	       char *digest, struct vps_err *err);
/* Ends a half-done import. */
void image_in_done(struct image_in *in);

#endif
