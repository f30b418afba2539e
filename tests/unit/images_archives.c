/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Archives as other tools make them, written here by hand, and twisted ones. */
#include "images_tar.h"

struct img {
	struct tar layer[2];
	char diff[2][DIGEST_LEN];
	char *config;
	char config_digest[DIGEST_LEN];
};

static void img_make(struct img *i, const char *arch)
{
	memset(i, 0, sizeof(*i));
	tar_dir(&i->layer[0], "etc/");
	tar_file(&i->layer[0], "etc/issue", "one");
	tar_end(&i->layer[0]);
	tar_file(&i->layer[1], "etc/issue", "two");
	tar_end(&i->layer[1]);
	for (int k = 0; k < 2; k++)
		digest_of(i->layer[k].b.s, i->layer[k].b.len, i->diff[k]);
	i->config = str_fmt("{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"sh\"]},"
			    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\",\"%s\"]}}", arch,
			    i->diff[0], i->diff[1]);
	digest_of(i->config, strlen(i->config), i->config_digest);
}

static void img_free(struct img *i)
{
	tar_done(&i->layer[0]);
	tar_done(&i->layer[1]);
	free(i->config);
}

static int import_tar(struct test_dir *t, struct img_store *s, const struct tar *tar,
		      const char *ref, struct img_info *i, struct vps_err *err)
{
	autofree char *path = str_fmt("%s/in.tar", t->path);
	autoclose int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(fs_write_all(out, tar->b.s, tar->b.len), 0);
	return img_import(s, path, IMG_AUTO, ref, NULL, i, err);
}

static void check_issue(struct img_store *s, const struct img_info *i)
{
	assert_int_equal(i->n_layers, 2);
	autoclose int top = img_layer_open(s, i->layers[1], NULL);
	assert_file(top, "etc/issue", "two");
	assert_string_equal(i->cmd[0], "sh");
}

static void put_bytes(struct tar *t, const char *name, const void *p, size_t n)
{
	tar_head(t, name, '0', n, NULL);
	tar_body(t, p, n);
}

/* ---- docker ------------------------------------------------------------------- */

/* `docker save` before 25: a folder a layer, the second time a link to the first. */
static void docker_old(struct tar *t, const struct img *i, const char *tags, const char *second)
{
	autofree char *conf = str_fmt("%s.json", img_hex(i->config_digest));
	autofree char *man = str_fmt("[{\"Config\":\"%s\",\"RepoTags\":%s,\"Layers\":"
				     "[\"aaa/layer.tar\",\"bbb/layer.tar\"]}]", conf, tags);
	put_bytes(t, conf, i->config, strlen(i->config));
	tar_dir(t, "ccc/");
	put_bytes(t, "ccc/layer.tar", i->layer[0].b.s, i->layer[0].b.len);
	tar_dir(t, "aaa/");
	tar_file(t, "aaa/VERSION", "1.0");
	tar_sym(t, "aaa/layer.tar", "../ccc/layer.tar");
	tar_dir(t, "bbb/");
	if (second)
		tar_sym(t, "bbb/layer.tar", second);
	else
		put_bytes(t, "bbb/layer.tar", i->layer[1].b.s, i->layer[1].b.len);
	put_bytes(t, "manifest.json", man, strlen(man));
	tar_file(t, "repositories", "{}");
	tar_end(t);
}

static void test_docker(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	auto_done(img_info_done) struct img_info info = { 0 };
	auto_tar tar = { 0 };
	struct img i;
	img_make(&i, img_arch());
	docker_old(&tar, &i, "[\"app:1\",\"app:latest\"]", NULL);
	assert_ok(import_tar(t, s, &tar, NULL, &info, &err), &err);
	assert_string_equal(info.refs[0], "app:1");
	assert_string_equal(info.refs[1], "app:latest");
	check_issue(s, &info);
	img_free(&i);
	img_store_close(s);
}

static void test_docker_twisted(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct img i;
	img_make(&i, img_arch());
	/* a layer that is a link out of the archive, to the host's own files */
	static const char *const links[] = { "/etc/passwd", "../../../../../../../../../etc/passwd",
					     "../ccc/layer.tar", "/dev/zero", "layer.tar" };
	assert_int_equal(img_gc(s, false, NULL, NULL), 0);
	autofree char *before = tree_text(t->fd, "root", false);
	for (size_t k = 0; k < ARRAY_LEN(links); k++) {
		auto_tar tar = { 0 };
		docker_old(&tar, &i, "[\"app:1\"]", links[k]);
		assert_true(import_tar(t, s, &tar, NULL, NULL, NULL) < 0);
		autofree char *after = tree_text(t->fd, "root", false);
		assert_string_equal(before, after);
	}
	/* no names, bad names, another machine's */
	static const char *const tags[] = { "[]", "null", "[7]", "[\"../x\"]", "[\"A:b\"]" };
	for (size_t k = 0; k < ARRAY_LEN(tags); k++) {
		auto_tar tar = { 0 };
		docker_old(&tar, &i, tags[k], NULL);
		assert_true(import_tar(t, s, &tar, NULL, NULL, NULL) < 0);
		autofree char *after = tree_text(t->fd, "root", false);
		assert_string_equal(before, after);
	}
	img_free(&i);
	img_make(&i, "s390x");
	auto_tar tar = { 0 };
	struct vps_err err = { 0 };
	docker_old(&tar, &i, "[\"app:1\"]", NULL);
	assert_int_equal(import_tar(t, s, &tar, NULL, NULL, &err), -VPS_EBADIMAGE);
	assert_non_null(strstr(err.msg, "s390x"));
	img_free(&i);
	img_store_close(s);
}

/* ---- OCI ------------------------------------------------------------------------ */

static void oci_blob(struct tar *t, const void *p, size_t n, char *digest)
{
	char path[DIGEST_LEN + 16];
	digest_of(p, n, digest);
	snprintf(path, sizeof(path), "blobs/sha256/%s", img_hex(digest));
	put_bytes(t, path, p, n);
}

/* The image with a gzip and a zstd layer; its manifest's digest and size. */
static size_t oci_image(struct tar *t, const struct img *i, char *digest)
{
	static const char *const filter[] = { "gzip", "zstd" };
	static const char *const type[] = { IMG_MT_LAYER_GZ, IMG_MT_LAYER_ZST };
	auto_strbuf sb = STRBUF_INIT;
	char d[DIGEST_LEN];
	oci_blob(t, i->config, strlen(i->config), d);
	sb_addf(&sb, "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" IMG_MT_CONFIG
		"\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[", d, strlen(i->config));
	for (int k = 0; k < 2; k++) {
		struct stat st;
		autoclose int fd = packed_fd(i->layer[k].b.s, i->layer[k].b.len, filter[k], NULL);
		assert_int_equal(fstat(fd, &st), 0);
		autofree char *p = malloc((size_t)st.st_size);
		assert_int_equal(read(fd, p, (size_t)st.st_size), st.st_size);
		oci_blob(t, p, (size_t)st.st_size, d);
		sb_addf(&sb, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%ld}", k ? "," : "",
			type[k], d, (long)st.st_size);
	}
	sb_add(&sb, "]}");
	oci_blob(t, sb.s, sb.len, digest);
	return sb.len;
}

static void oci_top(struct tar *t, const char *index)
{
	tar_file(t, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
	put_bytes(t, "index.json", index, strlen(index));
	tar_end(t);
}

#define INDEX(mt, fmt) "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" mt \
	"\",\"digest\":\"%s\",\"size\":%zu" fmt "}]}"

static void test_oci(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	char d[DIGEST_LEN], nested[DIGEST_LEN];
	struct img i;
	img_make(&i, img_arch());
	{ /* as buildx makes it: an index in the index */
		auto_tar tar = { 0 };
		auto_done(img_info_done) struct img_info info = { 0 };
		tar_dir(&tar, "blobs/");
		size_t n = oci_image(&tar, &i, d);
		autofree char *in = str_fmt(INDEX(IMG_MT_MANIFEST, ",\"platform\":{\"os\":\"linux\","
						  "\"architecture\":\"%s\"}"), d, n, img_arch());
		oci_blob(&tar, in, strlen(in), nested);
		autofree char *top = str_fmt(INDEX(IMG_MT_INDEX, ",\"annotations\":{\"io.containerd.image."
						   "name\":\"docker.io/library/app:1\"}"),
					     nested, strlen(in));
		oci_top(&tar, top);
		assert_ok(import_tar(t, s, &tar, NULL, &info, &err), &err);
		assert_string_equal(info.refs[0], "docker.io/library/app:1");
		assert_string_equal(info.digest, d);
		check_issue(s, &info);
		struct img_gc_result g;
		assert_ok(img_gc(s, false, &g, &err), &err);
		assert_int_equal(g.blobs, 0); /* the index itself was not kept */
	}
	{ /* only a tag: asks for a name; with one it is fine */
		auto_tar tar = { 0 };
		auto_done(img_info_done) struct img_info info = { 0 };
		size_t n = oci_image(&tar, &i, d);
		autofree char *top = str_fmt(INDEX(IMG_MT_MANIFEST, ",\"annotations\":{\"org."
						   "opencontainers.image.ref.name\":\"latest\"}"), d, n);
		oci_top(&tar, top);
		assert_int_equal(import_tar(t, s, &tar, NULL, NULL, NULL), -VPS_EUSAGE);
		assert_ok(import_tar(t, s, &tar, "mine:7", &info, &err), &err);
		check_issue(s, &info);
	}
	{ /* two of them, told apart by their tags; no third is made up */
		struct img other;
		auto_tar tar = { 0 };
		auto_done(img_info_done) struct img_info a = { 0 }, b = { 0 };
		char d2[DIGEST_LEN];
		size_t n = oci_image(&tar, &i, d);
		img_make(&other, img_arch());
		other.config[strlen(other.config) - 1] = ' ';
		autofree char *conf = str_fmt("%s,\"author\":\"other\"}", other.config);
		free(other.config);
		other.config = take_ptr(conf);
		size_t n2 = oci_image(&tar, &other, d2);
		autofree char *top = str_fmt(
			"{\"schemaVersion\":2,\"manifests\":["
			"{\"mediaType\":\"" IMG_MT_MANIFEST "\",\"digest\":\"%s\",\"size\":%zu,\"annotations\":"
			"{\"io.containerd.image.name\":\"app:1\",\"org.opencontainers.image.ref.name\":\"1\"}},"
			"{\"mediaType\":\"" IMG_MT_MANIFEST "\",\"digest\":\"%s\",\"size\":%zu,\"annotations\":"
			"{\"io.containerd.image.name\":\"app:1\",\"org.opencontainers.image.ref.name\":\"2\"}}]}",
			d, n, d2, n2);
		oci_top(&tar, top);
		assert_ok(import_tar(t, s, &tar, "app:1", &a, &err), &err);
		assert_string_equal(a.digest, d);
		assert_ok(import_tar(t, s, &tar, "else:2", &b, &err), &err);
		assert_string_equal(b.digest, d2);
		assert_int_equal(import_tar(t, s, &tar, "app:3", NULL, NULL), -VPS_EUSAGE);
		img_info_done(&b);
		assert_ok(import_tar(t, s, &tar, NULL, NULL, &err), &err);
		assert_ok(img_inspect(s, "app:2", &b, &err), &err);
		assert_string_equal(b.digest, d2);
		img_free(&other);
	}
	img_free(&i);
	img_store_close(s);
}

static void test_oci_twisted(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	char d[DIGEST_LEN];
	struct img i;
	img_make(&i, img_arch());
	assert_int_equal(img_gc(s, false, NULL, NULL), 0);
	autofree char *before = tree_text(t->fd, "root", false);
	static const char *const bad[] = {
		INDEX(IMG_MT_INDEX, ""),  /* called an index, is a manifest */
		INDEX(IMG_MT_CONFIG, ""), /* called a config */
		INDEX(IMG_MT_MANIFEST, "0"), /* ten times the size */
		INDEX(IMG_MT_D_MANIFEST, ",\"platform\":{\"os\":\"plan9\",\"architecture\":\"amd64\"}"),
		"{\"schemaVersion\":2,\"manifests\":[],\"x\":\"%s %zu\"}",
		"{\"schemaVersion\":2,\"layers\":[],\"config\":{},\"x\":\"%s %zu\"}",
		"[\"%s\",%zu]",
	};
	for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
		auto_tar tar = { 0 };
		struct vps_err err = { 0 };
		size_t n = oci_image(&tar, &i, d);
		char top[1024];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(top, sizeof(top), bad[k], d, n);
#pragma GCC diagnostic pop
		oci_top(&tar, top);
		int r = import_tar(t, s, &tar, "x:1", NULL, &err);
		if (r != -VPS_EBADIMAGE && r != -VPS_EDIGEST)
			fail_msg("%s: %d %s", top, r, err.msg);
		autofree char *after = tree_text(t->fd, "root", false);
		assert_string_equal(before, after);
	}
	img_free(&i);
	img_store_close(s);
}

/* A layout in a folder that somebody else can write to: links out of it, fifos. */
static void test_oci_dir(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	char d[DIGEST_LEN];
	struct img i;
	auto_done(img_info_done) struct img_info info = { 0 };
	auto_tar tar = { 0 };
	img_make(&i, img_arch());
	size_t n = oci_image(&tar, &i, d);
	autofree char *top = str_fmt(INDEX(IMG_MT_MANIFEST, ""), d, n);
	oci_top(&tar, top);
	autofree char *cmd = str_fmt("mkdir %s/lay && tar -C %s/lay -x", t->path, t->path);
	FILE *p = popen(cmd, "w");
	assert_int_equal(fwrite(tar.b.s, 1, tar.b.len, p), tar.b.len);
	assert_int_equal(pclose(p), 0);
	autofree char *path = str_fmt("%s/lay", t->path);
	assert_ok(img_import(s, path, IMG_AUTO, "dir:1", NULL, &info, &err), &err);
	check_issue(s, &info);
	assert_ok(img_remove(s, "dir:1", false, &err), &err);
	assert_ok(img_gc(s, false, NULL, &err), &err);

	autofree char *before = tree_text(t->fd, "root", false);
	autofree char *blob = str_fmt("lay/blobs/sha256/%s", img_hex(d));
	assert_int_equal(renameat(t->fd, blob, t->fd, "outside"), 0);
	autofree char *target = str_fmt("%s/outside", t->path);
	assert_int_equal(symlinkat(target, t->fd, blob), 0);
	assert_true(img_import(s, path, IMG_AUTO, "dir:1", NULL, NULL, NULL) < 0);
	assert_int_equal(unlinkat(t->fd, blob, 0), 0);
	assert_int_equal(mkfifoat(t->fd, blob, 0600), 0);
	assert_int_equal(img_import(s, path, IMG_AUTO, "dir:1", NULL, NULL, NULL), -VPS_EBADIMAGE);
	autofree char *after = tree_text(t->fd, "root", false);
	assert_string_equal(before, after);
	img_free(&i);
	img_store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_docker), dir_test(test_docker_twisted), dir_test(test_oci),
		dir_test(test_oci_twisted), dir_test(test_oci_dir),
	};
	if (geteuid() != 0) {
		printf("skipped: unpacking needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
