/* SPDX-License-Identifier: GPL-2.0-or-later */
/* References, and documents that mean harm. */
#include "images_tar.h"

#include <strings.h>

/* ---- references ----------------------------------------------------------- */

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_grammar(void **state)
{
	static const struct {
		const char *text, *name; /* NULL: refused */
	} cases[] = {
		{ "debian", "debian:latest" },
		{ "debian:12", "debian:12" },
		{ "library/debian:12", "library/debian:12" },
		{ "docker.io/library/debian:12", "docker.io/library/debian:12" },
		{ "localhost/x", "localhost/x:latest" },
		{ "localhost:5000/x", "localhost:5000/x:latest" },
		{ "Host.Example:5000/a/b/c:Tag_1.x-y", "Host.Example:5000/a/b/c:Tag_1.x-y" },
		{ "[::1]:5000/x:y", "[::1]:5000/x:y" },
		{ "a__b/c-d--e.f_g:1", "a__b/c-d--e.f_g:1" },
		{ "x@sha256:" HEX, "x@sha256:" HEX },
		{ "x:1@sha256:" HEX, "x:1" },
		{ "", NULL },
		{ "Debian", NULL },
		{ "a/B", NULL },
		{ "a//b", NULL },
		{ "/a", NULL },
		{ "a/", NULL },
		{ "a:", NULL },
		{ "a:-x", NULL },
		{ "a:.x", NULL },
		{ "a:b:c", NULL },
		{ "-a", NULL },
		{ "a-", NULL },
		{ "a___b", NULL },
		{ "a..b", NULL },
		{ "..", NULL },
		{ "../x", NULL },
		{ "a/../b", NULL },
		{ "a/./b", NULL },
		{ "a+b", NULL },
		{ "a b", NULL },
		{ "a\nb", NULL },
		{ "a\033[2J", NULL },
		{ "\xc3\xa9", NULL },
		{ "host.x:99999/a", NULL },
		{ "host.x:/a", NULL },
		{ "-host.x/a", NULL },
		{ "ho_st.x/a", NULL },
		{ "[::1/a", NULL },
		{ "x@sha256:1234", NULL },
		{ "x@md5:" HEX, NULL },
		{ "x@sha256:" HEX "00", NULL },
		{ "x@", NULL },
		{ HEX, NULL },
		{ "http://x.y/z", NULL },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char name[IMG_REF_MAX + 1];
		struct vps_err err = { 0 };
		int r = img_ref_canonical(cases[i].text, name, &err);
		if (cases[i].name) {
			if (r < 0)
				fail_msg("'%s': %s", cases[i].text, err.msg);
			assert_string_equal(name, cases[i].name);
		} else if (r != -VPS_EUSAGE) {
			fail_msg("'%s' was taken", cases[i].text);
		}
		assert_null(strchr(err.msg, '\033'));
	}
	struct vps_err err = { 0 };
	char name[IMG_REF_MAX + 1], n[400];
	memset(n, 'a', sizeof(n));
	n[399] = 0;
	assert_int_equal(img_ref_canonical(n, name, &err), -VPS_EUSAGE);
	n[IMG_REF_MAX - 7] = 0; /* with ":latest" exactly the longest */
	assert_int_equal(img_ref_canonical(n, name, &err), 0);
	n[IMG_REF_MAX - 7] = 'a';
	n[IMG_REF_MAX - 6] = 0;
	assert_int_equal(img_ref_canonical(n, name, NULL), -VPS_EUSAGE);
}

static void test_host(void **state)
{
	struct img_ref r;
	assert_int_equal(img_ref_parse("example.com:443/a/b:1", &r, NULL), 0);
	assert_string_equal(r.host, "example.com:443");
	assert_string_equal(r.path, "a/b");
	assert_string_equal(r.tag, "1");
	assert_int_equal(img_ref_parse("library/b:1", &r, NULL), 0);
	assert_string_equal(r.host, "");
	assert_string_equal(r.path, "library/b");
}

static void import_text(struct img_store *s, const char *text, const char *ref,
			struct img_info *i)
{
	auto_tar t = { 0 };
	struct vps_err err = { 0 };
	tar_file(&t, "f", text);
	tar_end(&t);
	autoclose int fd = mem_fd(t.b.s, t.b.len);
	assert_ok(img_import_rootfs_fd(s, fd, ref, NULL, i, &err), &err);
}

static void test_resolve(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	char d[DIGEST_LEN], hex[20];
	auto_done(img_info_done) struct img_info a = { 0 }, b = { 0 };
	assert_int_equal(img_resolve(s, "debian:12", d, &err), -VPS_ENOIMAGE);
	assert_non_null(strstr(err.msg, "empty"));
	import_text(s, "a", "debian:12", &a);
	import_text(s, "b", "example.com/os/debian:13", &b);
	assert_int_equal(img_resolve(s, "debian:12", d, NULL), 0);
	assert_string_equal(d, a.digest);
	assert_int_equal(img_resolve(s, a.digest, d, NULL), 0);
	assert_string_equal(d, a.digest);
	snprintf(hex, sizeof(hex), "%.12s", img_hex(b.digest));
	assert_int_equal(img_resolve(s, hex, d, NULL), 0);
	assert_string_equal(d, b.digest);
	snprintf(hex, sizeof(hex), "sha256:%.8s", img_hex(b.digest));
	assert_int_equal(img_resolve(s, hex, d, NULL), 0);
	assert_string_equal(d, b.digest);
	/* seven digits are too few, and no name is made up from another host's */
	snprintf(hex, sizeof(hex), "%.7s", img_hex(b.digest));
	assert_int_equal(img_resolve(s, hex, d, NULL), -VPS_ENOIMAGE);
	assert_int_equal(img_resolve(s, "debian:13", d, &err), -VPS_ENOIMAGE);
	vps_err_clear(&err);
	assert_int_equal(img_resolve(s, "debian:13", d, &err), -VPS_ENOIMAGE);
	assert_non_null(strstr(err.msg, "near: example.com/os/debian:13"));
	vps_err_clear(&err);
	assert_int_equal(img_resolve(s, "debain:12", d, &err), -VPS_ENOIMAGE);
	assert_non_null(strstr(err.msg, "debian:12"));
	vps_err_clear(&err);
	assert_int_equal(img_resolve(s, "sha256:" HEX, d, &err), -VPS_ENOIMAGE);
	assert_null(strstr(err.msg, "empty"));
	assert_int_equal(img_resolve(s, "../../etc/passwd", d, NULL), -VPS_EUSAGE);
	img_store_close(s);
}

static void test_remove(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	struct img_info *list;
	size_t n;
	auto_done(img_info_done) struct img_info a = { 0 };
	import_text(s, "a", "one:1", &a);
	assert_ok(img_tag(s, "one:1", "two:2", &err), &err);
	assert_ok(img_pin(s, "101", a.digest, &err), &err);
	assert_ok(img_remove(s, "one:1", false, &err), &err);
	assert_int_equal(img_remove(s, "two:2", false, &err), -VPS_ESTATE);
	assert_non_null(strstr(err.msg, "101"));
	assert_int_equal(img_remove(s, a.digest, false, NULL), -VPS_ESTATE);
	assert_ok(img_list(s, &list, &n, &err), &err);
	assert_int_equal(n, 1);
	assert_string_equal(list[0].refs[0], "two:2");
	assert_int_equal(list[0].n_pins, 1);
	img_list_free(list, n);
	assert_int_equal(img_remove(s, "two:2", true, NULL), 0);
	/* nameless, still listed and kept, as 101 stands on it */
	assert_ok(img_gc(s, false, NULL, NULL), &err);
	vps_err_clear(&err);
	assert_ok(img_list(s, &list, &n, &err), &err);
	assert_int_equal(n, 1);
	assert_null(list[0].refs);
	img_list_free(list, n);
	assert_int_equal(img_unpin(s, "101"), 0);
	assert_int_equal(img_unpin(s, "101"), 0);
	struct img_gc_result g;
	assert_ok(img_gc(s, false, &g, &err), &err);
	assert_int_equal(g.images, 1);
	assert_int_equal(g.layers, 1);
	assert_int_equal(img_pin(s, "101", a.digest, NULL), -VPS_ENOIMAGE);
	assert_int_equal(img_pin(s, "../x", a.digest, NULL), -EINVAL);
	assert_int_equal(img_pin(s, ".", a.digest, NULL), -EINVAL);
	img_store_close(s);
}

/* ---- documents ---------------------------------------------------------------- */

#define D   "\"digest\":\"sha256:" HEX "\""
#define CFG "\"config\":{\"mediaType\":\"" IMG_MT_CONFIG "\"," D ",\"size\":10}"
#define LAY "{\"mediaType\":\"" IMG_MT_LAYER_GZ "\"," D ",\"size\":10}"
#define MAN "{\"mediaType\":\"" IMG_MT_MANIFEST "\"," D ",\"size\":10}"

static const struct {
	const char *text, *type;
	bool ok;
} manifests[] = {
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY "]}", NULL, true },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY "]}", IMG_MT_MANIFEST, true },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY "]}", IMG_MT_MANIFEST "; charset=x", true },
	{ "{\"schemaVersion\":2,\"mediaType\":\"" IMG_MT_D_MANIFEST "\"," CFG ",\"layers\":[" LAY "]}",
	  IMG_MT_D_MANIFEST, true },
	/* two things at once */
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY "],\"manifests\":[]}", NULL },
	{ "{\"schemaVersion\":2,\"manifests\":[" MAN "],\"layers\":[" LAY "]}", NULL },
	{ "{\"schemaVersion\":2,\"manifests\":[" MAN "]," CFG "}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY "],\"layers\":[]}", NULL },
	/* not what it was called */
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY "]}", IMG_MT_INDEX },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY "]}", "text/html" },
	{ "{\"schemaVersion\":2,\"mediaType\":\"" IMG_MT_INDEX "\"," CFG ",\"layers\":[" LAY "]}", NULL },
	{ "{\"schemaVersion\":2,\"mediaType\":\"" IMG_MT_D_MANIFEST "\"," CFG ",\"layers\":[" LAY "]}",
	  IMG_MT_MANIFEST },
	{ "{\"schemaVersion\":2,\"mediaType\":7," CFG ",\"layers\":[" LAY "]}", NULL },
	/* versions */
	{ "{" CFG ",\"layers\":[" LAY "]}", NULL },
	{ "{\"schemaVersion\":1," CFG ",\"layers\":[" LAY "]}", NULL },
	{ "{\"schemaVersion\":\"2\"," CFG ",\"layers\":[" LAY "]}", NULL },
	{ "{\"schemaVersion\":1,\"fsLayers\":[]}", NULL },
	/* parts */
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[]}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":{}}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[7]}", NULL },
	{ "{\"schemaVersion\":2," CFG "}", NULL },
	{ "{\"schemaVersion\":2,\"layers\":[" LAY "]}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[{\"mediaType\":\"x/y\"," D ",\"size\":1}]}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer."
	  "nondistributable.v1.tar\"," D ",\"size\":1}]}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[{\"mediaType\":\"" IMG_MT_LAYER "\"," D ",\"size\":-1}]}",
	  NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[{\"mediaType\":\"" IMG_MT_LAYER "\"," D ",\"size\":1e9}]}",
	  NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[{\"mediaType\":\"" IMG_MT_LAYER "\"," D
	  ",\"size\":18446744073709551615}]}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[{\"mediaType\":\"" IMG_MT_LAYER "\"," D "}]}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[{\"mediaType\":\"" IMG_MT_LAYER "\",\"digest\":"
	  "\"sha256:../../../etc/passwd\",\"size\":1}]}", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[{\"mediaType\":\"" IMG_MT_LAYER "\",\"digest\":"
	  "\"md5:00\",\"size\":1}]}", NULL },
	{ "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.cncf.helm.config.v1+json\"," D
	  ",\"size\":1},\"layers\":[" LAY "]}", NULL },
	{ "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" IMG_MT_CONFIG "\"," D
	  ",\"size\":99999999},\"layers\":[" LAY "]}", NULL },
	{ "[]", NULL },
	{ "", NULL },
	{ "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY "]} x", NULL },
};

static void test_manifests(void **state)
{
	struct img_opts o = img_opts_fill(NULL);
	for (size_t i = 0; i < ARRAY_LEN(manifests); i++) {
		struct vps_err err = { 0 };
		auto_done(img_manifest_done) struct img_manifest m = { 0 };
		int r = img_manifest_parse(manifests[i].text, strlen(manifests[i].text),
					   manifests[i].type, &o.caps, &m, &err);
		if (manifests[i].ok != (r == 0) || (r < 0 && r != -VPS_EBADIMAGE))
			fail_msg("%s (%s): %d %s", manifests[i].text, manifests[i].type, r, err.msg);
	}
}

static void test_many_layers(void **state)
{
	struct img_opts o = img_opts_fill(NULL);
	for (unsigned n = 126; n <= 128; n++) {
		auto_strbuf sb = STRBUF_INIT;
		auto_done(img_manifest_done) struct img_manifest m = { 0 };
		sb_add(&sb, "{\"schemaVersion\":2," CFG ",\"layers\":[" LAY);
		for (unsigned i = 1; i < n; i++)
			sb_add(&sb, "," LAY);
		sb_add(&sb, "]}");
		assert_int_equal(img_manifest_parse(sb.s, sb.len, NULL, &o.caps, &m, NULL),
				 n > 127 ? -VPS_EBADIMAGE : 0);
	}
	/* little text, many values */
	auto_strbuf sb = STRBUF_INIT;
	enum img_media kind;
	sb_add(&sb, "{\"schemaVersion\":2,\"manifests\":[0");
	for (unsigned i = 0; i < 1000000; i++)
		sb_add(&sb, ",0");
	sb_add(&sb, "]}");
	assert_int_equal(img_doc_kind(sb.s, sb.len, NULL, &kind, NULL), -VPS_EBADIMAGE);
}

#define IDX(arch, os, rest) "{\"mediaType\":\"" IMG_MT_MANIFEST "\",\"digest\":\"sha256:" rest \
	"\",\"size\":1,\"platform\":{\"architecture\":\"" arch "\",\"os\":\"" os "\"}}"
#define H1 "1111111111111111111111111111111111111111111111111111111111111111"
#define H2 "2222222222222222222222222222222222222222222222222222222222222222"
#define H3 "3333333333333333333333333333333333333333333333333333333333333333"

static void test_index(void **state)
{
	static const char text[] = "{\"schemaVersion\":2,\"manifests\":["
				   IDX("arm64", "linux", H1) "," IDX("amd64", "windows", H3) ","
				   IDX("amd64", "linux", H2) "," IDX("unknown", "unknown", H3) "]}";
	struct img_desc d;
	struct vps_err err = { 0 };
	assert_int_equal(img_index_pick(text, strlen(text), NULL, "amd64", NULL, &d, &err), 0);
	assert_string_equal(d.digest, "sha256:" H2);
	assert_int_equal(img_index_pick(text, strlen(text), NULL, "arm64", NULL, &d, &err), 0);
	assert_string_equal(d.digest, "sha256:" H1);
	assert_int_equal(img_index_pick(text, strlen(text), NULL, "riscv64", NULL, &d, &err),
			 -VPS_EBADIMAGE);
	assert_non_null(strstr(err.msg, "arm64, amd64"));
	assert_int_equal(img_index_pick(text, strlen(text), IMG_MT_MANIFEST, "amd64", NULL, &d, NULL),
			 -VPS_EBADIMAGE);
}

static void test_config(void **state)
{
	static const struct {
		const char *text;
		bool ok;
	} cases[] = {
		{ "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":"
		  "[\"sha256:" HEX "\"]},\"config\":{\"Env\":[\"A=b\"],\"Cmd\":null,\"User\":\"\","
		  "\"Labels\":{\"k\":\"v\"},\"Volumes\":{\"/data\":{}}}}", true },
		{ "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}" },
		{ "{\"rootfs\":{\"type\":\"other\",\"diff_ids\":[\"sha256:" HEX "\"]}}" },
		{ "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:..\"]}}" },
		{ "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[7]}}" },
		{ "{\"os\":\"windows\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX "\"]}}" },
		{ "{\"config\":{\"Env\":\"A=b\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX
		  "\"]}}" },
		{ "{\"config\":{\"Env\":[1]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX "\"]}}" },
		{ "{\"config\":{\"User\":{}},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX "\"]}}" },
		{ "{\"layers\":[],\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX "\"]}}" },
		{ "7" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		auto_done(img_info_done) struct img_info info = { 0 };
		struct vps_err err = { 0 };
		int r = img_config_parse(cases[i].text, strlen(cases[i].text), 1, &info, &err);
		if (cases[i].ok != (r == 0))
			fail_msg("%s: %d %s", cases[i].text, r, err.msg);
		if (r < 0)
			continue;
		assert_string_equal(info.env[0], "A=b");
		assert_string_equal(info.labels[0], "k=v");
		assert_string_equal(info.volumes[0], "/data");
		assert_null(info.user);
		assert_string_equal(info.layers[0], "sha256:" HEX);
	}
}

/* The value from the specification's words: chain(L1 L2) = sha256("L1 L2"). */
static void test_chain(void **state)
{
	char a[DIGEST_LEN], want[DIGEST_LEN];
	static const char two[] = "sha256:" H1 " sha256:" H2;
	img_chain_next(NULL, "sha256:" H1, a);
	assert_string_equal(a, "sha256:" H1);
	img_chain_next(a, "sha256:" H2, a);
	digest_of(two, strlen(two), want);
	assert_string_equal(a, want);
}

/* ---- blobs ---------------------------------------------------------------------- */

static void test_ingest(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	char d[DIGEST_LEN], got[DIGEST_LEN];
	digest_of("hello", 5, d);
	auto_work struct img_work w = IMG_WORK_INIT;
	assert_ok(img_work_begin(s, &w, &err), &err);
	auto_done(img_ingest_freep) struct img_ingest *in = NULL;
	assert_ok(img_ingest_begin(&w, d, 5, 100, &in, &err), &err);
	assert_ok(img_ingest_write(in, "hel", 3, &err), &err);
	assert_int_equal(img_ingest_open(in, NULL), -EINVAL); /* not before it is verified */
	assert_int_equal(img_ingest_keep(in, NULL), -EINVAL);
	assert_int_equal(img_ingest_write(in, "loo", 3, NULL), -VPS_EDIGEST);
	assert_ok(img_ingest_restart(in, &err), &err);
	assert_ok(img_ingest_write(in, "hello", 5, &err), &err);
	assert_ok(img_ingest_end(in, got, &err), &err);
	assert_string_equal(got, d);
	autoclose int fd = img_ingest_open(in, &err);
	assert_true(fd >= 0);
	assert_ok(img_ingest_keep(in, &err), &err);
	assert_int_equal(img_blob_has(&w, d, &err), 1);
	in = img_ingest_free(in);
	assert_ok(img_ingest_begin(&w, d, 5, 100, &in, &err), &err);
	assert_ok(img_ingest_write(in, "hellO", 5, &err), &err);
	assert_int_equal(img_ingest_end(in, NULL, NULL), -VPS_EDIGEST);
	assert_int_equal(img_ingest_open(in, NULL), -EINVAL);
	in = img_ingest_free(in);
	assert_ok(img_ingest_begin(&w, NULL, UINT64_MAX, 4, &in, &err), &err);
	assert_int_equal(img_ingest_write(in, "hello", 5, NULL), -VPS_EBADIMAGE);
	in = img_ingest_free(in);
	assert_int_equal(img_ingest_begin(&w, d, 5, 4, &in, NULL), -VPS_EBADIMAGE);
	assert_int_equal(img_ingest_begin(&w, "sha256:../x", 5, 9, &in, NULL), -VPS_EBADIMAGE);

	/* damage on disk is found at reading */
	autofree char *path = str_fmt("root/images/blobs/sha256/%s", img_hex(d));
	autofree char *text = NULL;
	put_file(t->fd, path, "hullo");
	assert_int_equal(img_blob_read(s, d, &text, NULL, NULL), -VPS_EDIGEST);
	img_work_end(&w);
	assert_int_equal(img_blob_open(s, d), -ENOENT); /* nobody registered it */
	img_store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grammar),	  cmocka_unit_test(test_host),
		cmocka_unit_test(test_manifests), cmocka_unit_test(test_many_layers),
		cmocka_unit_test(test_index),	  cmocka_unit_test(test_config),
		cmocka_unit_test(test_chain),	  dir_test(test_resolve),
		dir_test(test_remove),		  dir_test(test_ingest),
	};
	if (geteuid() != 0) {
		printf("skipped: unpacking needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
