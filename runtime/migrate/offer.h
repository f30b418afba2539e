/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the source says of a VPS before it moves, and what the destination says to that: two JSON documents. */
#ifndef VPS_RUNTIME_MIGRATE_OFFER_H
#define VPS_RUNTIME_MIGRATE_OFFER_H

#include "runtime/spec.h"
#include "runtime/vps.h"

#define OFFER_VERSION 1

struct offer {
	enum vps_migrate_mode mode;
	bool check;	  /* nothing but the answer is wanted */
	bool first_boot_done, copied; /* marks beside its disk */
	bool blocks;	  /* the disk is a machine's image file */
	uint64_t used, entries; /* of the disk */
	uint64_t image_size;
	char **image_as;     /* strv: digests that it has elsewhere */
	char **image_layers; /* strv: chain ids, lowest first */
	uint64_t memory;  /* in use, of a running one */
	char *peer;	  /* the source, in words */
	char *kernel, *arch;
	char *needs;	  /* of the host, to go on there live (struct vps_driver), or NULL */
	char *seccomp;	  /* text of its profile, or NULL */
	struct vps_spec spec; /* name: as it is to be called there */
};
void offer_done(struct offer *o);
#define auto_offer auto_done(offer_done) struct offer
void offer_to_json(const struct offer *o, struct json_out *out);
/* -VPS_EBADIMAGE. The definition is checked (spec_check). */
int offer_from_json(const struct json *j, struct offer *ret, struct vps_err *err);

struct answer {
	char *host, *kernel;
	bool image;    /* wanted */
	uint64_t image_layers; /* so many of its layers, from the lowest on, are here */
	bool has;      /* struct vps_driver */
	bool running;  /* it is here already, and runs */
	uint64_t disk_free, memory_free;
	char **problems; /* strv: each keeps it from moving, and says what would help */
	char **notes;	 /* strv: what will be otherwise there */
};
void answer_done(struct answer *a);
#define auto_answer auto_done(answer_done) struct answer
void answer_to_json(const struct answer *a, struct json_out *out);
int answer_from_json(const struct json *j, struct answer *ret, struct vps_err *err);

#endif
