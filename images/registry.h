/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One repository of one registry: OCI distribution-spec 1.1, pulling side, with token and Basic
 * login, bounded retries, resuming and parallel transfers. */
#ifndef VPS_IMAGES_REGISTRY_H
#define VPS_IMAGES_REGISTRY_H

#include "base/str.h"
#include "images/images.h"
#include "images/store.h"

struct reg;
/* ref and p have to last; ref->host must be set. */
int reg_open(const struct img_ref *ref, const struct img_pull_opts *p,
	     const struct progress *progress, struct reg **ret, struct vps_err *err);
struct reg *reg_close(struct reg *g);
static inline void reg_closep(struct reg **g) { *g = reg_close(*g); }

/* A manifest or index by tag or digest, at most IMG_DOC_MAX. With a digest the content is verified;
 * digest receives what it is. media_type: as the server said, for img_doc_kind. */
struct reg_doc {
	struct strbuf text;
	char digest[DIGEST_LEN];
	char media_type[128];
};
void reg_doc_done(struct reg_doc *d);
int reg_manifest(struct reg *g, const char *tag_or_digest, struct reg_doc *ret,
		 struct vps_err *err);

/* Blobs into ingests, several at a time; each is ended (verified) on success. The first failure
 * stops all. */
struct reg_blob {
	const struct img_desc *desc;
	struct img_ingest *in;
	unsigned key; /* of progress */
};
int reg_blobs(struct reg *g, struct reg_blob *blobs, size_t n, struct vps_err *err);

/* registry_auth.c: the header value for a registry's challenge */
struct reg_login {
	const char *host, *path; /* of the repository */
	char *user, *password;	 /* NULL: anonymous */
};
void reg_login_done(struct reg_login *l);
/* User and password of host from the options or the auth file (docker's config.json form). */
int reg_login_find(const struct img_pull_opts *p, const char *host, struct reg_login *ret,
		   struct vps_err *err);
struct http;
struct http_conf;
/* Answer a 401. bearer: the challenge's parameters or NULL; basic: Basic was offered.
 * *ret_value: for Authorization. 1: the token server asked for patience; try again later. */
int reg_answer(struct http *h, const struct http_conf *conf, const struct reg_login *l,
	       const char *bearer, bool basic, char **ret_value, struct vps_err *err);
/* key="value" of a challenge, unescaped (RFC 9110 11.2); NULL when absent or broken. */
char *reg_challenge_param(const char *challenge, const char *key);

#endif
