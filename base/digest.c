/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/digest.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define PREFIX	   "sha256:"
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define HASH_LEN   DIGEST_RAW_LEN
#define READ_SIZE  (128u << 10)

struct digest_ctx {
	EVP_MD_CTX *md;
	bool failed;
};

static struct digest_ctx *digest_free(struct digest_ctx *d)
{
	if (d)
		EVP_MD_CTX_free(d->md);
	free(d);
	return NULL;
}

struct digest_ctx *digest_new(void)
{
	struct digest_ctx *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->md = EVP_MD_CTX_new();
	if (!d->md || !EVP_DigestInit_ex(d->md, EVP_sha256(), NULL))
		return digest_free(d);
	return d;
}

void digest_add(struct digest_ctx *d, const void *p, size_t n)
{
	if (!EVP_DigestUpdate(d->md, p, n))
		d->failed = true;
}

static void print(const unsigned char hash[HASH_LEN], char out[DIGEST_LEN])
{
	memcpy(out, PREFIX, PREFIX_LEN);
	fmt_hex(hash, HASH_LEN, out + PREFIX_LEN);
}

int digest_end_raw(struct digest_ctx *d, uint8_t out[DIGEST_RAW_LEN])
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	int r = !d->failed && EVP_DigestFinal_ex(d->md, hash, NULL) ? 0 : -EIO;

	if (r == 0)
		memcpy(out, hash, DIGEST_RAW_LEN);
	digest_free(d);
	return r;
}

void digest_end(struct digest_ctx *d, char out[DIGEST_LEN])
{
	unsigned char hash[DIGEST_RAW_LEN];

	if (digest_end_raw(d, hash) == 0)
		print(hash, out);
	else
		out[0] = '\0';
}

void digest_drop(struct digest_ctx *d)
{
	digest_free(d);
}

void digest_of(const void *p, size_t n, char out[DIGEST_LEN])
{
	unsigned char hash[EVP_MAX_MD_SIZE];

	if (EVP_Digest(p, n, hash, NULL, EVP_sha256(), NULL))
		print(hash, out);
	else
		out[0] = '\0';
}

/* Feed the file; its size or -errno. */
static int64_t add_file(struct digest_ctx *d, int fd)
{
	autofree char *buf = malloc(READ_SIZE);
	off_t at = 0;

	if (!buf)
		return -ENOMEM;
	for (;;) {
		ssize_t n = pread(fd, buf, READ_SIZE, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return at;
		digest_add(d, buf, (size_t)n);
		at += n;
	}
}

int digest_of_fd(int fd, char out[DIGEST_LEN], uint64_t *size)
{
	struct digest_ctx *d = digest_new();
	char text[DIGEST_LEN];

	if (!d)
		return -ENOMEM;

	int64_t n = add_file(d, fd);

	if (n < 0) {
		digest_free(d);
		return (int)n;
	}
	digest_end(d, text);
	if (!digest_valid(text))
		return -EIO;
	memcpy(out, text, DIGEST_LEN);
	if (size)
		*size = (uint64_t)n;
	return 0;
}

bool digest_valid(const char *s)
{
	return str_starts(s, PREFIX) && strlen(s) == DIGEST_LEN - 1 &&
	       strspn(s + PREFIX_LEN, "0123456789abcdef") == 2 * HASH_LEN;
}

bool digest_mac(const void *key, size_t key_len, const void *p, size_t n, char out[DIGEST_MAC_LEN])
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (!HMAC(EVP_sha256(), key, (int)key_len, p, n, mac, &len) || len != HASH_LEN)
		return false;
	fmt_hex(mac, HASH_LEN, out);
	return true;
}

bool digest_mac_equal(const char a[DIGEST_MAC_LEN], const char b[DIGEST_MAC_LEN])
{
	return CRYPTO_memcmp(a, b, DIGEST_MAC_LEN) == 0;
}
