/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/verbs.h"

#include <fnmatch.h>
#include <string.h>
#include <unistd.h>

static void json_image(struct json_out *o, const struct img_info *i)
{
	jo_object(o, NULL);
	jo_str(o, "digest", i->digest);
	jo_strv(o, "refs", i->refs);
	jo_str(o, "architecture", i->arch);
	jo_str(o, "os", i->os);
	jo_str(o, "created", i->created);
	jo_str(o, "author", i->author);
	jo_u64(o, "size", i->size);
	jo_u64(o, "entries", i->entries);
	jo_u64(o, "in_use_by", i->n_pins);
	jo_object(o, "config");
	jo_str(o, "digest", i->config);
	jo_strv(o, "env", i->env);
	jo_strv(o, "entrypoint", i->entrypoint);
	jo_strv(o, "cmd", i->cmd);
	jo_str(o, "user", i->user);
	jo_str(o, "workdir", i->workdir);
	jo_str(o, "stop_signal", i->stop_signal);
	jo_strv(o, "labels", i->labels);
	jo_strv(o, "volumes", i->volumes);
	jo_strv(o, "ports", i->ports);
	jo_end_object(o);
	jo_array(o, "layers");
	for (size_t k = 0; k < i->n_layers; k++) {
		jo_object(o, NULL);
		jo_str(o, "chain_id", i->layers[k]);
		jo_str(o, "diff_id", i->diff_ids[k]);
		jo_end_object(o);
	}
	jo_end_array(o);
	jo_strv(o, "refused", i->refused);
	jo_end_object(o);
}

static int parse_format(const char *s, enum img_format *ret, struct vps_err *err)
{
	static const struct {
		const char *name;
		enum img_format f;
	} names[] = {{"rootfs", IMG_ROOTFS},	     {"docker-archive", IMG_DOCKER_ARCHIVE},
		     {"docker", IMG_DOCKER_ARCHIVE}, {"oci", IMG_OCI_TAR},
		     {"oci-archive", IMG_OCI_TAR},   {"oci-dir", IMG_OCI_DIR}};
	*ret = IMG_AUTO;
	if (!s)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(names[i].name, s)) {
			*ret = names[i].f;
			return 0;
		}
	return vps_err_set(err, VPS_EUSAGE,
			   "--format '%s': it is one of rootfs, docker-archive, oci", s);
}

static int opts_of(struct cli *c, struct img_opts *o, struct vps_err *err)
{
	*o = (struct img_opts){
		.progress = cli_progress(c),
		.arch = cli_value(c, "arch"),
		.keep_blobs = cli_flag(c, "keep-blobs"),
	};
	const char *max = cli_value(c, "max-size");
	if (max && parse_size(max, &o->caps.bytes) < 0)
		return vps_err_set(err, VPS_EUSAGE, "--max-size '%s': say it as 10G", max);
	return 0;
}

/* Of its names the one that was asked for: it may have had others before. */
static const char *name_taken(const struct img_info *i, const char *ref)
{
	for (char **r = i->refs; ref && r && *r; r++)
		if (str_starts(*r, ref) &&
		    (!(*r)[strlen(ref)] || str_eq(*r + strlen(ref), ":latest")))
			return *r;
	return i->refs && i->refs[0] ? i->refs[0] : "(no name)";
}

/* What import, pull and bootstrap print: the name, or JSON. */
static int print_result(struct cli *c, const struct img_info *i, const char *ref)
{
	cli_progress_end();
	if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, true);
		json_image(&o, i);
		return cli_print_json(&sb);
	}
	char size[16];
	if (c->quiet)
		printf("%s\n", i->digest);
	else
		printf("%s  %s  %s, %zu layer%s\n", name_taken(i, ref), i->digest,
		       fmt_size(i->size, size, sizeof(size)), i->n_layers,
		       i->n_layers == 1 ? "" : "s");
	for (char **r = i->refused; r && *r && !c->quiet; r++) {
		if (strncmp(*r, "dev/", 4) == 0)
			continue; /* every VPS has a /dev of its own */
		autofree char *e = str_escape(*r);
		fprintf(stderr, "vps: note: not made from the image: %s\n", e ? e : "");
	}
	return EXIT_OK;
}

int verb_image_import(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	struct img_opts o;
	enum img_format fmt;
	auto_done(img_info_done) struct img_info i = {0};
	int r = opts_of(c, &o, &err);
	if (r >= 0)
		r = parse_format(cli_value(c, "format"), &fmt, &err);
	if (r >= 0)
		r = cli_images(c, &s, &err);
	if (r >= 0)
		r = img_import(s, c->args[0], fmt, c->args[1], &o, &i, &err);
	return r < 0 ? cli_fail(c, r, &err) : print_result(c, &i, c->args[1]);
}

/* "user:password" in place; the environment keeps a password out of `ps`. */
static void credentials(struct cli *c, char *buf, size_t size, struct img_pull_opts *p)
{
	const char *u = cli_value(c, "user");
	if (!u)
		return;
	snprintf(buf, size, "%s", u);
	p->user = buf;
	char *colon = strchr(buf, ':');
	if (colon) {
		*colon = '\0';
		p->password = colon + 1;
	} else {
		p->password = getenv("VPS_REGISTRY_PASSWORD");
	}
}

static unsigned count_flag(const struct cli *c, const char *name)
{
	unsigned n = 0;
	for (size_t i = 0; i < c->n_given; i++)
		n += str_eq(c->given[i].name, name);
	return n;
}

/* A reference without a host gets vps.conf's default-registry. */
static char *full_ref(struct cli *c)
{
	const char *ref = c->args[0], *dflt = vps_host_conf(c->host)->default_registry;
	size_t first = strcspn(ref, "/");
	bool has_host = ref[first] == '/' && (memchr(ref, '.', first) || memchr(ref, ':', first) ||
					      (first == 9 && memcmp(ref, "localhost", 9) == 0));
	return has_host || !dflt || !*dflt ? strdup(ref) : str_fmt("%s/%s", dflt, ref);
}

int verb_image_pull(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	struct img_opts o;
	char cred[512];
	uint64_t n = 0;
	auto_done(img_info_done) struct img_info i = {0};
	struct img_pull_opts p = {
		.auth_file = cli_value(c, "auth-file"),
		.ca_file = cli_value(c, "ca-file"),
		.plain_http = cli_flag(c, "plain-http"),
		.force_plain_http = count_flag(c, "plain-http") > 1,
	};
	credentials(c, cred, sizeof(cred), &p);
	const char *par = cli_value(c, "parallel");
	if (par && (parse_u64(par, 16, &n) < 0 || !n))
		return cli_usage(c, "--parallel '%s': from 1 to 16", par);
	p.parallel = (unsigned)n;
	int r = opts_of(c, &o, &err);
	if (r >= 0)
		r = cli_images(c, &s, &err);
	autofree char *ref = r >= 0 ? full_ref(c) : NULL;
	if (r >= 0)
		r = ref ? img_pull(s, ref, c->args[1], &p, &o, &i, &err) : -ENOMEM;
	return r < 0 ? cli_fail(c, r, &err) : print_result(c, &i, c->args[1] ? c->args[1] : ref);
}

int verb_image_bootstrap(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	struct img_opts o;
	auto_done(img_info_done) struct img_info i = {0};
	struct img_bootstrap_opts b = {
		.suite = c->args[0],
		.mirror = cli_value(c, "mirror"),
		.include = cli_value(c, "include"),
		.variant = cli_value(c, "variant"),
		.components = cli_value(c, "components"),
		.bare = cli_flag(c, "bare"),
	};
	autofree char *ref = c->args[1] ? strdup(c->args[1]) : str_fmt("debian:%s", c->args[0]);
	int r = opts_of(c, &o, &err);
	if (r >= 0)
		r = cli_images(c, &s, &err);
	if (r >= 0)
		r = ref ? img_bootstrap(s, &b, ref, &o, &i, &err) : -ENOMEM;
	return r < 0 ? cli_fail(c, r, &err) : print_result(c, &i, ref);
}

static bool wanted(const struct cli *c, const char *ref)
{
	return !c->n_args || fnmatch(c->args[0], ref, 0) == 0 ||
	       (str_starts(ref, c->args[0]) && ref[strlen(c->args[0])] == ':');
}

static bool matches(const struct cli *c, const struct img_info *i)
{
	for (char **r = i->refs; r && *r; r++)
		if (wanted(c, *r))
			return true;
	return !c->n_args;
}

static void list_row(struct table *t, const struct img_info *i, const char *ref)
{
	char buf[16], id[16];
	table_cell(t, 0, ref);
	snprintf(id, sizeof(id), "%.12s", i->digest + 7);
	table_cell(t, 1, id);
	table_cell(t, 2, i->arch);
	table_cell(t, 3, fmt_size(i->size, buf, sizeof(buf)));
	snprintf(id, sizeof(id), "%zu", i->n_layers);
	table_cell(t, 4, id);
	snprintf(id, sizeof(id), "%u", i->n_pins);
	table_cell(t, 5, id);
	char date[11];
	snprintf(date, sizeof(date), "%.10s", i->created ? i->created : "-");
	table_cell(t, 6, date);
	table_row(t);
}

static int print_list(struct cli *c, const struct img_info *list, size_t n)
{
	static const char *const titles[] = {"IMAGE",  "DIGEST", "ARCH",   "SIZE",
					     "LAYERS", "USED",	 "CREATED"};
	auto_done(table_freep) struct table *t = table_new(ARRAY_LEN(titles));
	if (!t)
		return -ENOMEM;
	for (size_t k = 0; k < ARRAY_LEN(titles); k++)
		table_head(t, k, titles[k], k >= 3 && k <= 5);
	for (size_t k = 0; k < n; k++) {
		if (!c->n_args && (!list[k].refs || !list[k].refs[0]))
			list_row(t, &list[k], NULL);
		for (char **ref = list[k].refs; ref && *ref; ref++)
			if (wanted(c, *ref))
				list_row(t, &list[k], *ref);
	}
	table_print(t, stdout, !cli_flag(c, "no-header"));
	return 0;
}

static int print_list_json(struct cli *c, const struct img_info *list, size_t n)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	jo_array(&o, NULL);
	for (size_t k = 0; k < n; k++)
		if (matches(c, &list[k]))
			json_image(&o, &list[k]);
	jo_end_array(&o);
	return cli_print_json(&sb) ? -ENOMEM : 0;
}

static int print_names(struct cli *c, const struct img_info *list, size_t n)
{
	for (size_t k = 0; k < n; k++)
		for (char **ref = list[k].refs; ref && *ref; ref++)
			if (wanted(c, *ref))
				printf("%s\n", *ref);
	return 0;
}

int verb_image_list(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	struct img_info *list = NULL;
	size_t n = 0;
	int r = cli_images(c, &s, &err);
	if (r >= 0)
		r = img_list(s, &list, &n, &err);
	if (r >= 0)
		r = c->json    ? print_list_json(c, list, n)
		    : c->quiet ? print_names(c, list, n)
			       : print_list(c, list, n);
	img_list_free(list, n);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

int verb_image_inspect(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	int r = cli_images(c, &s, &err);
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	jo_array(&o, NULL);
	for (int k = 0; r >= 0 && k < c->n_args; k++) {
		auto_done(img_info_done) struct img_info i = {0};
		r = img_inspect(s, c->args[k], &i, &err);
		if (r >= 0)
			json_image(&o, &i);
	}
	jo_end_array(&o);
	return r < 0 ? cli_fail(c, r, &err) : cli_print_json(&sb);
}

int verb_image_tag(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	int r = cli_images(c, &s, &err);
	if (r >= 0)
		r = img_tag(s, c->args[0], c->args[1], &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

int verb_image_remove(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	bool force = cli_flag(c, "force");
	int r = cli_images(c, &s, &err), code = EXIT_OK;
	if (r < 0)
		return cli_fail(c, r, &err);
	for (int k = 0; k < c->n_args; k++) {
		vps_err_clear(&err);
		r = img_remove(s, c->args[k], force, &err);
		if (r < 0 && !(force && r == -VPS_ENOIMAGE)) {
			int one = cli_fail(c, r, &err);
			code = code ? code : one;
		}
	}
	return code;
}

int verb_image_gc(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	struct img_gc_result g = {0};
	int r = cli_images(c, &s, &err);
	if (r >= 0)
		r = img_gc(s, cli_flag(c, "dry-run"), &g, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	if (c->json) {
		auto_strbuf sb = STRBUF_INIT;
		struct json_out o = JSON_OUT(&sb, true);
		jo_object(&o, NULL);
		jo_u64(&o, "images", g.images);
		jo_u64(&o, "layers", g.layers);
		jo_u64(&o, "blobs", g.blobs);
		jo_u64(&o, "temps", g.temps);
		jo_u64(&o, "bytes", g.bytes);
		jo_end_object(&o);
		return cli_print_json(&sb);
	}
	char size[16];
	if (!c->quiet)
		printf("%s %u images, %u layers, %u blobs, %u unfinished; %s\n",
		       cli_flag(c, "dry-run") ? "would remove" : "removed", g.images, g.layers,
		       g.blobs, g.temps, fmt_size(g.bytes, size, sizeof(size)));
	return EXIT_OK;
}

int verb_image_export(struct cli *c)
{
	struct vps_err err = {0};
	struct img_store *s = NULL;
	enum img_format fmt;
	struct img_opts o;
	if (str_eq(c->args[1], "-") && isatty(STDOUT_FILENO))
		return cli_usage(c, "a tar stream to a terminal? Redirect it");
	int r = parse_format(cli_value(c, "format"), &fmt, &err);
	if (r >= 0)
		r = opts_of(c, &o, &err);
	if (r >= 0)
		r = cli_images(c, &s, &err);
	if (r >= 0)
		r = img_export(s, c->args[0], c->args[1], fmt == IMG_AUTO ? IMG_OCI_TAR : fmt, &o,
			       &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

int verb_image_publish(struct cli *c)
{
	struct vps_err err = {0};
	auto_done(img_info_done) struct img_info i = {0};
	int r = cli_host(c, &err);
	if (r >= 0)
		r = vps_publish(c->host, c->args[0], cli_value(c, "snapshot"), c->args[1], cli_progress(c), &i, &err);
	cli_progress_end();
	return r < 0 ? cli_fail(c, r, &err) : print_result(c, &i, c->args[1]);
}
