/* SPDX-License-Identifier: GPL-2.0-or-later */
/* img_pull and img_bootstrap alone, for tests/integration: pull_tool ROOT REF [option value]..., where a
 * REF of bootstrap:SUITE takes the second. Prints the manifest's digest; on failure "error CODE: words" and exits 1. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "images/images.h"

static int fail(int r, const struct vps_err *err)
{
	fprintf(stderr, "error %d: %s\n", -r, err->msg[0] ? err->msg : vps_code_str(r));
	return 1;
}

int main(int argc, char **argv)
{
	struct vps_err err = {0};
	struct img_pull_opts p = {0};
	struct img_opts o = {0};
	struct img_bootstrap_opts b = {0};
	const char *as = NULL;
	auto_done(img_info_done) struct img_info info = {0};
	auto_done(img_store_closep) struct img_store *s = NULL;

	if (argc < 3 || argc % 2 == 0) {
		fprintf(stderr, "usage: pull_tool ROOT REF [option value]...\n");
		return 2;
	}
	for (int i = 3; i < argc; i += 2) {
		const char *k = argv[i], *v = argv[i + 1];

		if (str_eq(k, "ca"))
			p.ca_file = v;
		else if (str_eq(k, "user"))
			p.user = v;
		else if (str_eq(k, "password"))
			p.password = v;
		else if (str_eq(k, "auth-file"))
			p.auth_file = v;
		else if (str_eq(k, "retries"))
			p.retries = (unsigned)atoi(v);
		else if (str_eq(k, "parallel"))
			p.parallel = (unsigned)atoi(v);
		else if (str_eq(k, "plain"))
			p.plain_http = true;
		else if (str_eq(k, "arch"))
			o.arch = v;
		else if (str_eq(k, "keep"))
			o.keep_blobs = true;
		else if (str_eq(k, "mirror"))
			b.mirror = v;
		else if (str_eq(k, "include"))
			b.include = v;
		else if (str_eq(k, "variant"))
			b.variant = v;
		else if (str_eq(k, "bare"))
			b.bare = true;
		else if (str_eq(k, "as"))
			as = v;
		else
			return 2;
	}
	autoclose int root = fs_open_dir(AT_FDCWD, argv[1]);
	if (root < 0)
		return fail(root, &err);
	int r = img_store_open(root, &s, &err);
	if (str_starts(argv[2], "bootstrap:"))
		b.suite = argv[2] + strlen("bootstrap:");
	if (r == 0 && b.suite)
		r = img_bootstrap(s, &b, as ? as : "debian:test", &o, &info, &err);
	else if (r == 0)
		r = img_pull(s, argv[2], as, &p, &o, &info, &err);
	if (r < 0)
		return fail(r, &err);
	printf("%s\n", info.digest);
	return 0;
}
