/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256. The only user of libcrypto. */
#ifndef VPS_BASE_DIGEST_H
#define VPS_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "sha256:" + 64 hex + NUL */
#define DIGEST_LEN 72

struct digest_ctx;
struct digest_ctx *digest_new(void); /* NULL when out of memory */
void digest_add(struct digest_ctx *d, const void *p, size_t n);
/* Writes "sha256:<hex>" and frees the context. Should libcrypto fail, out is "" (which is
 * equal to no digest and not digest_valid). */
void digest_end(struct digest_ctx *d, char out[DIGEST_LEN]);
/* The same as 32 raw bytes: 0, or -EIO with out untouched. */
#define DIGEST_RAW_LEN 32
int digest_end_raw(struct digest_ctx *d, uint8_t out[DIGEST_RAW_LEN]);
/* Frees the context without a result; NULL is fine. */
void digest_drop(struct digest_ctx *d);
void digest_of(const void *p, size_t n, char out[DIGEST_LEN]);
/* Whole file from offset 0; 0 or -errno. size may be NULL. */
int digest_of_fd(int fd, char out[DIGEST_LEN], uint64_t *size);
/* HMAC-SHA256 (RFC 2104) of a message, as 64 hex digits. False when libcrypto failed. */
#define DIGEST_MAC_LEN 65
bool digest_mac(const void *key, size_t key_len, const void *p, size_t n, char out[DIGEST_MAC_LEN]);
/* Are two equal? Takes the same time wherever they differ. */
bool digest_mac_equal(const char a[DIGEST_MAC_LEN], const char b[DIGEST_MAC_LEN]);
/* Exactly "sha256:" and 64 lower-case hex digits. Use before a digest becomes a path. */
bool digest_valid(const char *s);

#endif
