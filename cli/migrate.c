/* SPDX-License-Identifier: GPL-2.0-or-later */
/* migrate: VPSes to another host. */
#include "cli/verbs.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"

static bool ask(void *arg, const char *question)
{
	char line[16];

	(void)arg;
	if (!isatty(0) || !isatty(2))
		return false;
	cli_progress_end();
	cli_print_escaped(stderr, question);
	fprintf(stderr, " [y/N] ");
	return fgets(line, sizeof(line), stdin) && (*line == 'y' || *line == 'Y');
}

static bool interrupted(void *arg)
{
	(void)arg;
	return cli_interrupted;
}

static int parse_opts(struct cli *c, struct vps_migrate_opts *o, struct vps_err *err)
{
	const char *compress = cli_value(c, "compress"), *limit = cli_value(c, "limit"), *stop = cli_value(c, "stop-timeout");
	const char *downtime = cli_value(c, "downtime");
	uint64_t ms;
	int r;

	*o = (struct vps_migrate_opts){
		.rsh = cli_value(c, "rsh"),
		.receive = cli_value(c, "receive"),
		.require_live = cli_flag(c, "require-live"),
		.dry_run = cli_flag(c, "dry-run"),
		.keep = cli_flag(c, "keep") || cli_flag(c, "keep-src"),
		.stop_timeout_ms = -1,
		.ask = ask,
		.stop = interrupted,
		.progress = cli_progress(c),
	};
	if (cli_flag(c, "restart"))
		o->mode = VPS_MIGRATE_RESTART;
	else if (cli_flag(c, "live") || cli_flag(c, "online") || o->require_live)
		o->mode = VPS_MIGRATE_LIVE;
	if (cli_flag(c, "restart") && (cli_flag(c, "live") || cli_flag(c, "online") || o->require_live))
		return vps_err_set(err, VPS_EUSAGE, "--restart and --live contradict each other");
	if (str_eq(compress, "zstd"))
		o->compress = 3;
	else if (compress && !str_eq(compress, "none"))
		return vps_err_set(err, VPS_EUSAGE, "--compress '%s': it is zstd or none", compress);
	if (limit && (parse_size(limit, &o->limit) < 0 || o->limit < 1024))
		return vps_err_set(err, VPS_EUSAGE, "--limit '%s': bytes a second, as in 100M", limit);
	if (downtime) {
		r = parse_duration_ms(downtime, &ms);
		if (str_eq(downtime, "any"))
			o->downtime_ms = -1;
		else if (r < 0 || ms == 0 || ms > INT32_MAX)
			return vps_err_set(err, VPS_EUSAGE, "--downtime '%s': a time, as in 100ms, or any", downtime);
		else
			o->downtime_ms = (int)ms;
	}
	if (stop) {
		r = parse_duration_ms(stop, &ms);
		if (r < 0 || ms > INT32_MAX)
			return vps_err_set(err, VPS_EUSAGE, "--stop-timeout '%s': a time, as in 30s", stop);
		o->stop_timeout_ms = (int)ms;
	}
	return cli_timeout(c, 0, &o->timeout_ms, err);
}

/* "[user@]HOST[:NEWNAME]"; a colon inside brackets is an address's. */
static int split_target(const char *text, char **host, char **name, struct vps_err *err)
{
	const char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');
	bool has = colon && (!bracket || colon > bracket) && (bracket || strchr(text, ':') == colon);

	*host = has ? strndup(text, (size_t)(colon - text)) : strdup(text);
	*name = has ? strdup(colon + 1) : NULL;
	if (!*host || (has && !*name))
		return vps_err_sys(err, -ENOMEM, "host");
	if (!**host || **host == '-')
		return vps_err_set(err, VPS_EUSAGE, "'%s' is no host", text);
	return 0;
}

static void json_result(struct json_out *o, const char *name, int r, const struct vps_err *err,
			const struct vps_migrate_result *res, bool dry_run)
{
	jo_object(o, NULL);
	jo_str(o, "name", name);
	jo_bool(o, "ok", r >= 0);
	if (r < 0)
		jo_str(o, "error", err->msg);
	jo_bool(o, "dry_run", dry_run);
	jo_str(o, "mode", res->mode ? vps_migrate_mode_name(res->mode) : NULL);
	jo_str(o, "host", res->host);
	jo_strv(o, "problems", res->problems);
	jo_strv(o, "notes", res->notes);
	jo_bool(o, "image_sent", res->image && !dry_run);
	jo_bool(o, "image_missing", res->image);
	jo_u64(o, "disk_used", res->disk_used);
	if (res->estimate_ms != UINT64_MAX)
		jo_u64(o, "estimate_ms", res->estimate_ms);
	if (!dry_run) {
		jo_u64(o, "sent", res->sent);
		jo_u64(o, "image_bytes", res->image_bytes);
		jo_u64(o, "rounds", res->rounds);
		jo_array(o, "memory_rounds");
		for (unsigned i = 0; i < res->memory_rounds; i++)
			jo_u64(o, NULL, res->memory_round[i]);
		jo_end_array(o);
		jo_u64(o, "memory_sent", res->memory_sent);
		jo_u64(o, "predicted_pause_us", res->predicted_us);
		jo_u64(o, "pause_us", res->pause_us);
		jo_u64(o, "pause_there_us", res->pause_there_us);
		jo_u64(o, "total_us", res->total_us);
		jo_bool(o, "started", res->started);
		jo_bool(o, "kept", res->kept);
	}
	jo_end_object(o);
}

static void print_dry_run(const char *name, int r, const struct vps_migrate_result *res)
{
	char used[16], time[16];

	printf("%s: %s", name, r < 0 ? "cannot move" : "can move");
	if (res->host)
		printf(" to %s", res->host);
	if (r >= 0)
		printf(" (%s)", vps_migrate_mode_name(res->mode));
	putchar('\n');
	for (char **p = res->problems; p && *p; p++) {
		printf("  problem: ");
		cli_print_escaped(stdout, *p);
		putchar('\n');
	}
	for (char **p = res->notes; p && *p; p++) {
		printf("  note: ");
		cli_print_escaped(stdout, *p);
		putchar('\n');
	}
	printf("  disk: %s%s\n", fmt_size(res->disk_used, used, sizeof(used)),
	       res->image ? "; its image is not there and would be sent" : "");
	if (res->estimate_ms != UINT64_MAX)
		printf("  estimate: %s at 100 MB/s, unless --limit says less\n",
		       fmt_duration(res->estimate_ms / 1000 + 1, time, sizeof(time)));
}

static void print_done(struct cli *c, const char *name, const struct vps_migrate_result *res)
{
	char sent[16];

	if (c->quiet)
		return;
	printf("%s: moved to %s: %s sent in %.1f s", name, res->host ? res->host : "the other host",
	       fmt_size(res->sent, sent, sizeof(sent)), (double)res->total_us / 1e6);
	if (res->memory_rounds)
		printf(", memory in %u rounds and a rest", res->memory_rounds);
	if (res->pause_us)
		printf(", paused %.0f ms", (double)res->pause_us / 1e3);
	if (res->pause_us && res->pause_there_us)
		printf(" (%.0f ms of it there)", (double)res->pause_there_us / 1e3);
	printf("%s%s\n", res->started ? ", running there" : ", stopped there", res->kept ? "; a stopped copy is kept here" : "");
	for (char **p = res->notes; p && *p; p++) {
		fprintf(stderr, "vps: note: ");
		cli_print_escaped(stderr, *p);
		fputc('\n', stderr);
	}
}

struct job {
	const struct vps_migrate_opts *o;
	struct json_out *out;
	bool only_continue, clone;
	/* of several at once */
	char *const *names;
	int *texts; /* memfds, with --json */
};

/* A clone here, which moves under the name that the original has; what did not move goes again. */
static int migrate_clone(struct cli *c, const char *name, const struct vps_migrate_opts *o, struct vps_migrate_result *res,
			 struct vps_err *err)
{
	auto_done(vps_info_done) struct vps_info i = {0};
	struct vps_migrate_opts opts = *o;
	struct vps_clone_opts co = {0};
	autofree char *tmp = NULL;
	int r = vps_get(c->host, name, &i, err);

	if (r < 0)
		return r;
	tmp = str_fmt("%.40s-clone-%d", i.spec.name, (int)getpid());
	if (!tmp)
		return vps_err_sys(err, -ENOMEM, "clone");
	r = vps_clone(c->host, name, tmp, &co, o->progress, NULL, err);
	if (r < 0)
		return r;
	if (!opts.new_name)
		opts.new_name = i.spec.name;
	r = vps_migrate(c->host, tmp, &opts, res, err);
	/* not by force: a hand-over that is not confirmed stays */
	if (r < 0)
		(void)vps_delete(c->host, tmp, false, NULL);
	return r;
}

static int migrate_one(struct cli *c, const char *name, const struct job *j)
{
	struct vps_migrate_result res = {0};
	struct vps_err err = {0};
	int r = j->clone ? migrate_clone(c, name, j->o, &res, &err)
		: j->only_continue ? vps_migrate_continue(c->host, name, j->o, &res, &err)
				   : vps_migrate(c->host, name, j->o, &res, &err);

	cli_progress_end();
	if (j->out)
		json_result(j->out, name, r, &err, &res, j->o->dry_run);
	else if (j->o->dry_run && (r >= 0 || res.problems))
		print_dry_run(name, r, &res);
	else if (r >= 0)
		print_done(c, name, &res);
	if (r < 0 && !j->out && !(j->o->dry_run && res.problems))
		r = cli_fail(c, r, &err);
	else
		r = r < 0 ? cli_exit_code(r) : EXIT_OK;
	vps_migrate_result_done(&res);
	return r;
}

/* One after the other: they share one disk and one wire. The first failure's exit code; those after it are tried all the
 * same. */
static int migrate_in_turn(struct cli *c, const struct job *j)
{
	int code = EXIT_OK;

	for (char *const *p = j->names; p && *p && !cli_interrupted; p++) {
		int one = migrate_one(c, *p, j);
		if (code == EXIT_OK)
			code = one;
	}
	return cli_interrupted && code == EXIT_OK ? EXIT_INTERRUPTED : code;
}

/* In a process of its own. What it says is one line, or a text that is put together later. */
static int migrate_aside(struct cli *c, size_t i, void *arg)
{
	struct vps_migrate_opts o;
	struct job j = *(struct job *)arg;
	auto_strbuf sb = STRBUF_INIT;
	struct json_out out = JSON_OUT(&sb, true);
	int r;

	o = *j.o;
	o.ask = NULL;
	j.o = &o;
	cli_progress_off();
	if (j.out)
		j.out = &out;
	r = migrate_one(c, j.names[i], &j);
	if (j.out && (sb_ok(&sb) < 0 || fs_write_all(j.texts[i], sb.s, sb.len) < 0))
		return EXIT_RESOURCE;
	return r;
}

static int open_texts(struct job *j, size_t n, struct vps_err *err)
{
	j->texts = calloc(n + 1, sizeof(*j->texts));
	if (!j->texts)
		return vps_err_sys(err, -ENOMEM, "migrate");
	for (size_t i = 0; i < n; i++)
		j->texts[i] = -1;
	for (size_t i = 0; j->out && i < n; i++) {
		j->texts[i] = memfd_create("migrate", MFD_CLOEXEC);
		if (j->texts[i] < 0)
			return vps_err_sys(err, -errno, "migrate");
	}
	return 0;
}

/* The objects, in the order of the names; of who was killed there is none. */
static void join_texts(const struct job *j, size_t n, struct strbuf *sb)
{
	const char *before = "[\n";

	for (size_t i = 0; i < n; i++) {
		autofree char *text = NULL;
		if (lseek(j->texts[i], 0, SEEK_SET) < 0 || fs_read_fd(j->texts[i], 64u << 20, &text, NULL) < 0 || !*text)
			continue;
		sb_addf(sb, "%s%s", before, text);
		before = ",\n";
	}
	sb_add(sb, *before == '[' ? "[]" : "\n]");
}

static int migrate_at_once(struct cli *c, struct job *j, unsigned most, struct strbuf *sb)
{
	size_t n = strv_len(j->names);
	struct vps_err err = {0};
	int r = open_texts(j, n, &err);

	r = r < 0 ? cli_fail(c, r, &err) : cli_spread(c, n, most, migrate_aside, j);
	if (j->out)
		join_texts(j, n, sb);
	for (size_t i = 0; j->texts && i < n; i++)
		close_fd(&j->texts[i]);
	free(j->texts);
	return r;
}

static int migrate_names(struct cli *c, struct job *j, struct strbuf *sb)
{
	const char *text = cli_value(c, "parallel");
	uint64_t most = 1;
	int r;

	if (text && (parse_u64(text, 256, &most) < 0 || most == 0))
		return cli_usage(c, "--parallel '%s': how many at once, 1 to 256", text);
	if (most > 1 && strv_len(j->names) > 1) {
		r = migrate_at_once(c, j, (unsigned)most, sb);
	} else {
		if (j->out)
			jo_array(j->out, NULL);
		r = migrate_in_turn(c, j);
		if (j->out)
			jo_end_array(j->out);
	}
	if (j->out)
		cli_print_json(sb);
	return r;
}

static int force_here(struct cli *c)
{
	struct vps_err err = {0};
	autofree char *question = NULL;
	int r;

	if (c->n_args != 1)
		return cli_usage(c, "--force-here takes one VPS, and no host");
	question = str_fmt("'%s' may be running on the other host. Should it be, both will run, with the same addresses, and "
			   "what either writes is lost to the other. Is that host lost for good?", c->args[0]);
	if (!cli_flag(c, "yes") && (!question || !ask(NULL, question)))
		return cli_usage(c, "--force-here wants to be sure: answer on a terminal, or give --yes");
	r = cli_host(c, &err);
	r = r < 0 ? r : vps_migrate_force_here(c->host, c->args[0], &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	if (!c->quiet)
		fprintf(stderr, "vps: '%s' is this host's now, whatever the other one has\n", c->args[0]);
	return EXIT_OK;
}

int verb_migrate(struct cli *c)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out out = JSON_OUT(&sb, true);
	struct vps_migrate_opts o;
	struct vps_err err = {0};
	autofree char *host = NULL;
	autofree char *name = NULL;
	auto_strv names = NULL;
	bool cont = cli_flag(c, "continue"), all = cli_flag(c, "all");
	struct job j = {.o = &o, .out = c->json ? &out : NULL, .only_continue = cont, .clone = cli_flag(c, "clone")};
	int r = parse_opts(c, &o, &err), n = c->n_args;

	if (r < 0)
		return cli_fail(c, r, &err);
	if (j.clone && (cont || o.dry_run || o.keep))
		return cli_usage(c, "--clone goes with neither --continue, --dry-run nor --keep");
	if (cli_flag(c, "force-here"))
		return force_here(c);
	if (!cont) { /* the last one is where to */
		if (n < 1 || (n < 2 && !all))
			return cli_usage(c, "which VPS, and to which host?");
		if (n > 1 && all)
			return cli_usage(c, "--all and names contradict each other");
		r = split_target(c->args[--n], &host, &name, &err);
		if (r >= 0 && name && (n != 1 || all))
			return cli_usage(c, "one name for several VPSes");
		o.host = host;
		o.new_name = name;
	}
	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0 && all) {
		c->args[0] = NULL;
		c->n_args = 0;
		r = cli_names(c, ~(1u << VPS_BROKEN | 1u << VPS_ARRIVING), &names, &err);
	}
	for (int i = 0; r >= 0 && !all && i < n; i++)
		r = strv_add(&names, c->args[i]);
	if (r < 0)
		return cli_fail(c, r, &err);
	if (!names)
		return cli_usage(c, "which VPS?");
	j.names = names;
	return migrate_names(c, &j, &sb);
}
