/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a checkpoint's manifest says; runtime/migrate/checkpoint.h has the whole. */
#ifndef VPS_RUNTIME_MANIFEST_H
#define VPS_RUNTIME_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CHECKPOINT_VERSION  1
#define CHECKPOINT_MANIFEST "manifest.json"
#define CHECKPOINT_MAC	    "manifest.mac"
#define CHECKPOINT_PARENT   "parent" /* a link to the round before, made by who reads it */
#define CHECKPOINT_FILES    262144u /* at most */

struct checkpoint_info {
	bool machine;
	char uuid[37];	  /* of the VPS */
	uint64_t created; /* seconds since 1970 */
	uint64_t ran;	  /* seconds it had been up then */
	uint64_t bytes;	  /* of all files */
	size_t n_files;
	char kernel[65];  /* the host's, then */
};

/* Is it no part of the checkpoint: the manifest itself, or what a driver notes down for people? */
bool checkpoint_apart(const char *name);
/* "1" to "999": a directory of what a round of pre-copy wrote. */
bool checkpoint_round_name(const char *name, size_t len);
/* Can a file of a checkpoint be called so? Perhaps in the directory of a round: "2/pages". */
bool checkpoint_name_ok(const char *name);
/* -EBADMSG, -VPS_EUNSUPPORTED for another version. files: strv "name\tsize\tdigest". */
int checkpoint_parse(const char *text, size_t len, struct checkpoint_info *ret, char ***ret_files,
		     struct vps_err *err);

#endif
